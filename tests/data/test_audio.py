"""Sound from files to standardised frames, and any folder of sound files."""

import pathlib
import sys

import numpy as np
import pytest
from sounds import RATE, noise, refuse, riff, sphere

from afslvm.data import audio, prepare
from afslvm.data.audio_folder import AudioFolder
from afslvm.data.base import SPLITS
from afslvm.errors import ConfigError, PlatformError


def folder_of(tmp_path, sizes=(950, 400, 2000, 777), names='abcd', **options):
  """Files of some sizes in train/, one each in valid/ and test/; the samples of train/."""
  for index, (name, size) in enumerate(zip(names, sizes, strict=True)):
    riff(tmp_path / 'train' / f'{name}.wav', noise(size, index), **options)
  riff(tmp_path / 'valid' / 'v.wav', noise(600, 8), **options)
  riff(tmp_path / 'test' / 't.flac', noise(600, 9), **options)
  return [noise(size, index) for index, size in enumerate(sizes)]


def folder_set(tmp_path, source, **options):
  return AudioFolder(str(tmp_path / 'data'), source=str(source), **options)


# ---- from samples to values ----------------------------------------------------------------------


def test_values_are_standardised_samples_on_a_grid(tmp_path):
  samples = folder_of(tmp_path / 'source')
  builder = folder_set(tmp_path, tmp_path / 'source')
  prepare.prepare(builder)
  source = prepare.open_split(builder, 'train')
  kept = [x[: len(x) // 200 * 200] for x in samples]
  everything = np.concatenate(kept).astype(np.float64)
  assert builder.mean == pytest.approx(everything.mean(), rel=1e-12)
  assert builder.std == pytest.approx(everything.std(), rel=1e-12)
  assert builder.resolution == 1 / builder.std
  assert builder.sample_rate == RATE
  assert source.constants == {'mean': builder.mean, 'std': builder.std, 'sample_rate': RATE}
  assert source.lengths.tolist() == [4, 2, 10, 3]
  assert builder.event_shape == source[0].shape[1:] == (200,)
  assert source[0].dtype == np.float32
  stored = np.concatenate([x.ravel() for x in source])
  assert abs(stored.mean(dtype=np.float64)) < 1e-6
  assert stored.std(dtype=np.float64) == pytest.approx(1, abs=1e-6)
  back = stored.astype(np.float64) * builder.std + builder.mean
  np.testing.assert_allclose(back, everything, atol=0.01)
  steps = np.diff(np.unique(stored.astype(np.float64))) / builder.resolution
  np.testing.assert_allclose(steps, np.rint(steps), atol=0.01)


def test_validation_and_test_use_the_constants_of_training(tmp_path):
  folder_of(tmp_path / 'source')
  builder = folder_set(tmp_path, tmp_path / 'source')
  prepare.prepare(builder)
  for split, seed in (('validation', 8), ('test', 9)):
    (x,) = prepare.open_split(builder, split)
    expected = (noise(600, seed) - builder.mean) / builder.std
    np.testing.assert_allclose(x.ravel(), expected, rtol=1e-6, atol=1e-6)


def test_frame_size_is_an_option(tmp_path):
  folder_of(tmp_path / 'source')
  builder = folder_set(tmp_path, tmp_path / 'source', frame_size=64)
  prepare.prepare(builder)
  assert builder.event_shape == (64,)
  assert prepare.open_split(builder, 'train').lengths.tolist() == [14, 6, 31, 12]


def test_constants_are_not_known_before_they_are_prepared(tmp_path):
  folder_of(tmp_path / 'source')
  builder = folder_set(tmp_path, tmp_path / 'source')
  for name in ('resolution', 'mean', 'std', 'sample_rate'):
    message = refuse(lambda name=name: getattr(builder, name))
    assert 'is not prepared' in message
    assert 'run: python launch/prepare_data.py --dataset=audio_folder' in message


def test_damaged_constants_are_refused(tmp_path):
  folder_of(tmp_path / 'source')
  builder = folder_set(tmp_path, tmp_path / 'source')
  prepare.prepare(builder)
  path = pathlib.Path(builder.data_dir) / 'afslvm_manifest.json'
  path.write_text(path.read_text().replace('"std": ', '"std": -'))
  assert 'manifest has std -' in refuse(lambda: builder.resolution)


def test_the_fingerprint_tells_loudness_apart(tmp_path):
  found = set()
  for factor in (1, 2):
    source = tmp_path / str(factor)
    for split in ('train', 'valid', 'test'):
      riff(source / split / 'a.wav', (noise(400, scale=300) * factor).astype(np.int16))
    builder = AudioFolder(str(tmp_path / f'data{factor}'), source=str(source))
    prepare.prepare(builder)
    found.add(prepare.fingerprint(builder))
  assert len(found) == 2


def test_recordings_shorter_than_a_frame_are_left_out_and_counted(tmp_path):
  folder_of(tmp_path / 'source', sizes=(950, 199), names='ab')
  builder = folder_set(tmp_path, tmp_path / 'source')
  manifest = prepare.prepare(builder)
  assert prepare.open_split(builder, 'train').lengths.tolist() == [4]
  assert '1 recordings are shorter than a frame and left out' in manifest['notes']


def test_a_split_of_shorter_ones_only_is_refused(tmp_path):
  folder_of(tmp_path / 'source')
  builder = folder_set(tmp_path, tmp_path / 'source', frame_size=700)
  message = refuse(lambda: prepare.prepare(builder))
  assert 'for validation are shorter than 700 samples; lower data.frame_size' in message


def test_digital_silence_is_refused(tmp_path):
  for split in ('train', 'valid', 'test'):
    riff(tmp_path / 'source' / split / 'a.wav', np.full(500, 7, np.int16))
  builder = folder_set(tmp_path, tmp_path / 'source')
  assert 'digital silence' in refuse(lambda: prepare.prepare(builder))


def test_an_odd_sample_rate_is_named(tmp_path):
  folder_of(tmp_path / 'source')
  riff(tmp_path / 'source' / 'test' / 'z.wav', noise(500), rate=8000)
  builder = folder_set(tmp_path, tmp_path / 'source')
  message = refuse(lambda: prepare.prepare(builder))
  assert 'test/z.wav: has 8000 samples per second, the others have 16000' in message


# ---- files ---------------------------------------------------------------------------------------


def test_sphere_and_riff_and_flac_are_read_alike(tmp_path):
  x = noise(1234)
  sphere(tmp_path / 'a.wav', x)
  riff(tmp_path / 'b.wav', x)
  riff(tmp_path / 'c.flac', x)
  for name in ('a.wav', 'b.wav', 'c.flac'):
    assert audio.rate_of(str(tmp_path / name)) == RATE
    np.testing.assert_array_equal(audio.read(str(tmp_path / name)), x)


def test_channels_are_averaged_and_other_depths_rounded(tmp_path):
  x = np.array([[1, 3], [-5, -6], [32767, 32767], [-32768, -32768]], np.int16)
  riff(tmp_path / 'stereo.wav', x)
  assert audio.read(str(tmp_path / 'stereo.wav')).tolist() == [2, -6, 32767, -32768]
  for subtype in ('PCM_24', 'PCM_32', 'FLOAT', 'DOUBLE'):
    riff(tmp_path / 'deep.wav', noise(500) / 2**15, subtype=subtype)
    np.testing.assert_array_equal(audio.read(str(tmp_path / 'deep.wav')), noise(500))
  riff(tmp_path / 'loud.wav', np.array([1.5, -1.5]), subtype='FLOAT')
  assert audio.read(str(tmp_path / 'loud.wav')).tolist() == [32767, -32768]
  riff(tmp_path / 'nan.wav', np.array([0.0, np.nan]), subtype='FLOAT')
  assert 'no numbers' in refuse(lambda: audio.read(str(tmp_path / 'nan.wav')))


def test_compressed_sphere_says_what_to_do(tmp_path):
  sphere(tmp_path / 'a.wav', noise(500), coding='pcm,embedded-shorten-v2.00')
  message = refuse(lambda: audio.rate_of(str(tmp_path / 'a.wav')))
  assert 'compressed with shorten' in message
  assert 'sph2pipe -f rif IN.wav OUT.wav' in message


@pytest.mark.parametrize('write', [sphere, riff])
def test_files_that_are_cut_off_are_refused(tmp_path, write):
  write(tmp_path / 'a.wav', noise(2000))
  content = (tmp_path / 'a.wav').read_bytes()
  (tmp_path / 'a.wav').write_bytes(content[: len(content) // 2])
  assert 'is cut off' in refuse(lambda: audio.rate_of(str(tmp_path / 'a.wav')))


def test_files_that_are_no_sound_are_all_named(tmp_path):
  folder_of(tmp_path / 'source')
  (tmp_path / 'source' / 'train' / 'x.wav').write_text('hello')
  builder = folder_set(tmp_path, tmp_path / 'source')
  assert "train/x.wav: can't be read as sound" in refuse(lambda: prepare.prepare(builder))
  (tmp_path / 'source' / 'test' / 'y.wav').write_bytes(b'')
  builder = folder_set(tmp_path, tmp_path / 'source')
  message = refuse(lambda: prepare.prepare(builder))
  assert "2 files can't be read as sound" in message
  assert 'y.wav' in message


def test_without_soundfile_the_remedy_is_named(monkeypatch, tmp_path):
  monkeypatch.setitem(sys.modules, 'soundfile', None)
  with pytest.raises(PlatformError, match=r"run: pip install 'soundfile>="):
    audio.read(str(tmp_path / 'a.wav'))


# ---- any folder ----------------------------------------------------------------------------------


def test_files_without_split_folders_are_divided_by_their_names(tmp_path):
  for index in range(20):
    riff(tmp_path / 'source' / f'{index:02d}.wav', noise(400, index))
  parts = folder_set(tmp_path, tmp_path / 'source').recordings
  assert [len(parts[split]) for split in SPLITS] == [16, 2, 2]
  (tmp_path / 'source' / f'{99}.wav').write_bytes((tmp_path / 'source' / '00.wav').read_bytes())
  more = folder_set(tmp_path, tmp_path / 'source').recordings
  moved = {f.name for f in more['train']} ^ {f.name for f in parts['train']}
  assert moved <= {'99.wav', *(f.name for f in parts['test'] + parts['validation'])}


def test_an_empty_folder_is_refused(tmp_path):
  (tmp_path / 'source').mkdir()
  message = refuse(lambda: folder_set(tmp_path, tmp_path / 'source').recordings)
  assert 'three files or more' in message
  assert 'give a folder of sound' in refuse(lambda: folder_set(tmp_path, __file__).recordings)


def test_options_are_checked():
  with pytest.raises(ConfigError, match='data.frame_size=0'):
    AudioFolder(frame_size=0)
