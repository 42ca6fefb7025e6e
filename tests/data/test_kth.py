"""KTH Actions: on the real files where they are, and on a small set that this file writes."""

import pathlib
import shutil
import zipfile

import numpy as np
import pytest
from oracles_video import write_video

from afslvm.data import kth, kth_files, pipeline, prepare, video
from afslvm.data.base import SPLITS
from afslvm.data.kth import Kth
from afslvm.errors import ConfigError, DataError, PlatformError

OFFICIAL = pathlib.Path(__file__).parents[2].parent / 'shared' / 'data' / 'kth_avi'
LENGTH = 24
LEVELS = 20 + 9 * np.arange(LENGTH)  # of the frames of every written video
VIDEOS = {
  'person01_boxing_d1': '1-9, 10-24',
  'person02_running_d3': '1-6, 12-20',
  'person11_walking_d4': '3-24',
  'person21_jogging_d2': '1-12, 13-18',
}
LISTED = {**VIDEOS, 'person22_boxing_d1': '1-90'}


def write_ranges(folder, listed=None):
  lines = [f'{name}\tframes\t{ranges}' for name, ranges in (listed or LISTED).items()]
  (folder / '00sequences.txt').write_text(
    '\n\n'.join([*lines, 'person13_handclapping_d3\t*missing*', ''])
  )


@pytest.fixture(scope='session')
def original(tmp_path_factory):
  folder = tmp_path_factory.mktemp('kth')
  for name in VIDEOS:
    write_video(folder / name.split('_')[1] / f'{name}_uncomp.avi', LEVELS)
  write_ranges(folder)
  return folder


@pytest.fixture
def source(original, tmp_path):
  return pathlib.Path(shutil.copytree(original, tmp_path / 'source'))


def builder(tmp_path, source, **options):
  found = Kth(str(tmp_path / 'data'), str(source), **{'frame_size': 16, **options})
  found.report = lambda line: None
  return found


def one_line(caught, *words):
  message = str(caught.value)
  assert '\n' not in message
  assert all(word in message for word in words), message


# ---- what is read --------------------------------------------------------------------------------


def test_ranges_give_the_frames_that_they_name(tmp_path, source):
  kth_set = builder(tmp_path, source, persons='avf')
  prepare.prepare(kth_set)
  stored = {s: prepare.open_split(kth_set, s) for s in SPLITS}
  # 1-9 counts from 1, and the last frame is left out: frames 0..7.
  expected = {
    'train': [(2, 23)],
    'validation': [(0, 8), (9, 23), (0, 11), (12, 17)],
    'test': [(0, 5), (11, 19)],
  }
  for split, ranges in expected.items():
    assert stored[split].lengths.tolist() == [end - begin for begin, end in ranges]
    for index, (begin, end) in enumerate(ranges):
      x = stored[split][index]
      assert x.shape == (end - begin, 16, 16, 1)
      np.testing.assert_allclose(x.mean(axis=(1, 2, 3)), LEVELS[begin:end], atol=3)


def test_pictures_are_squeezed_whole():
  picture = np.zeros((120, 160, 1), np.uint8)
  picture[:60, 80:] = 200
  small = video.squeeze(picture, 32)
  assert small.shape == (32, 32, 1)
  np.testing.assert_array_equal(small[:15, 17:], 200)
  np.testing.assert_array_equal(small[17:], 0)
  np.testing.assert_array_equal(small[:, :15], 0)
  wide = video.squeeze(np.arange(160, dtype=np.uint8)[None, :, None].repeat(120, axis=0), 40)
  np.testing.assert_allclose(wide[20, 5:35, 0], 4 * np.arange(5, 35) + 1.5, atol=0.51)


def test_unlike_persons_are_never_in_two_splits(tmp_path, source):
  for convention in kth.PERSONS:
    found = builder(tmp_path, source, persons=convention).recordings
    persons = [{clip.person for clip in found[split]} for split in SPLITS]
    assert sum(map(len, persons)) == len(set.union(*persons)) == 4


def test_svg_holds_out_the_last_training_persons(tmp_path, source):
  found = builder(tmp_path, source, persons='svg').recordings
  assert [sorted({clip.person for clip in found[s]}) for s in SPLITS] == [[1, 2], [11], [21]]
  everyone = set(range(1, 26))
  assert kth._persons('svg', everyone) == {
    'train': set(range(1, 19)), 'validation': {19, 20}, 'test': set(range(21, 26)),
  }  # fmt: skip
  assert set.union(*kth._persons('avf', everyone).values()) == everyone


def test_zips_hold_the_same_as_loose_files(tmp_path, source):
  loose = prepare.prepare(builder(tmp_path / 'a', source))
  for folder in [path for path in source.iterdir() if path.is_dir()]:
    with zipfile.ZipFile(source / f'{folder.name}.zip', 'w', zipfile.ZIP_DEFLATED) as archive:
      for path in folder.iterdir():
        archive.write(path, path.name)
    shutil.rmtree(folder)
  before = sorted(tmp_path.rglob('*.avi'))
  zipped = prepare.prepare(builder(tmp_path / 'b', source))
  assert zipped['splits'] == loose['splits']
  assert sorted(tmp_path.rglob('*.avi')) == before  # nothing was unpacked


def test_report_says_what_is_missing(tmp_path, source):
  content = prepare.prepare(builder(tmp_path, source))
  assert content['notes'] == [
    '4 of 5 videos, 7 of 8 sequences that 00sequences.txt lists',
    'train: 1 of 1 videos, 1 of 1 sequences; persons 11',
    'validation: 2 of 2 videos, 4 of 4 sequences; persons 1, 21',
    'test: 1 of 2 videos, 2 of 3 sequences; persons 2',
    'missing: person22_boxing_d1',
  ]


def test_prepared_data_need_no_source_and_know_their_sizes(tmp_path, source):
  kth_set = builder(tmp_path, source)
  assert kth_set.split_size('validation') == 4
  prepare.prepare(kth_set)
  shutil.rmtree(source)
  later = Kth(kth_set.given_data_dir, frame_size=16)
  assert [later.split_size(split) for split in SPLITS] == [1, 4, 2]
  assert prepare.verify(later)['splits']['test']['lengths'] == [5, 8]


def test_more_videos_replace_what_was_prepared(tmp_path, source):
  first = prepare.prepare(builder(tmp_path, source))
  write_video(source / 'more' / 'person22_boxing_d1.avi', np.arange(90) + 50)
  said = []
  second = builder(tmp_path, source)
  second.report = said.append
  content = prepare.prepare(second)
  assert 'was made from other files' in said[0]
  assert content['splits']['test']['lengths'] == [5, 8, 89]
  assert content['splits']['train'] == first['splits']['train']
  said.clear()
  prepare.prepare(second)
  assert said == []


# ---- what is refused -----------------------------------------------------------------------------


def cut(path, share):
  """Ends an .avi after a share of its frames, and without its index."""
  content = path.read_bytes()
  begin, end = content.index(b'movi') + 4, content.rindex(b'idx1')
  path.write_bytes(content[: begin + int(share * (end - begin))])


def only_person(source, person):
  for path in source.rglob('*.avi'):
    if person not in path.name:
      path.unlink()


def traversing_zip(source):
  with zipfile.ZipFile(source / 'boxing.zip', 'w') as archive:
    archive.writestr('../../person03_boxing_d1_uncomp.avi', b'x')


def bomb(source):
  with zipfile.ZipFile(source / 'boxing.zip', 'w', zipfile.ZIP_DEFLATED) as archive:
    archive.writestr('person03_boxing_d1_uncomp.avi', bytes(kth_files.MAX_VIDEO_BYTES + 1))


def first_video(source):
  return source / 'boxing' / 'person01_boxing_d1_uncomp.avi'


def append(source, line):
  with open(source / '00sequences.txt', 'a') as file:
    file.write(f'{line}\n')


MISTAKES = {
  'no ranges': (lambda s: (s / '00sequences.txt').unlink(), ['has no 00sequences.txt']),
  'empty split': (lambda s: only_person(s, 'person01'), ['nothing for train', 'persons 11, 12']),
  'nobody': (lambda s: only_person(s, 'person99'), ['nothing for train', 'nobody']),
  'no video': (lambda s: first_video(s).write_bytes(b'RIFF' * 99), ['person01_boxing_d1', 'video']),
  'empty file': (lambda s: first_video(s).write_bytes(b''), ['person01_boxing_d1', 'video']),
  'cut file': (lambda s: cut(first_video(s), 0.3), ['person01_boxing_d1', 'complete?']),
  'no frames': (lambda s: cut(first_video(s), 0), ['person01_boxing_d1']),
  'too few frames': (
    lambda s: write_video(first_video(s), LEVELS[:10]),
    ['person01_boxing_d1', 'has 10 frames', 'from frame 10', 'complete?'],
  ),
  'traversal': (traversing_zip, ['boxing.zip', '../../person03']),
  'bomb': (bomb, ['boxing.zip', 'person03', 'bytes']),
  'no zip': (lambda s: (s / 'boxing.zip').write_bytes(b'PK nonsense'), ['boxing.zip']),
  'no number': (lambda s: append(s, 'person03_boxing_d1 frames 1-a'), ['line', 'person03']),
  'backwards': (lambda s: append(s, 'person03_boxing_d1 frames 9-3'), ['line', 'range 9-3']),
  'twice': (lambda s: append(s, 'person01_boxing_d1 frames 1-9'), ['line', 'person01']),
}


@pytest.mark.parametrize('mistake', MISTAKES)
def test_unusable_sources_end_in_one_line(tmp_path, source, mistake):
  spoil, words = MISTAKES[mistake]
  spoil(source)
  with pytest.raises(DataError) as caught:
    prepare.prepare(builder(tmp_path, source))
  one_line(caught, *words)
  assert not [path for path in (tmp_path / 'data').rglob('*') if path.suffix == '.json']


def test_no_source_says_which_is_needed(tmp_path):
  with pytest.raises(DataError) as caught:
    prepare.prepare(Kth(str(tmp_path)))
  one_line(caught, '--source=PATH', '00sequences.txt', '--dataset=kth')
  with pytest.raises(DataError, match='nowhere: no such file'):
    prepare.prepare(Kth(str(tmp_path), 'nowhere'))


def test_without_pyav_the_command_is_named(tmp_path, source, monkeypatch):
  monkeypatch.setitem(__import__('sys').modules, 'av', None)
  with pytest.raises(PlatformError) as caught:
    prepare.prepare(builder(tmp_path, source))
  one_line(caught, 'PyAV', "pip install 'av")


def test_a_range_beyond_the_end_is_cut_and_said(tmp_path, source):
  write_video(first_video(source), LEVELS[:20])
  said = []
  kth_set = builder(tmp_path, source)
  kth_set.report = said.append
  assert prepare.prepare(kth_set)['splits']['validation']['lengths'][:2] == [8, 11]
  assert said == ['kth: person01_boxing_d1 has 20 frames, its range 10-24 is cut there']


def test_overlapping_ranges_are_cut_and_noted(source):
  write_ranges(source, {'person01_boxing_d1': '1-9, 5-20', 'person03_walking_d4': '1-338, 338-432'})
  ranges, cut = kth_files.ranges(str(source))
  assert ranges['person01_boxing_d1'] == [(0, 8), (8, 19)]
  assert cut == ['person01_boxing_d1: 5-20 overlaps the range before and begins after it']
  assert ranges['person03_walking_d4'] == [(0, 337), (338, 431)]  # one of the seven corrections


def test_binary_prints_the_report(launch, tmp_path, source):
  done = launch(
    'prepare_data',
    '--dataset=kth',
    f'--source={source}',
    f'--data_dir={tmp_path}',
    '--options=persons=svg,frame_size=16',
  )
  assert (done.returncode, done.stderr) == (0, '')
  lines = done.stdout.splitlines()
  assert [line.split()[:4] for line in lines[2:5]] == [
    ['train', '4', '5..14', '16x16x1'],
    ['validation', '1', '21', '16x16x1'],
    ['test', '2', '5..11', '16x16x1'],
  ]
  assert '4 of 5 videos, 7 of 8 sequences that 00sequences.txt lists' in lines
  assert 'validation: 1 of 1 videos, 1 of 1 sequences; persons 11' in lines


# ---- ragged batches ------------------------------------------------------------------------------


def test_crops_longer_than_any_clip_are_refused(tmp_path, source):
  kth_set = builder(tmp_path, source)
  prepare.prepare(kth_set)
  with pytest.raises(ConfigError) as caught:
    pipeline.training_batches(prepare.open_split(kth_set, 'test'), batch_size=1, length=9, seed=0)
  one_line(caught, 'data.length=9', 'the 8 frames of kth', 'longest')


# ---- the official files --------------------------------------------------------------------------


@pytest.fixture(scope='session')
def official(shared_data, tmp_path_factory):
  """Both conventions, prepared from the twelve videos at 64x64."""
  if not OFFICIAL.is_dir():
    pytest.skip(f'the official KTH videos are not there: {OFFICIAL}')
  root = tmp_path_factory.mktemp('official')
  sets = {p: Kth(str(root), str(OFFICIAL), persons=p) for p in kth.PERSONS}
  for kth_set in sets.values():
    prepare.prepare(kth_set)
  return sets


def test_corrected_ranges_give_the_counts_of_the_papers_code(shared_data):
  listed, cut = kth_files.ranges(str(shared_data / 'kth_avi'))
  assert cut == []
  assert len(listed) == 599
  uncorrected = (shared_data / 'kth_avi' / '00sequences.txt').read_text()
  assert all(
    any(f'{a}-{b}' in line for line in uncorrected.splitlines() if line.startswith(name))
    for name, a, b in kth_files.CORRECTIONS
  )
  counts = {}
  for split, persons in kth.PERSONS['avf'].items():
    lengths = [
      b - a for name, r in listed.items() if kth_files.person(name) in persons for a, b in r
    ]
    counts[split] = (len(lengths), min(lengths), max(lengths))
  # From the AF paper's public code.
  assert counts == {'train': (760, 29, 361), 'validation': (768, 25, 210), 'test': (863, 23, 238)}
  assert Kth.num_frames == 361


def test_official_videos_are_divided_by_person(official):
  lengths = {
    convention: {s: prepare.open_split(kth_set, s).lengths for s in SPLITS}
    for convention, kth_set in official.items()
  }
  assert {s: len(n) for s, n in lengths['svg'].items()} == {
    'train': 32, 'validation': 4, 'test': 12,
  }  # fmt: skip
  assert {s: len(n) for s, n in lengths['avf'].items()} == {
    'train': 12, 'validation': 28, 'test': 8,
  }  # fmt: skip
  assert lengths['svg']['validation'].tolist() == [79, 75, 75, 75]


def test_frames_agree_with_an_independent_decoding(official, shared_data):
  """The other one is squeezed with a bicubic filter, which rings at edges."""
  with np.load(shared_data / 'video_kth15.npz') as reference:
    begins = dict(
      zip(
        reference['names'].tolist(),
        np.cumsum(reference['lengths']) - reference['lengths'],
        strict=True,
      )
    )
    frames = reference['frames']
  for kth_set in official.values():
    for split in SPLITS:
      source = prepare.open_split(kth_set, split)
      for index, clip in enumerate(kth_set.recordings[split]):
        begin = begins[clip.name]
        expected = frames[begin + clip.begin : begin + clip.end].astype(np.float32)
        x = source[index][..., 0]
        assert x.shape == expected.shape
        assert np.abs(x - expected).mean() < 2
        late = frames[begin + clip.begin + 1 : begin + clip.end + 1].astype(np.float32)
        if split == 'train':  # the next frame is another
          assert np.abs(x - expected).mean() < np.abs(x - late).mean()


def test_official_levels_use_the_range_of_eight_bits(official):
  content = prepare.read_manifest(official['avf'])
  for entry in content['splits'].values():
    assert entry['dtype'] == 'uint8'
    assert 0 <= entry['minimum'] < 40
    assert 170 < entry['maximum'] <= 255
