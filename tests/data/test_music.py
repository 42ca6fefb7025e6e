"""Piano rolls from every format, the real chorales among them."""

import json
import os
import pathlib
import pickle
import re

import numpy as np
import pytest
import scipy.io

from afslvm import building
from afslvm.data import music, music_files, prepare
from afslvm.errors import DataError

SHARED = pathlib.Path(__file__).parents[2].parent / 'shared' / 'data'

# train, validation, test: songs of steps of MIDI numbers
SONGS = {
  'train': [[(60, 64, 67), (), (21,), (108, 60)], [(50,)]],
  'valid': [[(30, 31), (30,)]],
  'test': [[(), (62,), ()], [(70,)] * 40],
}


def roll(song):
  """The oracle: one by one."""
  x = np.zeros((len(song), 88), np.uint8)
  for t, notes in enumerate(song):
    for note in notes:
      x[t, note - 21] = 1
  return x


ROLLS = [[roll(song) for song in songs] for songs in SONGS.values()]


def write_pickle(path, protocol=2):
  songs = {
    key: [[tuple(map(np.int64, step)) for step in song] for song in songs]
    for key, songs in SONGS.items()
  }
  path.write_bytes(pickle.dumps(songs, protocol))


def write_json(path):
  padded = {
    key: [[[*step, *[-1] * (3 - len(step))] for step in song] for song in songs]
    for key, songs in SONGS.items()
  }
  path.write_text(json.dumps(padded))


def write_mat(path):
  cells = {}
  for key, rolls in zip(('traindata', 'validdata', 'testdata'), ROLLS, strict=True):
    cells[key] = np.empty((1, len(rolls)), object)
    for index, x in enumerate(rolls):
      cells[key][0, index] = x.astype(float)
  scipy.io.savemat(path, cells, do_compression=True)


def write_npz(path, **changes):
  flat = [x for rolls in ROLLS for x in rolls]
  arrays = {
    'packed': np.packbits(np.concatenate(flat), axis=1),
    'lengths': np.array([len(x) for x in flat], np.int32),
    'split': np.repeat([0, 1, 2], [len(rolls) for rolls in ROLLS]).astype(np.uint8),
  }
  np.savez(path, **{**arrays, **changes})


def write_midi(folder, songs=SONGS, steps_per_beat=1, names=('train', 'valid', 'test')):
  import pretty_midi

  for name, part in zip(names, songs.values(), strict=True):
    (folder / name).mkdir(parents=True)
    for index, song in enumerate(part):
      midi = pretty_midi.PrettyMIDI(initial_tempo=100, resolution=480)
      piano, step = pretty_midi.Instrument(0), 0.6 / steps_per_beat
      for t, notes in enumerate(song):
        for note in notes:
          piano.notes.append(pretty_midi.Note(80, note, t * step, (t + 1) * step))
      midi.instruments.append(piano)
      midi.write(str(folder / name / f'{index:02d}.mid'))


WRITERS = {
  'songs.pickle': write_pickle,
  'songs.pkl': lambda path: write_pickle(path, 0),
  'songs.json': write_json,
  'songs.mat': write_mat,
  'songs.npz': write_npz,
}


def stored(builder):
  prepare.prepare(builder)
  return [list(prepare.open_split(builder, split)) for split in ('train', 'validation', 'test')]


def assert_same(found, expected=ROLLS):
  for a, b in zip(found, expected, strict=True):
    assert [x.tolist() for x in a] == [x.tolist() for x in b]


# ---- formats -------------------------------------------------------------------------------------


@pytest.mark.parametrize('name', WRITERS)
def test_every_format_gives_the_same_rolls(tmp_path, name):
  WRITERS[name](tmp_path / name)
  builder = music.Jsb(str(tmp_path / 'data'), source=str(tmp_path / name))
  found = stored(builder)
  assert_same(found)
  assert found[0][0].dtype == np.uint8
  source = prepare.open_split(builder, 'train')
  assert source.lengths.tolist() == [4, 1]
  assert source.constants == {'note_range': [0, 87]}
  assert builder.resolution is None
  content = prepare.read_manifest(builder)
  assert content['notes'][0] == 'songs: 2/1/2 (train/validation/test), officially 229/76/77'


def test_all_formats_have_one_fingerprint(tmp_path):
  found = set()
  for name, write in WRITERS.items():
    write(tmp_path / name)
    builder = music.Jsb(str(tmp_path / f'of {name}'), source=str(tmp_path / name))
    prepare.prepare(builder)
    found.add(prepare.fingerprint(builder))
  assert len(found) == 1


@pytest.mark.parametrize(
  ('cls', 'name'),
  [
    (music.PianoMidi, 'Piano-midi.de.pickle'),
    (music.MuseData, 'MuseData.mat'),
    (music.Jsb, 'JSB Chorales.pickle'),
    (music.Jsb, 'jsb-chorales-quarter.json'),
    (music.Nottingham, 'music_nottingham.npz'),
  ],
)
def test_a_directory_is_searched_for_the_well_known_file(tmp_path, cls, name):
  WRITERS[f'songs{os.path.splitext(name)[1]}'](tmp_path / name)
  (tmp_path / 'readme.txt').write_text('not this')
  recordings = cls(source=str(tmp_path)).recordings
  assert_same([[song.roll for song in songs] for songs in recordings.values()])


def test_several_well_known_files_are_ambiguous(tmp_path):
  write_json(tmp_path / 'jsb.json')
  write_npz(tmp_path / 'jsb.npz')
  with pytest.raises(DataError, match='holds jsb.json and jsb.npz; give one'):
    _ = music.Jsb(source=str(tmp_path)).recordings


def test_the_four_sets_are_known_by_name():
  for name in ('piano_midi', 'muse_data', 'jsb', 'nottingham'):
    cls = building.dataset_class(name)
    assert cls.name == name
    assert cls.data_space == 'binary'
    assert cls.event_shape == (88,)
    assert 'MuseData' in cls.__doc__ or 'MusicBuilder' in cls.__doc__


# ---- MIDI ----------------------------------------------------------------------------------------


@pytest.mark.parametrize('steps_per_beat', [1, 2])
def test_midi_files_are_cut_into_steps(tmp_path, steps_per_beat):
  # A MIDI file doesn't say how long the silence after its last note is.
  songs = {**SONGS, 'test': [SONGS['test'][0][:2], SONGS['test'][1]]}
  write_midi(tmp_path / 'source', songs, steps_per_beat)
  options = {'steps_per_beat': steps_per_beat}
  builder = music.Jsb(str(tmp_path / 'data'), source=str(tmp_path / 'source'), **options)
  expected = [[roll(song) for song in part] for part in songs.values()]
  assert_same(stored(builder), expected)


def test_midi_notes_begin_and_end_at_the_nearest_step(tmp_path):
  import pretty_midi

  from afslvm.data import midi_files

  midi = pretty_midi.PrettyMIDI(initial_tempo=60)  # a beat is a second
  piano, drums = pretty_midi.Instrument(0), pretty_midi.Instrument(0, is_drum=True)
  for pitch, begin, end in (
    (60, 0.4, 1.6),
    (62, 0.6, 1.4),
    (64, 2.1, 2.2),
    (10, 0, 9),
    (120, 0, 9),
  ):
    piano.notes.append(pretty_midi.Note(80, pitch, begin, end))
  drums.notes.append(pretty_midi.Note(80, 40, 0, 9))
  midi.instruments += [piano, drums]
  midi.write(str(tmp_path / 'a.mid'))
  x, outside = midi_files.song(str(tmp_path / 'a.mid'), steps_per_beat=1)
  assert outside == 2
  assert [(int(t), int(n) + 21) for t, n in np.argwhere(x)] == [(0, 60), (1, 60), (1, 62), (2, 64)]


def test_corrupt_midi_files_are_all_named(tmp_path):
  write_midi(tmp_path)
  (tmp_path / 'train' / 'bad.mid').write_bytes(b'MThd\0\0\0\6\0\1\0\1\0')
  with pytest.raises(DataError, match=r"train/bad\.mid: can't be read as MIDI"):
    _ = music.Jsb(source=str(tmp_path)).recordings
  (tmp_path / 'test' / 'text.mid').write_text('hello')
  with pytest.raises(DataError) as caught:
    _ = music.Jsb(source=str(tmp_path)).recordings
  assert '2 files' in str(caught.value)
  assert 'train/bad.mid' in str(caught.value)
  assert 'test/text.mid' in str(caught.value)
  assert '\n' not in str(caught.value)


def test_a_folder_without_midi_files_says_what_is_missing(tmp_path):
  (tmp_path / 'train').mkdir()
  with pytest.raises(DataError, match=r'has no MIDI files in train/; give one of \.pickle'):
    _ = music.Jsb(source=str(tmp_path)).recordings


# ---- the real chorales ---------------------------------------------------------------------------


def real(name):
  if not (SHARED / name).is_file():
    pytest.skip(f'the real songs are not there: {SHARED / name}')
  return str(SHARED / name)


def test_the_real_chorales_are_the_same_from_pickle_and_npz():
  a = music.Jsb(source=real('jsb-chorales-quarter.pkl')).recordings
  b = music.Jsb(source=real('music_jsb.npz')).recordings
  assert tuple(map(len, a.values())) == music.Jsb.official
  assert [sum(len(song.roll) for song in songs) for songs in a.values()] == [13807, 4602, 4725]
  for split, songs in a.items():
    assert_same([[s.roll for s in songs]], [[s.roll for s in b[split]]])


def test_the_real_piano_has_the_official_splits():
  songs = music.PianoMidi(source=real('music_piano_midi.npz')).recordings
  assert tuple(map(len, songs.values())) == music.PianoMidi.official
  assert [sum(len(song.roll) for song in part) for part in songs.values()] == [75911, 8540, 19036]


# ---- mistakes ------------------------------------------------------------------------------------


def refuse(path):
  with pytest.raises(DataError) as caught:
    _ = music.Jsb(source=str(path)).recordings
  assert '\n' not in str(caught.value)
  assert len(str(caught.value)) < 600
  return str(caught.value)


def test_a_malicious_pickle_is_refused(tmp_path):
  class Runs:
    def __reduce__(self):
      return (os.system, (f'touch {tmp_path}/ran',))

  (tmp_path / 'x.pickle').write_bytes(pickle.dumps({'train': [[(Runs(),)]]}))
  message = refuse(tmp_path / 'x.pickle')
  assert 'x.pickle' in message
  assert 'system' in message
  assert not (tmp_path / 'ran').exists()


BAD = {
  'no dictionary': ([], 'is a list, not a dictionary'),
  'no split': ({'train': [], 'valid': []}, "needs one of test, has 'train', 'valid'"),
  'no songs': ({'train': 5, 'valid': [], 'test': []}, 'train: is a int, not a list'),
  'no steps': ({'train': [7], 'valid': [], 'test': []}, 'train, song 0: is a int'),
  'empty song': ({'train': [[]], 'valid': [], 'test': []}, 'song 0: has no step'),
  'no notes': ({'train': [[5]], 'valid': [], 'test': []}, 'song 0, step 0: is a int'),
  'a word': ({'train': [[['a']]], 'valid': [], 'test': []}, "step 0: 'a' is no MIDI number"),
  'low': ({'train': [[[20]]], 'valid': [], 'test': []}, r'20 is no MIDI number of a piano \(21'),
  'high': ({'train': [[[109]]], 'valid': [], 'test': []}, '109 is no MIDI number'),
  'between': ({'train': [[[60.5]]], 'valid': [], 'test': []}, '60.5 is no MIDI'),
  'infinite': ({'train': [[[1e999]]], 'valid': [], 'test': []}, 'inf is no MIDI'),
  'nan': ({'train': [[[float('nan')]]], 'valid': [], 'test': []}, 'nan is no MIDI'),
  'truth': ({'train': [[[True]]], 'valid': [], 'test': []}, 'a bool is no MIDI'),
  'many notes': ({'train': [[[60] * 257]], 'valid': [], 'test': []}, 'lists 257 items'),
  'nothing for a split': ({'train': [[[60]]], 'valid': [], 'test': [[[60]]]}, 'for validation'),
}


@pytest.mark.parametrize('name', BAD)
@pytest.mark.parametrize('suffix', ['pickle', 'json'])
def test_other_content_is_refused(tmp_path, name, suffix):
  content, words = BAD[name]
  text = pickle.dumps(content, 2) if suffix == 'pickle' else json.dumps(content).encode()
  (tmp_path / f'x.{suffix}').write_bytes(text)
  message = refuse(tmp_path / f'x.{suffix}')
  assert re.search(words, message)


def test_songs_that_share_their_steps_are_counted_before_they_are_copied(tmp_path, monkeypatch):
  monkeypatch.setattr(music_files, 'MAX_TOTAL_STEPS', 100)
  song = [[60]] * 30
  (tmp_path / 'x.pickle').write_bytes(pickle.dumps({'train': [song] * 4, 'valid': [], 'test': []}))
  assert 'song 3: lists 30 items, more than 10' in refuse(tmp_path / 'x.pickle')


@pytest.mark.parametrize(
  ('changes', 'words'),
  [
    ({'packed': np.zeros((48, 12), np.uint8)}, 'packed is uint8 (48, 12)'),
    ({'packed': np.zeros((48, 11))}, 'packed is float64'),
    ({'packed': np.array([None, 'x'])}, 'packed is object'),
    ({'packed': np.zeros((47, 11), np.uint8)}, '47 steps'),
    ({'lengths': np.array([4, 1, 2, 3])}, '4 songs'),
    ({'lengths': np.array([4, 0, 3, 3, 40])}, 'lengths must be in 1..'),
    ({'lengths': np.array([54, 1, 2, 3, -10])}, 'lengths must be in 1..'),
    ({'split': np.array([0, 0, 1, 2, 3])}, 'split must be 0'),
  ],
)
def test_other_arrays_are_refused(tmp_path, changes, words):
  write_npz(tmp_path / 'x.npz', **changes)
  assert words in refuse(tmp_path / 'x.npz')


@pytest.mark.parametrize('name', ['x.npz', 'x.mat', 'x.json', 'x.pickle', 'x.txt'])
def test_damaged_files_are_refused(tmp_path, name):
  (tmp_path / name).write_bytes(b'\x93garbage' * 100)
  assert name in refuse(tmp_path / name)


def test_an_archive_that_asks_for_a_password_is_refused(tmp_path):
  write_npz(tmp_path / 'x.npz')
  content = bytearray((tmp_path / 'x.npz').read_bytes())
  for signature, offset in ((b'PK\x01\x02', 8), (b'PK\x03\x04', 6)):
    content[content.index(signature) + offset] |= 1  # the flag of encryption
  (tmp_path / 'x.npz').write_bytes(content)
  assert 'RuntimeError' in refuse(tmp_path / 'x.npz')


def test_other_mat_files_are_refused(tmp_path):
  scipy.io.savemat(tmp_path / 'a.mat', {'traindata': np.zeros((4, 88))})
  assert 'has no cells traindata' in refuse(tmp_path / 'a.mat')
  cells = np.empty((1, 1), object)
  cells[0, 0] = np.full((4, 88), 2.0)
  scipy.io.savemat(tmp_path / 'b.mat', dict.fromkeys(('traindata', 'validdata', 'testdata'), cells))
  assert 'has values other than 0 and 1' in refuse(tmp_path / 'b.mat')
  cells[0, 0] = np.zeros((4, 87))
  scipy.io.savemat(tmp_path / 'c.mat', dict.fromkeys(('traindata', 'validdata', 'testdata'), cells))
  assert 'song 0: is float64 (4, 87)' in refuse(tmp_path / 'c.mat')
