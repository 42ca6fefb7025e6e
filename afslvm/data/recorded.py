"""Data sets that are read from files: what is in a split shows only in the source."""

import abc
import functools
import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

from afslvm.data import base, prepare
from afslvm.errors import DataError


class RecordedBuilder(base.SequenceBuilder):
  """Base of data sets made from recordings; `source` is needed to prepare them, not to use them."""

  @abc.abstractmethod
  def scan(self, source: str) -> Mapping[str, Sequence[Any]]:
    """Finds what `source` holds, without decoding it.

    Returns:
      {split: the recordings of that split in the order in which they are stored}; their `repr`
      tells one from another, by name and size.

    Raises:
      DataError: nothing there, or something unreadable.
    """

  @functools.cached_property
  def recordings(self) -> Mapping[str, Sequence[Any]]:
    """What the source holds, as `scan` returns it.

    Raises:
      DataError: no source, or a split that would be empty.
    """
    if not self.source:
      raise DataError(f'{self.name} is made from files; {prepare.remedy(self)}')
    if not os.path.exists(self.source):
      raise DataError(f'{self.source}: no such file or directory; give {self.source_hint}')
    found = self.scan(self.source)
    for split in base.SPLITS:
      if not found[split]:
        raise DataError(f'{self.source} holds nothing for {split}; {self.why_empty(split)}')
    return found

  def at(self, data_dir: str):
    """See base class; the source is scanned once."""
    builder = super().at(data_dir)
    if self.source:
      builder.recordings = self.recordings
    return builder

  def why_empty(self, split: str) -> str:
    """What a source without anything for `split` lacks."""
    return f'give {self.source_hint}'

  def expected_size(self, split: str) -> int | None:
    """See base class; a recording is one sequence unless a subclass says otherwise."""
    return len(self.recordings[split])

  def split_size(self, split: str) -> int:
    """See base class; needs prepared data, or the source."""
    if not os.path.isdir(self.data_dir) and (size := self.expected_size(split)) is not None:
      return size
    return int(prepare.read_manifest(self)['splits'][split]['sequences'])

  def source_digest(self) -> str:
    """See base class."""
    names = [[repr(item) for item in self.recordings[split]] for split in base.SPLITS]
    return hashlib.sha256(repr(names).encode()).hexdigest()
