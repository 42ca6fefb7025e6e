"""Prepared data on disk: written once and atomically, verified, opened for random access."""

import contextlib
import fcntl
import operator
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from afslvm.data import manifest as manifest_lib
from afslvm.data.base import SPLITS, Progress, SequenceBuilder, Tally, quiet_tfds
from afslvm.data.sources import one_line
from afslvm.errors import ConfigError, DataError, PlatformError, nearest

_STAGING = '.staging-'


class RecordSource:
  """Random access to the sequences of one split; `source[i]` is x [T, *event].

  Attributes:
    dataset, split: names, for messages.
    num_frames: T, of ragged data the longest. lengths: T of every sequence [N]; None if all equal.
    event_shape, dtype: of one observation. data_space: see `SequenceBuilder`.
    constants: what the manifest keeps of `SequenceBuilder.constants`.
  """

  def __init__(self, builder: SequenceBuilder, split: str, records, lengths=None, constants=None):
    self.dataset, self.split = builder.name, split
    self.lengths: np.ndarray | None = lengths
    self.num_frames = builder.num_frames if lengths is None else int(lengths.max())
    self.event_shape, self._extras = builder.event_shape, builder.EXTRAS
    self.dtype, self.data_space = builder.dtype, builder.data_space
    self.constants: dict[str, Any] = constants or {}
    self._path, self._remedy = builder.data_dir, remedy(builder)
    self._records = records

  def __len__(self) -> int:
    return len(self._records)

  def __getitem__(self, index) -> np.ndarray:
    return self.record(index)['x']

  def record(self, index) -> dict[str, np.ndarray]:
    """Returns x [T, *event] and what else the data set keeps of the sequence, such as actions."""
    index = operator.index(index)
    if not -len(self) <= index < len(self):
      raise IndexError(f'{self!r} has no record {index}')
    index %= len(self)
    try:
      record = self._records[index]
      found = {name: (values.shape, values.dtype) for name, values in record.items()}
    except Exception as error:
      raise self._damaged(index, one_line(error)) from error
    num_frames = self.num_frames if self.lengths is None else self.lengths[index]
    shapes = {name: ((num_frames, *shape), 'float32') for name, shape in self._extras.items()}
    if found != {'x': ((num_frames, *self.event_shape), self.dtype), **shapes}:
      raise self._damaged(index, f'it is {found}')
    return record

  def __repr__(self) -> str:
    return f'RecordSource({self.dataset}, {self.split}, {len(self)} sequences)'

  def _damaged(self, index: int, why: str) -> DataError:
    place = f'{self.dataset}, split {self.split}, record {index}'
    return DataError(f'{place} in {self._path} is damaged ({why}); {self._remedy}')


def prepare(builder: SequenceBuilder) -> dict[str, Any]:
  """Makes sure that the data set is on disk and intact; writes it where it isn't.

  Data that fail verification, or were made from other files than `source` holds now, are replaced.
  A new data set is written beside its final place and
  renamed when complete, so no reader ever sees a part of it; processes that prepare the same data
  set wait for one another. Messages go to `builder.report`.

  Returns:
    The manifest.

  Raises:
    DataError: source files that are missing or damaged.
    PlatformError: a directory that can't be written.
  """
  digest = builder.source_digest() if builder.source else None
  if os.path.isdir(builder.data_dir):
    try:
      return _verify_up_to_date(builder, digest)
    except DataError as error:
      builder.report(f'{str(error).partition("; ")[0]}; it will be replaced')
  with _platform_errors(builder), _exclusively(builder):
    # Another process may have done it while this one waited.
    with contextlib.suppress(DataError):
      return _verify_up_to_date(builder, digest)
    _build(builder)
  return verify(builder)


def _verify_up_to_date(builder: SequenceBuilder, digest: str | None) -> dict[str, Any]:
  if digest is not None and digest != read_manifest(builder).get('source_digest', ''):
    raise DataError(f'{builder.data_dir} was made from other files than {builder.source} holds')
  return verify(builder)


def verify(builder: SequenceBuilder) -> dict[str, Any]:
  """Checks all files and reads all records: counts, shapes, types, ranges and checksums.

  Returns:
    The manifest.

  Raises:
    DataError: the first defect, with the command that repairs it.
  """
  content = read_manifest(builder, full=True)
  for split in SPLITS:
    source = _open(builder, split, content)
    tally, progress = Tally(), Progress(builder.report, f'{builder.name}: verifying {split}')
    for index in range(len(source)):
      tally.add(source.record(index))
      progress(index, len(source), 'sequences')
    found = manifest_lib.summary(builder, tally)
    for key, expected in content['splits'][split].items():
      if found.get(key) != expected:
        raise _defect(
          builder, f'{builder.data_dir}: {split} has {key} {found.get(key)}, not {expected}'
        )
  return content


def read_manifest(builder: SequenceBuilder, full: bool = False) -> dict[str, Any]:
  """Reads the manifest and compares the files with it, their checksums too where `full`.

  Raises:
    DataError: missing or damaged data, with the command that repairs it.
  """
  if not os.path.isdir(builder.data_dir):
    raise _defect(builder, f'{builder.name} is not prepared, there is no {builder.data_dir}')
  try:
    content = manifest_lib.read(builder)
    manifest_lib.check_files(builder.data_dir, content, full)
  except DataError as error:
    raise _defect(builder, f'{builder.name}: {error}') from error
  return content


def open_split(builder: SequenceBuilder, split: str) -> RecordSource:
  """Opens one split; a missing embedded data set is prepared first.

  Sizes of all files are checked, and checksums of the small ones; `verify` checks everything.

  Raises:
    ConfigError: an unknown split.
    DataError: missing or damaged data, with the command that repairs it.
  """
  if split not in SPLITS:
    raise ConfigError(
      f'split={split}: {builder.name} has {", ".join(SPLITS)}{nearest(split, SPLITS)}'
    )
  if builder.embedded and not os.path.isdir(builder.data_dir):
    builder.report(f'{builder.name}: preparing {builder.data_dir}')
    prepare(builder)
  return _open(builder, split, read_manifest(builder))


def fingerprint(builder: SequenceBuilder) -> str:
  """Returns 16 hexadecimal digits that identify the prepared data by content.

  Raises:
    DataError: missing or damaged data.
  """
  return manifest_lib.fingerprint(read_manifest(builder))


def remedy(builder: SequenceBuilder) -> str:
  """Returns 'run: ' and the command that prepares this data set."""
  words = ['python', 'launch/prepare_data.py', f'--dataset={builder.name}']
  if builder.source:
    words.append(f'--source={builder.source}')
  if builder.given_data_dir:
    words.append(f'--data_dir={builder.given_data_dir}')
  given, table = builder.given_options, builder.OPTIONS
  if chosen := [f'{k}={given[k]}' for k in given if given[k] != table[k].default]:
    words.append(f'--options={",".join(chosen)}')
  hint = '' if builder.embedded or builder.source else f' [--source=PATH, {builder.source_hint}]'
  return f'run: {shlex.join(words)}{hint}'


def _open(builder: SequenceBuilder, split: str, content: dict[str, Any]) -> RecordSource:
  lengths = manifest_lib.lengths(content, split)
  try:
    with quiet_tfds():
      builder.info.read_from_directory(builder.data_dir)
      records = builder.as_data_source(split)
    if lengths is not None and len(lengths) != len(records):
      raise ValueError(f'{len(records)} records, {len(lengths)} lengths')
    return RecordSource(builder, split, records, lengths, content.get('constants'))
  except Exception as error:
    raise _defect(builder, f"{builder.data_dir}: can't open {split} ({one_line(error)})") from error


def _defect(builder: SequenceBuilder, what: str) -> DataError:
  files = f'{builder.name}-{{{",".join(SPLITS)}}}.array_record-*'
  layout = f'expected {files}, dataset_info.json, features.json and {manifest_lib.NAME} there'
  return DataError(f'{what}; {layout}; {remedy(builder)}')


def _build(builder: SequenceBuilder):
  """Writes the data set into a staging directory, then moves it to its place."""
  parent = os.path.dirname(builder.data_dir)
  for name in os.listdir(parent):
    if name.startswith(_STAGING):  # left by a process that was killed
      shutil.rmtree(os.path.join(parent, name), ignore_errors=True)
  staging = tempfile.mkdtemp(prefix=_STAGING, dir=parent)
  try:
    staged = builder.at(staging)
    with quiet_tfds():
      staged.download_and_prepare()
    manifest_lib.write(staged)
    if os.path.isdir(builder.data_dir):
      os.rename(builder.data_dir, os.path.join(staging, 'replaced'))
    os.rename(staged.data_dir, builder.data_dir)
  finally:
    shutil.rmtree(staging, ignore_errors=True)


@contextlib.contextmanager
def _exclusively(builder: SequenceBuilder) -> Iterator[None]:
  """Holds this data set's lock; the system releases it even if the process is killed."""
  parent = os.path.dirname(builder.data_dir)
  os.makedirs(parent, exist_ok=True)
  with open(os.path.join(parent, '.lock'), 'w') as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      builder.report(f'{builder.name}: waiting for another process that prepares {parent}')
      fcntl.flock(file, fcntl.LOCK_EX)
    yield


@contextlib.contextmanager
def _platform_errors(builder: SequenceBuilder) -> Iterator[None]:
  try:
    yield
  except (OSError, RuntimeError) as error:  # RuntimeError: how array_record reports a full disk
    raise PlatformError(
      f"{builder.name}: can't write {os.path.dirname(builder.data_dir)} ({one_line(error)}); "
      'free some space there or choose another --data_dir'
    ) from error
