"""Folders of recordings, one file each: which files, in which split, and which can't be read."""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Sequence

from afslvm.data import base
from afslvm.errors import DataError

HASHED_BYTES = 1 << 20
FOLDERS = {
  'train': ('train', 'training'),
  'validation': ('validation', 'valid', 'val'),
  'test': ('test', 'testing'),
}


@dataclasses.dataclass(frozen=True)
class File:
  """A file of the folder; `name` is relative to it, `ends` the hash of its first and last bytes."""

  name: str
  size: int
  ends: str
  path: str = dataclasses.field(repr=False)


def split(source: str, suffixes: Sequence[str], percent: dict[str, int], cls: type = File) -> dict:
  """Divides the files of a folder into splits.

  Splits are the subfolders train, validation (or valid, val) and test where train and test exist.
  Otherwise files are put in the order of the SHA-256 of their relative names; the first are the
  test set, the next validation. Without a folder for validation its files are taken from train in
  the same way.

  Args:
    source: the folder.
    suffixes: of the files, in small letters.
    percent: of the files that become 'test' and 'validation', at least one file each.
    cls: of the files, a subclass of `File`.
  """
  found = {split: first_folder(source, names) for split, names in FOLDERS.items()}
  if not found['train'] or not found['test']:
    return held_out(files(source, source, suffixes, cls), percent)
  parts = {s: files(path, source, suffixes, cls) if path else [] for s, path in found.items()}
  if not found['validation']:
    parts |= held_out(parts['train'], {'validation': percent['validation']})
  return parts


def held_out(items: Sequence, percent: dict[str, int], key: str = '') -> dict[str, list]:
  """Takes `percent` of named items out, the rest being 'train'; each part is sorted by name.

  Items are put in the order of the SHA-256 of `key` and their names, which depends neither on the
  order nor on the presence of others.
  """
  ordered = sorted(items, key=lambda item: hashlib.sha256((key + item.name).encode()).digest())
  taken, parts = 0, {}
  for name, share in percent.items():
    number = max(1, round(len(items) * share / 100))
    parts[name] = ordered[taken : taken + number]
    taken += number
  parts['train'] = ordered[taken:]
  return {name: sorted(part, key=lambda item: item.name) for name, part in parts.items()}


def files(folder: str, source: str, suffixes: Sequence[str], cls: type = File) -> list:
  """All files below `folder` with one of the suffixes, by name relative to `source`."""
  found = []
  for path, inner, names in os.walk(folder):
    inner[:] = sorted(name for name in inner if not name.startswith('.'))
    for name in sorted(names):
      if name.lower().endswith(tuple(suffixes)) and not name.startswith('.'):
        file = os.path.join(path, name)
        relative = os.path.relpath(file, source).replace(os.sep, '/')
        found.append(cls(relative, os.path.getsize(file), _hash_of_ends(file), file))
  return found


def check_all(builder: base.SequenceBuilder, check: Callable, unit: str, kind: str):
  """Calls `check` on every file of the builder, so that all bad ones are named, and at once.

  Raises:
    DataError: what `check` raised, or where it did so more than once, the names of the files.
  """
  found = [file for split in base.SPLITS for file in builder.recordings[split]]
  progress = base.Progress(builder.report, f'{builder.name}: looking at the files')
  errors = []
  for index, file in enumerate(found):
    progress(index, len(found), unit)
    try:
      check(file)
    except DataError as error:
      errors.append((file.path, error))
  raise_all(errors, kind)


def raise_all(errors: Sequence[tuple[str, DataError]], kind: str):
  """Raises what was found wrong with files, given with their paths; nothing where there is none.

  Raises:
    DataError: the only error, or where there are more, the names of the files.
  """
  if len(errors) == 1:
    raise errors[0][1]
  if errors:
    names = ', '.join(path for path, _ in errors[:5])
    more = f' and {len(errors) - 5} more' if len(errors) > 5 else ''
    raise DataError(f"{len(errors)} files can't be read as {kind}: {names}{more}")


def first_folder(source: str, names: Sequence[str]) -> str:
  """The first of the folders that is there, or ''."""
  paths = (os.path.join(source, name) for name in names)
  return next((path for path in paths if os.path.isdir(path)), '')


def _hash_of_ends(path: str) -> str:
  """Tells files of one name and size apart without reading all of a long recording."""
  with open(path, 'rb') as file:
    digest = hashlib.sha256(file.read(HASHED_BYTES))
    file.seek(max(os.path.getsize(path) - HASHED_BYTES, 0))
    digest.update(file.read(HASHED_BYTES))
  return digest.hexdigest()
