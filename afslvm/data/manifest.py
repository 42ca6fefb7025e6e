"""The manifest beside a prepared data set: what is in it, and the checksum of every file.

It is written last, so a directory without one was never completed.
"""

import hashlib
import json
import os
from typing import Any

import numpy as np

from afslvm.data.base import SPLITS, SequenceBuilder, Tally
from afslvm.data.sources import one_line, sha256
from afslvm.errors import DataError

NAME = 'afslvm_manifest.json'
_FORMAT = 1


def summary(builder: SequenceBuilder, tally: Tally) -> dict[str, Any]:
  """Returns the manifest's entry for one split: counts, shapes, range and content checksum.

  Of ragged data `frames` is the longest sequence, and `lengths` are those of all.
  """
  return {
    'sequences': tally.sequences,
    'frames': max(tally.lengths) if builder.ragged else builder.num_frames,
    **({'lengths': tally.lengths} if builder.ragged else {}),
    'event_shape': list(builder.event_shape),
    'dtype': builder.dtype.name,
    'minimum': tally.minimum,
    'maximum': tally.maximum,
    'sha256': tally.digest.hexdigest(),
  }


def write(builder: SequenceBuilder):
  """Writes the manifest of the directory that `builder` has just filled."""
  folder = builder.data_dir
  files = {}
  for name in sorted(os.listdir(folder)):
    path = os.path.join(folder, name)
    _flush_to_disk(path)
    files[name] = {'bytes': os.path.getsize(path), 'sha256': sha256(path)}
  content = {
    'format': _FORMAT,
    **_identity(builder),
    'options': vars(builder.options),
    'source_digest': builder.source_digest(),
    'notes': builder.notes(),
    'splits': {split: summary(builder, builder.tallies[split]) for split in SPLITS},
    **({'constants': constants} if (constants := builder.constants()) else {}),
    'files': files,
  }
  with open(os.path.join(folder, NAME), 'w') as file:
    json.dump(content, file, indent=2)
  _flush_to_disk(os.path.join(folder, NAME))


def read(builder: SequenceBuilder) -> dict[str, Any]:
  """Reads the manifest and checks that it is of this data set.

  Raises:
    DataError: no manifest, or one that isn't ours; the message lacks the remedy.
  """
  path = os.path.join(builder.data_dir, NAME)
  if not os.path.isfile(path):
    raise DataError(f'{builder.data_dir} is incomplete, it has no {NAME}')
  try:
    with open(path) as file:
      content = json.load(file)
    if content['format'] != _FORMAT or any(
      content[key] != value for key, value in _identity(builder).items()
    ):
      raise DataError(f'{path} is of another data set or version')
    _ = [int(content['splits'][split]['sequences']) for split in SPLITS]
    if builder.ragged:
      _ = [lengths(content, split).sum() for split in SPLITS]
    _ = dict(content.get('constants', {}))
    _ = [(entry['bytes'], entry['sha256']) for entry in content['files'].values()]
  except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
    raise DataError(f'{path} is damaged ({one_line(error)})') from error
  return content


def lengths(content: dict[str, Any], split: str) -> np.ndarray | None:
  """Returns the length of every sequence [N] of ragged data, None of others."""
  found = content['splits'][split].get('lengths')
  return None if found is None else np.array(found, np.int64)


def check_files(folder: str, content: dict[str, Any], full: bool):
  """Compares the files in `folder` with the manifest's list.

  Existence and size always; checksums of all files where `full`, otherwise of the small
  descriptions only.

  Raises:
    DataError: the first difference, by path; the message lacks the remedy.
  """
  for name, entry in content['files'].items():
    path = os.path.join(folder, name)
    if os.path.basename(name) != name:
      raise DataError(f'{os.path.join(folder, NAME)} is damaged (it lists {name!r})')
    if not os.path.isfile(path):
      raise DataError(f'{path} is missing')
    if (size := os.path.getsize(path)) != entry['bytes']:
      raise DataError(f'{path} has {size} bytes, expected {entry["bytes"]}')
    if (full or name.endswith('.json')) and sha256(path) != entry['sha256']:
      raise DataError(f'{path} is damaged, its SHA-256 differs from the manifest')


def fingerprint(content: dict[str, Any]) -> str:
  """Returns 16 hexadecimal digits that identify the data, whatever file format holds them."""
  keys = ('dataset', 'config', 'version', 'splits', 'constants')
  identity = {key: content[key] for key in keys if key in content}
  return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def _identity(builder: SequenceBuilder) -> dict[str, str]:
  return {
    'dataset': builder.name,
    'config': builder.builder_config.name,
    'version': str(builder.version),
  }


def _flush_to_disk(path: str):
  with open(path, 'rb') as file:
    os.fsync(file.fileno())
