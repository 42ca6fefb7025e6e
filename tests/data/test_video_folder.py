"""A folder of videos that this file writes: formats, clips, splits, and what is refused."""

import shutil

import numpy as np
import pytest
from oracles_video import write_video

from afslvm.data import pipeline, prepare
from afslvm.data.base import SPLITS
from afslvm.data.video_folder import VideoFolder
from afslvm.errors import ConfigError, DataError, PlatformError

SIZE = (48, 32)
SMALL = {'frame_size': 8, 'num_frames': 4}


def levels(length, begin=40):
  """Grey levels of frames that tell which frame it is."""
  return begin + 6 * np.arange(length)


def builder(folder, source, **options):
  found = VideoFolder(str(folder / 'data'), str(source), **{**SMALL, **options})
  found.report = lambda line: None
  return found


@pytest.fixture
def source(tmp_path):
  """Nine equal grey videos of 11 frames."""
  folder = tmp_path / 'source'
  for index in range(9):
    write_video(folder / f'{index}.avi', levels(11), size=SIZE)
  return folder


def stored(video_set, split):
  opened = prepare.open_split(video_set, split)
  return [opened[index] for index in range(len(opened))]


def shown(x):
  """Numbers of the frames in a clip [T, H, W, C]."""
  return np.rint((x.mean(axis=(1, 2, 3)) - 40) / 6).astype(int).tolist()


def one_line(caught, *words):
  message = str(caught.value)
  assert '\n' not in message
  assert all(word in message for word in words), message


# ---- formats -------------------------------------------------------------------------------------


def pictures(length=5):
  """Videos whose quarters are red, green, blue and white."""
  x = np.zeros((length, 32, 32, 3), np.uint8)
  x[:, :16, :16, 0] = x[:, :16, 16:, 1] = x[:, 16:, :16, 2] = 255
  x[:, 16:, 16:] = 255
  return x


CODECS = {'mp4': 'mpeg4', 'avi': 'mpeg4', 'gif': 'gif', 'mkv': 'mpeg4', 'npz': None}


@pytest.mark.parametrize('suffix', CODECS)
def test_formats_show_the_same_colors(tmp_path, suffix):
  for index in range(3):
    path = tmp_path / 'source' / f'{index}.{suffix}'
    if suffix == 'npz':
      path.parent.mkdir(exist_ok=True)
      np.savez_compressed(path, video=pictures())
    else:
      write_video(path, pictures(), CODECS[suffix])
  video_set = builder(tmp_path, tmp_path / 'source', frame_size=16, num_frames=5)
  prepare.prepare(video_set)
  for split in SPLITS:
    (x,) = stored(video_set, split)
    assert x.shape == (5, 16, 16, 3)
    centers = x[:, [3, 3, 12, 12], [3, 12, 3, 12]].astype(int)
    expected = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]
    assert np.abs(centers - expected).max() < 30
  grey = builder(tmp_path, tmp_path / 'source', frame_size=16, num_frames=5, color='grey')
  prepare.prepare(grey)
  (x,) = stored(grey, 'train')
  assert x.shape == (5, 16, 16, 1)
  # ITU-R 601 luma of red, green, blue and white.
  found = x[0, [3, 3, 12, 12], [3, 12, 3, 12], 0].astype(int)
  assert np.abs(found - [76, 150, 29, 255]).max() < 12


def test_arrays_of_an_npz_are_videos(tmp_path):
  folder = tmp_path / 'source'
  folder.mkdir()
  for index in range(3):
    grey = levels(6)[:, None, None] + np.zeros((6, 8, 8), np.uint8)
    rgb = np.full((4, 8, 8, 3), 200)
    np.savez(folder / f'{index}.npz', a=grey.astype(np.uint8), b=rgb.astype(np.uint8))
  video_set = builder(tmp_path, folder, color='grey')
  prepare.prepare(video_set)
  a, b = stored(video_set, 'train')
  assert shown(a) == [0, 1, 2, 3]
  assert (b == 200).all()


def test_squeezes_or_crops(tmp_path):
  folder = tmp_path / 'source'
  folder.mkdir()
  x = np.zeros((4, 16, 32, 1), np.uint8)
  x[:, :, 8:24] = 200  # the middle square is all bright
  for index in range(3):
    np.savez(folder / f'{index}.npz', x)
  found = {}
  for fit in ('squeeze', 'crop'):
    video_set = builder(tmp_path, folder, fit=fit, color='grey')
    prepare.prepare(video_set)
    (found[fit],) = stored(video_set, 'test')
  assert (found['crop'] == 200).all()
  assert (found['squeeze'][..., [0, 7], 0] == 0).all()
  assert (found['squeeze'][..., [3, 4], 0] == 200).all()


# ---- clips ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
  ('options', 'expected'),
  [
    ({}, [range(0, 4), range(4, 8)]),
    ({'stride': 3}, [range(0, 4), range(3, 7), range(6, 10)]),
    ({'stride': 6}, [range(0, 4), range(6, 10)]),
    ({'min_frames': 3}, [range(0, 4), range(4, 8), range(8, 11)]),
    ({'min_frames': 4}, [range(0, 4), range(4, 8)]),
    ({'stride': 3, 'min_frames': 2}, [range(0, 4), range(3, 7), range(6, 10), range(9, 11)]),
    ({'num_frames': 11, 'stride': 2, 'min_frames': 2}, [range(0, 11)]),
    ({'num_frames': 500, 'min_frames': 2}, [range(0, 11)]),
  ],
)
def test_videos_are_cut_into_clips(tmp_path, source, options, expected):
  video_set = builder(tmp_path, source, color='grey', **options)
  content = prepare.prepare(video_set)
  clips = stored(video_set, 'validation')
  assert [shown(clip) for clip in clips] == [list(frames) for frames in expected]
  assert video_set.ragged == ('min_frames' in options and options['min_frames'] != 4)
  assert ('lengths' in content['splits']['train']) == video_set.ragged


def test_clips_go_through_the_pipeline(tmp_path, source):
  video_set = builder(tmp_path, source, min_frames=3)
  prepare.prepare(video_set)
  opened = prepare.open_split(video_set, 'train')
  batch = next(pipeline.training_batches(opened, batch_size=4, length=3, seed=0))
  assert batch['x'].shape == (4, 3, 8, 8, 3)
  assert batch['x'].dtype == np.uint8
  sizes = [len(stored(video_set, split)) for split in SPLITS]
  assert sizes == [3 * 7, 3, 3]
  assert [video_set.split_size(split) for split in SPLITS] == sizes


def test_short_videos_are_counted(tmp_path, source):
  for index in range(3):
    write_video(source / f'short{index}.avi', levels(3), size=SIZE)
  content = prepare.prepare(builder(tmp_path, source, percent_test=30, percent_validation=30))
  assert content['notes'] == [
    'files: train 4, validation 4, test 4',
    '3 videos have fewer than 4 frames',
  ]


# ---- splits --------------------------------------------------------------------------------------


def names(video_set):
  return {split: [file.name for file in video_set.recordings[split]] for split in SPLITS}


def test_files_are_divided_by_the_hash_of_their_names(tmp_path, source):
  found = names(builder(tmp_path, source, percent_test=30, percent_validation=20))
  assert [len(found[split]) for split in SPLITS] == [4, 2, 3]
  assert sorted(sum(found.values(), [])) == [f'{index}.avi' for index in range(9)]
  shutil.move(source, tmp_path / 'moved')
  moved = builder(tmp_path, tmp_path / 'moved', percent_test=30, percent_validation=20)
  assert names(moved) == found


def test_subfolders_are_splits(tmp_path, source):
  for index, folder in enumerate(['train', 'train/deep', 'val', 'test', 'other', '.hidden']):
    (source / folder).mkdir(parents=True)
    shutil.move(source / f'{index}.avi', source / folder)
  assert names(builder(tmp_path, source)) == {
    'train': ['train/0.avi', 'train/deep/1.avi'],
    'validation': ['val/2.avi'],
    'test': ['test/3.avi'],
  }
  shutil.rmtree(source / 'val')
  found = names(builder(tmp_path, source))
  assert sorted(found['train'] + found['validation']) == ['train/0.avi', 'train/deep/1.avi']
  assert len(found['validation']) == 1
  assert found['test'] == ['test/3.avi']


def test_the_same_names_and_sizes_with_other_content_are_other_files(tmp_path, source):
  for index in range(3):
    save_frames(source / f'{index}.npz', 8 * index)
  before = builder(tmp_path, source).source_digest()
  assert builder(tmp_path, source).source_digest() == before
  save_frames(source / '1.npz', 9)
  assert builder(tmp_path, source).source_digest() != before


def save_frames(path, level):
  np.savez(path, x=np.full((20, *SIZE), level, np.uint8))


def test_other_files_replace_and_labels_separate(tmp_path, source):
  first = builder(tmp_path, source)
  prepare.prepare(first)
  write_video(source / 'new.avi', levels(8), size=SIZE)
  said = []
  second = builder(tmp_path, source)
  second.report = said.append
  prepare.prepare(second)
  assert 'was made from other files' in said[0]
  assert builder(tmp_path, source, label='birds').data_dir != first.data_dir


# ---- what is refused -----------------------------------------------------------------------------


def remove_all(folder):
  shutil.rmtree(folder)
  folder.mkdir()


def save(folder, **arrays):
  np.savez(folder / 'x.npz', **arrays)


def two_bad(folder):
  (folder / 'a.mp4').write_bytes(b'nothing')
  (folder / 'b.gif').write_bytes(b'GIF89a')


def lying(folder):
  """An .npz whose header promises far more than there is."""
  import io
  import zipfile

  header = io.BytesIO()
  np.lib.format.write_array_header_1_0(
    header, {'descr': '|u1', 'fortran_order': False, 'shape': (10**6, 999, 999)}
  )
  with zipfile.ZipFile(folder / 'x.npz', 'w') as archive:
    archive.writestr('a.npy', header.getvalue() + bytes(99))


MISTAKES = {
  'nothing there': (remove_all, ['nothing for', 'three files', '.mp4']),
  'one bad file': (lambda s: (s / '3.avi').write_bytes(b'x' * 999), ['3.avi', 'read as a video']),
  'two bad files': (two_bad, ["2 files can't be read", 'a.mp4, ', 'b.gif']),
  'empty file': (lambda s: (s / 'e.mp4').write_bytes(b''), ['e.mp4']),
  'floats': (lambda s: save(s, a=np.zeros((4, 8, 8))), ['x.npz', 'float64', 'uint8']),
  'images': (lambda s: save(s, a=np.zeros((8, 8), np.uint8)), ['x.npz', '(8, 8)']),
  'alpha': (lambda s: save(s, a=np.zeros((4, 8, 8, 4), np.uint8)), ['x.npz', '(4, 8, 8, 4)']),
  'pickle': (lambda s: save(s, a=np.array([{}, None])), ['x.npz', 'object']),
  'no frames': (lambda s: save(s, a=np.zeros((0, 8, 8), np.uint8)), ['x.npz', 'no frame']),
  'lying header': (lying, ['x.npz', '1000000']),
}


@pytest.mark.parametrize('mistake', MISTAKES)
def test_unusable_files_end_in_one_line(tmp_path, source, mistake):
  spoil, words = MISTAKES[mistake]
  spoil(source)
  with pytest.raises(DataError) as caught:
    prepare.prepare(builder(tmp_path, source))
  one_line(caught, *words)
  assert not list((tmp_path / 'data').rglob('*.array_record*'))


def test_clips_longer_than_all_videos_are_refused(tmp_path, source):
  with pytest.raises(DataError) as caught:
    prepare.prepare(builder(tmp_path, source, num_frames=12))
  one_line(caught, 'all 7 videos for train', 'fewer frames than 12', 'data.num_frames')


@pytest.mark.parametrize(
  ('options', 'words'),
  [
    ({'min_frames': 5}, ['min_frames=5', '2..4']),
    ({'min_frames': 1}, ['min_frames=1', '2..4']),
    ({'label': '../up'}, ['label', 'letters']),
    ({'color': 'gray'}, ['color', 'did you mean "grey"']),
  ],
)
def test_mistakes_in_options_are_one_line(tmp_path, source, options, words):
  with pytest.raises(ConfigError) as caught:
    builder(tmp_path, source, **options)
  one_line(caught, *words)


def test_without_pyav_the_command_is_named(tmp_path, source, monkeypatch):
  monkeypatch.setitem(__import__('sys').modules, 'av', None)
  with pytest.raises(PlatformError) as caught:
    prepare.prepare(builder(tmp_path, source))
  one_line(caught, 'PyAV', "pip install 'av")
