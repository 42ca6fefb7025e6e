"""TIMIT and the spoken digits, as files and as arrays."""

import hashlib
import pathlib
import shutil

import numpy as np
import pytest
import soundfile
from sounds import RATE, noise, refuse, riff, sphere

from afslvm.data import prepare
from afslvm.data.base import SPLITS
from afslvm.data.speech import Fsdd, Timit

SHARED = pathlib.Path(__file__).parents[2].parent / 'shared' / 'data' / 'speech_fsdd.npz'


# ---- TIMIT ---------------------------------------------------------------------------------------


def write_timit(root, upper=True, write=sphere, count=10):
  """Two dialects of two speakers each in TRAIN, one in TEST."""
  for part, speakers in (('train', 'abcd'), ('test', 'ef')):
    for index, speaker in enumerate(speakers):
      for sentence in range(count):
        name = f'{part}/dr{1 + index % 2}/m{speaker}0/sx{sentence}.wav'
        samples = noise(500 + 10 * sentence, seed=100 * ord(speaker) + sentence)
        write(root / (name.upper() if upper else name), samples)


def names(builder, split):
  return [file.name for file in builder.recordings[split]]


def test_timit_is_the_same_in_capitals_or_not_as_sphere_or_riff(tmp_path):
  write_timit(tmp_path / 'A')
  write_timit(tmp_path / 'b', upper=False, write=riff)
  found = []
  for name in ('A', 'b'):
    builder = Timit(str(tmp_path / f'data{name}'), source=str(tmp_path / name))
    found.append([names(builder, split) for split in SPLITS])
    manifest = prepare.prepare(builder)
    found[-1].append(prepare.fingerprint(builder))
  assert found[0] == found[1]
  assert [len(part) for part in found[0][:3]] == [38, 2, 20]
  assert '40 of 4,620 training and 20 of 1,680 test sentences' in manifest['notes']
  assert builder.sample_rate == RATE


def test_timit_validation_is_five_percent_in_an_order_of_its_own(tmp_path):
  write_timit(tmp_path / 'A', count=100)
  builder = Timit(str(tmp_path), source=str(tmp_path / 'A'))
  assert len(names(builder, 'validation')) == 20
  assert not set(names(builder, 'validation')) & set(names(builder, 'train'))
  assert round(4620 * 5 / 100) == 231
  everything = names(builder, 'validation') + names(builder, 'train')
  first = sorted(everything, key=lambda n: hashlib.sha256(f'1234/{n}'.encode()).digest())[:20]
  assert names(builder, 'validation') == sorted(first)


def test_timit_with_both_formats_has_every_sentence_once(tmp_path):
  write_timit(tmp_path / 'A')
  for path in list((tmp_path / 'A').rglob('*.WAV')):
    riff(path.parent / f'{path.name}.wav', noise(500))
  builder = Timit(str(tmp_path), source=str(tmp_path / 'A'))
  assert [len(names(builder, split)) for split in SPLITS] == [38, 2, 20]
  assert all(file.path.endswith('.WAV') for file in builder.recordings['train'])


def test_timit_at_another_rate_or_without_its_folders_is_refused(tmp_path):
  write_timit(tmp_path / 'A', write=lambda path, x: riff(path, x, rate=8000))
  builder = Timit(str(tmp_path / 'data'), source=str(tmp_path / 'A'))
  assert 'timit has 16000; resample it' in refuse(lambda: prepare.prepare(builder))
  shutil.rmtree(tmp_path / 'A' / 'TEST')
  message = refuse(lambda: Timit(source=str(tmp_path / 'A')).recordings)
  assert 'has no folder TEST; give the directory with TRAIN and TEST' in message


# ---- spoken digits -------------------------------------------------------------------------------


def write_digits(folder, numbers=(0, 4, 5, 8, 9, 30)):
  for digit in range(3):
    for speaker in ('theo', 'anna'):
      for number in numbers:
        samples = noise(450 + number, seed=digit * 1000 + number + len(speaker) * 7)
        riff(folder / f'{digit}_{speaker}_{number}.wav', samples, rate=8000)


def npz_of(folder, path):
  """The same recordings as arrays, in another order."""
  found = sorted(folder.iterdir(), key=lambda file: file.name[::-1])
  keys = [file.stem.split('_') for file in found]
  waves = [soundfile.read(file, dtype='int16')[0] for file in found]
  speakers = sorted({key[1] for key in keys})
  np.savez(
    path,
    wave=np.concatenate(waves),
    lengths=np.array([len(x) for x in waves], np.int32),
    digit=np.array([int(key[0]) for key in keys], np.uint8),
    speaker=np.array([speakers.index(key[1]) for key in keys], np.uint8),
    index=np.array([int(key[2]) for key in keys], np.uint8),
    speaker_names=np.array(speakers),
    rate=np.array(8000, np.int32),
  )


def test_digits_are_the_same_from_files_and_arrays(tmp_path):
  write_digits(tmp_path / 'fsdd' / 'recordings')
  npz_of(tmp_path / 'fsdd' / 'recordings', tmp_path / 'x.npz')
  found = []
  for index, source in enumerate(('fsdd', 'fsdd/recordings', 'x.npz')):
    builder = Fsdd(str(tmp_path / f'data{index}'), source=str(tmp_path / source))
    prepare.prepare(builder)
    found.append(prepare.fingerprint(builder))
    recordings = builder.recordings
    assert [len(recordings[split]) for split in SPLITS] == [12, 12, 12]
    assert {r.number for r in recordings['test']} == {0, 4}
    assert {r.number for r in recordings['validation']} == {5, 8}
    assert {r.number for r in recordings['train']} == {9, 30}
  assert len(set(found)) == 1


def test_the_real_digits(tmp_path):
  if not SHARED.is_file():
    pytest.skip(f'the real digits are not there: {SHARED}')
  builder = Fsdd(str(tmp_path), source=str(SHARED))
  assert [len(builder.recordings[split]) for split in SPLITS] == [2460, 240, 300]
  with np.load(SHARED) as arrays:
    assert arrays['is_test'].tolist() == (arrays['index'] < 5).tolist()
  assert {r.number for r in builder.recordings['test']} == set(range(5))
  prepare.prepare(builder)
  assert builder.resolution == pytest.approx(1 / 2026.55, rel=1e-5)


def test_other_digits_are_refused(tmp_path):
  write_digits(tmp_path / 'a')
  riff(tmp_path / 'a' / 'hello.wav', noise(500), rate=8000)
  assert 'is not named DIGIT_SPEAKER_NUMBER.wav' in refuse(
    lambda: Fsdd(source=str(tmp_path / 'a')).recordings
  )


@pytest.mark.parametrize(
  ('changes', 'words'),
  [
    ({'wave': np.zeros(9)}, 'wave is float64'),
    ({'wave': np.zeros(9, np.int16)}, '9 samples'),
    ({'rate': np.array(16_000)}, 'at 16000 per second'),
    ({'speaker': np.full(36, 7, np.uint8)}, 'names 2 speakers, but numbers 7'),
    ({'speaker_names': np.array([1, 2])}, 'not words'),
    ({'digit': np.zeros(3, np.uint8)}, 'do not fit'),
  ],
)
def test_other_arrays_are_refused(tmp_path, changes, words):
  write_digits(tmp_path / 'a')
  npz_of(tmp_path / 'a', tmp_path / 'x.npz')
  with np.load(tmp_path / 'x.npz') as arrays:
    np.savez(tmp_path / 'y.npz', **{**arrays, **changes})
  assert words in refuse(lambda: Fsdd(source=str(tmp_path / 'y.npz')).recordings)
