"""BAIR robot pushing, on records that this file writes in the published layout."""

import io
import os
import pathlib
import shutil
import struct
import tarfile

import google_crc32c
import numpy as np
import pytest
from tensorflow_datasets.proto import tf_example_pb2

from afslvm.data import pipeline, prepare, shards, tfrecords
from afslvm.data.bair import Bair
from afslvm.errors import DataError, PlatformError

# Files in the order of their numbers, which isn't that of their names.
TRAIN = {'traj_0_to_1': [0, 1], 'traj_2_to_3': [2, 3], 'traj_10_to_10': [10]}
TEST = {'traj_0_to_1': [100, 101]}


def masked(content):
  crc = google_crc32c.value(content)
  return struct.pack('<I', ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32)


def framed(content):
  length = struct.pack('<Q', len(content))
  return length + masked(length) + content + masked(content)


def frames(index, camera):
  """Video of the level `index`, with the frame's number in one corner, the camera's in another."""
  x = np.full((30, 64, 64, 3), index, np.uint8)
  x[:, 0, 0, 0] = np.arange(30)
  x[:, 63, 63, 2] = {'image_aux1': 1, 'image_main': 2}[camera]
  return x


def example(index, num_frames=30, edit=lambda features: None, cls=tf_example_pb2.Example):
  message = cls()
  group = message.features if cls is tf_example_pb2.Example else message.context
  for t in range(num_frames):
    for camera in ('image_aux1', 'image_main'):
      content = frames(index, camera)[t].tobytes()
      group.feature[f'{t}/{camera}/encoded'].bytes_list.value.append(content)
    group.feature[f'{t}/action'].float_list.value.extend([index, t, 0.5, -1])
    group.feature[f'{t}/endeffector_pos'].float_list.value.extend([t, index, 0.25])
  edit(group.feature)
  return message.SerializeToString()


def write(path, contents):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(b''.join(map(framed, contents)))


@pytest.fixture(scope='session')
def original(tmp_path_factory):
  folder = tmp_path_factory.mktemp('bair') / 'softmotion30_44k'
  for part, files in (('train', TRAIN), ('test', TEST)):
    for name, numbers in files.items():
      write(folder / part / f'{name}.tfrecords', map(example, numbers))
  return folder


@pytest.fixture
def source(original, tmp_path):
  return pathlib.Path(shutil.copytree(original, tmp_path / 'softmotion30_44k'))


def builder(tmp_path, source, **options):
  found = Bair(str(tmp_path / 'data'), str(source), **{'num_validation': 2, **options})
  found.report = lambda line: None
  return found


def one_line(caught, *words):
  message = str(caught.value)
  assert '\n' not in message
  assert all(word in message for word in words), message


# ---- checksums -----------------------------------------------------------------------------------


def crc32c(content):
  """CRC-32C bit by bit (RFC 3720)."""
  crc = 0xFFFFFFFF
  for byte in content:
    crc ^= byte
    for _ in range(8):
      crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
  return crc ^ 0xFFFFFFFF


def test_checksums_are_those_of_the_definition():
  assert crc32c(b'123456789') == 0xE3069283  # RFC 3720
  rng = np.random.default_rng(0)
  for content in (b'', b'123456789', bytes(8), rng.bytes(300)):
    crc = crc32c(content)
    rotated = crc >> 15 | (crc & 0x7FFF) << 17
    assert tfrecords.masked_crc(content) == (rotated + 0xA282EAD8) % 2**32
  # An empty record, as TensorFlow writes it.
  assert framed(b'') == bytes(8) + bytes.fromhex('29039807d8ea82a2')


# ---- what is read --------------------------------------------------------------------------------


@pytest.mark.parametrize('camera', ['image_aux1', 'image_main'])
def test_videos_actions_and_positions_are_kept(tmp_path, source, camera):
  bair = builder(tmp_path, source, camera=camera)
  content = prepare.prepare(bair)
  # The last two training videos are for validation.
  expected = {'train': [0, 1, 2], 'validation': [3, 10], 'test': [100, 101]}
  for split, numbers in expected.items():
    opened = prepare.open_split(bair, split)
    assert len(opened) == bair.split_size(split) == len(numbers)
    for position, number in enumerate(numbers):
      record = opened.record(position)
      np.testing.assert_array_equal(opened[position], frames(number, camera))
      np.testing.assert_array_equal(record['action'][7], np.float32([number, 7, 0.5, -1]))
      np.testing.assert_array_equal(record['endeffector_pos'][29], np.float32([29, number, 0.25]))
      assert record['action'].shape == (30, 4)
  assert content['notes'] == [
    '5 of 43,264 training videos, the last 2 of them for validation; 2 of 256 test videos'
  ]
  batch = next(iter(pipeline.evaluation_batches(opened, batch_size=2, length=13)))
  assert batch['x'].shape == (2, 13, 64, 64, 3)


def make_tar(source, path, mode='w'):
  with tarfile.open(path, mode) as archive:
    archive.add(source, 'softmotion30_44k')
  return path


def test_tar_is_read_in_place(tmp_path, source):
  unpacked = prepare.prepare(builder(tmp_path / 'a', source))
  path = make_tar(source, tmp_path / 'bair.tar')
  shutil.rmtree(source)
  before = {p for p in tmp_path.rglob('*') if 'tfrecord' in p.name}
  packed = prepare.prepare(builder(tmp_path / 'b', path))
  assert packed['splits'] == unpacked['splits']
  assert packed['source_digest'] == unpacked['source_digest']
  assert {p for p in tmp_path.rglob('*') if 'tfrecord' in p.name} == before


def test_sequence_examples_are_read_as_well(tmp_path, source):
  write(
    source / 'test' / 'traj_0_to_1.tfrecords',
    [example(n, cls=tf_example_pb2.SequenceExample) for n in (100, 101)],
  )
  bair = builder(tmp_path, source)
  prepare.prepare(bair)
  np.testing.assert_array_equal(prepare.open_split(bair, 'test')[1], frames(101, 'image_aux1'))


def test_splits_are_written_in_several_files(tmp_path, source, monkeypatch):
  whole = prepare.prepare(builder(tmp_path / 'a', source))
  monkeypatch.setattr(shards, 'SHARD_BYTES', 800_000)  # a record has 369 kB
  bair = builder(tmp_path / 'b', source)
  content = prepare.prepare(bair)
  assert content['splits'] == whole['splits']
  names = [name for name in content['files'] if 'train' in name]
  assert names == [f'bair-train.array_record-0000{i}-of-00002' for i in (0, 1)]
  np.testing.assert_array_equal(prepare.open_split(bair, 'train')[2], frames(2, 'image_aux1'))


# ---- what is refused -----------------------------------------------------------------------------


def file(source):
  return source / 'train' / 'traj_2_to_3.tfrecords'


def cut(source, left):
  os.truncate(file(source), left if left > 0 else file(source).stat().st_size + left)


def flip(source, position):
  content = bytearray(file(source).read_bytes())
  content[position] ^= 4
  file(source).write_bytes(content)


def rewrite(source, **options):
  write(file(source), [example(2), example(3, **options)])


def drop(name):
  return lambda features: features.pop(name)


def shorten(features):
  features['3/image_aux1/encoded'].bytes_list.value[0] = b'\x89PNG' + bytes(900)


SECOND = 'traj_2_to_3.tfrecords: record 1'
MISTAKES = {
  'cut in a record': (lambda s: cut(s, -1000), [SECOND, 'cut off']),
  'cut in a checksum': (lambda s: cut(s, -1), [SECOND, 'cut off']),
  'cut in a header': (lambda s: cut(s, 7), ['record 0 at byte 0', 'cut off']),
  'flip in a length': (lambda s: flip(s, 2), ['traj_2_to_3.tfrecords: record 0', 'header']),
  'flip in a checksum': (lambda s: flip(s, 9), ['traj_2_to_3.tfrecords: record 0', 'header']),
  'flip in a frame': (lambda s: flip(s, -5000), [SECOND, 'checksum differs']),
  'other content': (
    lambda s: write(file(s), [b'\xff' * 99]), ['traj_2_to_3.tfrecords: record 0', 'no tf.train'],
  ),
  'text': (lambda s: file(s).write_text('hello ' * 99), ['record 0', 'no TFRecord file']),
  '29 frames': (lambda s: rewrite(s, num_frames=29), [SECOND, '29/image_aux1/encoded', '0 values']),
  'no action': (lambda s: rewrite(s, edit=drop('4/action')), [SECOND, '4/action', '0 numbers']),
  'png': (lambda s: rewrite(s, edit=shorten), [SECOND, '3/image_aux1', '904 bytes', '12288']),
  'no test set': (lambda s: shutil.rmtree(s / 'test'), ['nothing for test', '.tar']),
  'no training set': (lambda s: shutil.rmtree(s / 'train'), ['nothing for train', '.tar']),
  'twins': (lambda s: shutil.copytree(s / 'test', s / 'more' / 'test'), ['2 files test/traj_0']),
}  # fmt: skip


@pytest.mark.parametrize('mistake', MISTAKES)
def test_unusable_sources_end_in_one_line(tmp_path, source, mistake):
  spoil, words = MISTAKES[mistake]
  spoil(source)
  with pytest.raises(DataError) as caught:
    prepare.prepare(builder(tmp_path, source))
  one_line(caught, *words)
  assert not list((tmp_path / 'data').rglob('*.array_record*'))


def test_too_few_for_validation_are_refused(tmp_path, source):
  with pytest.raises(DataError) as caught:
    prepare.prepare(builder(tmp_path, source, num_validation=5))
  one_line(caught, '5 training videos', 'data.num_validation')


def add_traversal(path):
  with tarfile.open(path, 'a') as archive:
    member = tarfile.TarInfo('../../train/evil.tfrecords')
    member.size = 3
    archive.addfile(member, io.BytesIO(b'abc'))


def add_link(path):
  with tarfile.open(path, 'a') as archive:
    member = tarfile.TarInfo('softmotion30_44k/train/link.tfrecords')
    member.type, member.linkname = tarfile.SYMTYPE, '/etc/passwd'
    archive.addfile(member)


def damage_last_header(path):
  with tarfile.open(path) as archive:
    begin = archive.getmembers()[-1].offset
  content = bytearray(path.read_bytes())
  content[begin] ^= 4
  path.write_bytes(content)


TARS = {
  'traversal': (add_traversal, ['../../train/evil.tfrecords', 'outside']),
  'link': (add_link, ['link.tfrecords', 'ordinary file']),
  'truncated': (lambda path: os.truncate(path, path.stat().st_size // 2), ['bair.tar', 'complete']),
  'damaged header': (damage_last_header, ['bair.tar', 'damaged header', 'at byte']),
  'text': (lambda path: path.write_text('no tar'), ['bair.tar', 'plain tar']),
}


@pytest.mark.parametrize('mistake', TARS)
def test_unusable_tars_end_in_one_line(tmp_path, source, mistake):
  spoil, words = TARS[mistake]
  path = make_tar(source, tmp_path / 'bair.tar')
  spoil(path)
  with pytest.raises(DataError) as caught:
    prepare.prepare(builder(tmp_path, path))
  one_line(caught, *words)
  assert not list(tmp_path.rglob('evil*'))


def test_compressed_tar_is_refused(tmp_path, source):
  path = make_tar(source, tmp_path / 'bair.tar.gz', 'w:gz')
  with pytest.raises(DataError) as caught:
    prepare.prepare(builder(tmp_path, path))
  one_line(caught, 'bair.tar.gz', 'decompress it')


def test_without_the_checksum_package_the_command_is_named(tmp_path, source, monkeypatch):
  monkeypatch.setitem(__import__('sys').modules, 'google_crc32c', None)
  with pytest.raises(PlatformError) as caught:
    prepare.prepare(builder(tmp_path, source))
  one_line(caught, 'google-crc32c', "pip install 'google-crc32c")
