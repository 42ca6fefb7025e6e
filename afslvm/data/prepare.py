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
from afslvm.data.base import SPLITS, SequenceBuilder, Tally, quiet_tfds
from afslvm.data.sources import one_line
from afslvm.errors import ConfigError, DataError, PlatformError, nearest

_STAGING = '.staging-'


class RecordSource:
  """Random access to the sequences of one split; `source[i]` is x [T, *event].

  Attributes:
    dataset, split: names, for messages.
    num_frames: T. event_shape, dtype: of one observation. data_space: '8bit' or 'continuous'.
  """

  def __init__(self, builder: SequenceBuilder, split: str, records):
    self.dataset, self.split = builder.name, split
    self.num_frames, self.event_shape = builder.num_frames, builder.event_shape
    self.dtype, self.data_space = builder.dtype, builder.data_space
    self._path, self._remedy = builder.data_dir, remedy(builder)
    self._records = records

  def __len__(self) -> int:
    return len(self._records)

  def __getitem__(self, index) -> np.ndarray:
    index = operator.index(index)
    if not -len(self) <= index < len(self):
      raise IndexError(f'{self!r} has no record {index}')
    try:
      x = self._records[index % len(self)]['x']
    except Exception as error:
      raise self._damaged(index, one_line(error)) from error
    if x.shape != (self.num_frames, *self.event_shape) or x.dtype != self.dtype:
      raise self._damaged(index, f'it is {x.dtype} {x.shape}')
    return x

  def __repr__(self) -> str:
    return f'RecordSource({self.dataset}, {self.split}, {len(self)} sequences)'

  def _damaged(self, index: int, why: str) -> DataError:
    place = f'{self.dataset}, split {self.split}, record {index}'
    return DataError(f'{place} in {self._path} is damaged ({why}); {self._remedy}')


def prepare(builder: SequenceBuilder) -> dict[str, Any]:
  """Makes sure that the data set is on disk and intact; writes it where it isn't.

  Data that fail verification are replaced. A new data set is written beside its final place and
  renamed when complete, so no reader ever sees a part of it; processes that prepare the same data
  set wait for one another. Messages go to `builder.report`.

  Returns:
    The manifest.

  Raises:
    DataError: source files that are missing or damaged.
    PlatformError: a directory that can't be written.
  """
  if os.path.isdir(builder.data_dir):
    try:
      return verify(builder)
    except DataError as error:
      builder.report(f'{str(error).partition("; ")[0]}; it will be replaced')
  with _platform_errors(builder), _exclusively(builder):
    # Another process may have done it while this one waited.
    with contextlib.suppress(DataError):
      return verify(builder)
    _build(builder)
  return verify(builder)


def verify(builder: SequenceBuilder) -> dict[str, Any]:
  """Checks all files and reads all records: counts, shapes, types, ranges and checksums.

  Returns:
    The manifest.

  Raises:
    DataError: the first defect, with the command that repairs it.
  """
  content = _inspect(builder, full=True)
  for split in SPLITS:
    source = _open(builder, split)
    tally = Tally()
    for index in range(len(source)):
      tally.add(source[index])
    found = manifest_lib.summary(builder, tally)
    for key, expected in content['splits'][split].items():
      if found.get(key) != expected:
        raise _defect(
          builder, f'{builder.data_dir}: {split} has {key} {found.get(key)}, not {expected}'
        )
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
  _inspect(builder, full=False)
  return _open(builder, split)


def fingerprint(builder: SequenceBuilder) -> str:
  """Returns 16 hexadecimal digits that identify the prepared data by content.

  Raises:
    DataError: missing or damaged data.
  """
  return manifest_lib.fingerprint(_inspect(builder, full=False))


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


def _inspect(builder: SequenceBuilder, full: bool) -> dict[str, Any]:
  if not os.path.isdir(builder.data_dir):
    raise _defect(builder, f'{builder.name} is not prepared, there is no {builder.data_dir}')
  try:
    content = manifest_lib.read(builder)
    manifest_lib.check_files(builder.data_dir, content, full)
  except DataError as error:
    raise _defect(builder, f'{builder.name}: {error}') from error
  return content


def _open(builder: SequenceBuilder, split: str) -> RecordSource:
  try:
    with quiet_tfds():
      builder.info.read_from_directory(builder.data_dir)
      return RecordSource(builder, split, builder.as_data_source(split))
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
