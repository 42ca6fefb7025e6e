"""JSON files: a kill or a full disk never leaves half of one, and none that is read is trusted."""

import hashlib
import json
import os
import pathlib
from typing import Any


def write_json(path: pathlib.Path, value: Any):
  """Writes JSON so that a reader sees the old file or the new one, never half of it."""
  temporary = path.with_name(path.name + '.tmp')
  with open(temporary, 'w') as file:
    json.dump(value, file, indent=1, allow_nan=False)
    file.flush()
    os.fsync(file.fileno())
  temporary.replace(path)


def read_json(path: pathlib.Path) -> dict[str, Any]:
  """Reads a JSON object.

  Raises:
    OSError: there is no such file, or it can't be read.
    ValueError: it is damaged, or holds something else than an object.
  """
  try:
    value = json.loads(path.read_bytes())
  except RecursionError:
    raise ValueError('it is nested too deeply') from None
  if not isinstance(value, dict):
    raise ValueError(f'it holds a {type(value).__name__}, not an object')
  return value


def own_sha256(content: dict[str, Any]) -> str:
  """The checksum that a JSON object carries, as 'sha256', of everything else in it."""
  others = {key: value for key, value in content.items() if key != 'sha256'}
  plain = json.loads(json.dumps(others))  # as it is read back: keys are words
  return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
