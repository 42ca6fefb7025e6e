"""BAIR robot pushing (Ebert et al., 2017): a robot arm that pushes things about on a table."""

import collections
import dataclasses
import os
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from typing import IO

import numpy as np

from afslvm.data import recorded, tfrecords
from afslvm.data.options import Choice, Integer
from afslvm.data.sources import one_line
from afslvm.errors import DataError

NUM_FRAMES = 30
FRAME = (64, 64, 3)
OFFICIAL = {'train': 43_264, 'test': 256}
SUFFIXES = ('.tfrecord', '.tfrecords')


@dataclasses.dataclass(frozen=True)
class RecordFile:
  """A TFRecord file: bytes begin..begin+size-1 of the file at `path`, which may be a tar."""

  name: str
  size: int
  path: str = dataclasses.field(repr=False)
  begin: int = dataclasses.field(default=0, repr=False)

  @property
  def place(self) -> str:
    """What messages call it."""
    return f'{self.path}, {self.name}' if self.begin else self.path


@dataclasses.dataclass(frozen=True)
class Video:
  """One record of a file: its number there, where its content is, and how long."""

  file: RecordFile
  number: int
  position: int = dataclasses.field(repr=False)
  length: int


class Bair(recorded.RecordedBuilder):
  """BAIR robot pushing, 8 bit, [30, 64, 64, 3], with the robot's actions beside the frames.

  Made from the published TFRecords of softmotion30_44k, 43,264 videos in train/ and 256 in test/:
  `source` is the tar as it was downloaded, or the directory it unpacks to; a tar is read in place.
  Records also hold `action` [30, 4] and `endeffector_pos` [30, 3] (`RecordSource.record`).

  Options: `camera` image_aux1, which the papers use, or image_main; `num_validation`. There is no
  official validation set: the last so many training videos are it (1,280 are five of 169 files), in
  the order of the numbers in the files' names.
  """

  OPTIONS = {
    'camera': Choice('image_aux1', choices=('image_aux1', 'image_main')),
    'num_validation': Integer(1280, 'val', low=1),
  }
  EXTRAS = {'action': (4,), 'endeffector_pos': (3,)}
  data_space = '8bit'
  num_frames = NUM_FRAMES
  event_shape = FRAME
  source_hint = 'the plain .tar of softmotion30_44k, or a directory with its train/ and test/'

  def scan(self, source: str) -> Mapping[str, Sequence[Video]]:
    """See base class."""
    tfrecords.require_crc32c()
    files = _in_directory(source) if os.path.isdir(source) else _in_tar(source)
    parts: dict[str, list[Video]] = {'train': [], 'test': []}
    for file in sorted(files, key=_natural):
      part = file.name.split('/')[0]
      parts[part] += _videos(file)
    held_out = self.options.num_validation
    if 0 < len(parts['train']) <= held_out:
      raise DataError(
        f'{source}: has {len(parts["train"])} training videos and the last {held_out} would be for '
        'validation; lower data.num_validation'
      )
    training, validation = parts['train'][:-held_out], parts['train'][-held_out:]
    return {'train': training, 'validation': validation, 'test': parts['test']}

  def sequences(self, split: str) -> Iterator[dict[str, np.ndarray]]:
    """See base class; one video is in memory at a time."""
    path, opened = '', None
    try:
      for item in self.recordings[split]:
        if item.file.path != path:
          if opened:
            opened.close()
          path = item.file.path
          opened = _open(path)
        yield self._read(opened, item)
    finally:
      if opened:
        opened.close()

  def _read(self, opened: IO[bytes], item: Video) -> dict[str, np.ndarray]:
    place = f'{item.file.place}: record {item.number}'
    features = tfrecords.read(opened, item.position, item.length, place)
    steps = range(NUM_FRAMES)
    names = [f'{t}/{self.options.camera}/encoded' for t in steps]
    record = {'x': np.stack([_frame(features, name, place) for name in names])}
    for extra, (size,) in self.EXTRAS.items():
      record[extra] = np.stack([_floats(features, f'{t}/{extra}', size, place) for t in steps])
    return record

  def notes(self) -> list[str]:
    """Says how much of the official set the source has."""
    size = {split: len(videos) for split, videos in self.recordings.items()}
    train = size['train'] + size['validation']
    return [
      f'{train:,} of {OFFICIAL["train"]:,} training videos, the last {size["validation"]:,} '
      f'of them for validation; {size["test"]:,} of {OFFICIAL["test"]:,} test videos'
    ]


def _frame(features, name: str, place: str) -> np.ndarray:
  values = features[name].bytes_list.value if name in features else ()
  size = int(np.prod(FRAME))
  if len(values) != 1 or len(values[0]) != size:
    found = f'{len(values[0])} bytes' if len(values) == 1 else f'{len(values)} values'
    raise DataError(f'{place}: {name} has {found}, expected {size} bytes of a raw 64x64x3 frame')
  return np.frombuffer(values[0], np.uint8).reshape(FRAME)


def _floats(features, name: str, size: int, place: str) -> np.ndarray:
  values = features[name].float_list.value if name in features else ()
  if len(values) != size:
    raise DataError(f'{place}: {name} has {len(values)} numbers, expected {size}')
  return np.array(values, np.float32)


# ---- files ---------------------------------------------------------------------------------------


def _open(path: str) -> IO[bytes]:
  try:
    return open(path, 'rb')
  except OSError as error:
    raise DataError(f"{path}: can't be read ({one_line(error)})") from error


def _videos(file: RecordFile) -> list[Video]:
  with _open(file.path) as opened:
    records = tfrecords.index(opened, file.begin, file.size, file.place)
  return [Video(file, number, *record) for number, record in enumerate(records)]


def _in_directory(source: str) -> list[RecordFile]:
  files = []
  for folder, _, names in os.walk(source):
    for name in names:
      path = os.path.join(folder, name)
      if inner := _inner_name(path):
        files.append(RecordFile(inner, os.path.getsize(path), path))
  return _without_twins(files, source)


def _in_tar(source: str) -> list[RecordFile]:
  """Lists the TFRecord files of a plain tar; nothing is unpacked."""
  files, size = [], os.path.getsize(source)
  try:
    with tarfile.open(source, 'r:') as archive:
      members = archive.getmembers()
      # A damaged header ends the list of members without a word, as zeros do at the true end.
      archive.fileobj.seek(archive.offset)
      if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise ValueError(f'it has a damaged header, or no end, at byte {archive.offset}')
  except (tarfile.TarError, OSError, EOFError, ValueError) as error:
    raise DataError(
      f'{source}: is no complete plain tar ({one_line(error)}); decompress it if it is compressed, '
      'or give the directory it unpacks to'
    ) from error
  for member in members:
    if os.path.isabs(member.name) or '..' in member.name.split('/'):
      raise DataError(f'{source}: names a file outside of it, {member.name!r}; get it again')
    if not (inner := _inner_name(member.name)):
      continue
    if not member.isreg() or member.issparse():
      raise DataError(f'{source}: {member.name} is not an ordinary file; get it again')
    if member.offset_data + member.size > size:
      raise DataError(f'{source}: {member.name} is cut off; the tar is incomplete, get it again')
    files.append(RecordFile(inner, member.size, source, member.offset_data))
  return _without_twins(files, source)


def _inner_name(path: str) -> str:
  """'train/NAME.tfrecords' of any longer path, or '' for other files."""
  parts = path.replace(os.sep, '/').split('/')
  if len(parts) < 2 or parts[-2] not in OFFICIAL or not parts[-1].endswith(SUFFIXES):
    return ''
  return '/'.join(parts[-2:])


def _without_twins(files: list[RecordFile], source: str) -> list[RecordFile]:
  for name, count in collections.Counter(file.name for file in files).items():
    if count > 1:
      raise DataError(f'{source}: has {count} files {name}; give the directory of one data set')
  return files


def _natural(file: RecordFile) -> tuple:
  """Sorts traj_256_to_511 before traj_1024_to_1279."""
  return tuple(int(part) if part.isdigit() else part for part in re.split(r'(\d+)', file.name))
