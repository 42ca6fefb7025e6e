"""The folder of one run: its lock, its config, and records that survive a kill.

config.json        the config, as it was when training began
metrics.jsonl      reproducible values only: the same bytes whether or not the run was interrupted
timing.jsonl       wall-clock values
receipt.json       versions, commit, data, device, speed, memory
checkpoints/       verified checkpoints
tensorboard/       scalars and pictures
evaluation/        one JSON per protocol
"""

import fcntl
import json
import math
import os
import pathlib
import socket
from typing import Any

from afslvm import files
from afslvm.errors import ConfigError

# Keys that may change when a run is continued: they don't alter what was already computed.
CHANGEABLE = frozenset(
  f'train.{key}'
  for key in (
    'num_steps',
    'log_every',
    'eval_every',
    'checkpoint_every',
    'keep_checkpoints',
    'validation_batches',
    'max_skipped',
  )
) | {'data.data_dir', 'data.source'}


def flatten(config: dict[str, Any], prefix: str = '') -> dict[str, Any]:
  """Nested dictionaries -> {'a.b.c': value}."""
  flat: dict[str, Any] = {}
  for key, value in config.items():
    if isinstance(value, dict):
      flat.update(flatten(value, f'{prefix}{key}.'))
    else:
      flat[f'{prefix}{key}'] = value
  return flat


class Workdir:
  """Paths and records of a run; `with` holds its lock.

  Raises:
    ConfigError: the folder can't be made, another process trains in it, or it belongs to another
      config.
  """

  def __init__(self, path: str | os.PathLike):
    self.path = pathlib.Path(path)
    self.checkpoints = self.path / 'checkpoints'

  def __enter__(self) -> 'Workdir':
    try:
      self.path.mkdir(parents=True, exist_ok=True)
      self._lock = open(self.path / '.lock', 'a+')  # noqa: SIM115 (held until __exit__)
    except OSError as error:
      raise ConfigError(f'--workdir={self.path} can not be written: {error.strerror}') from error
    try:
      fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
      self._lock.seek(0)
      owner = self._lock.read().strip() or 'another process'
      self._lock.close()
      raise ConfigError(f'--workdir={self.path} is in use by {owner}; choose another') from None
    self._lock.truncate(0)
    self._lock.write(f'pid {os.getpid()} on {socket.gethostname()}\n')
    self._lock.flush()
    return self

  def __exit__(self, *exception):
    self._lock.close()

  def store_config(self, config: dict[str, Any]):
    """Writes config.json, or checks that the one there describes the same run."""
    path = self.path / 'config.json'
    if path.exists():
      stored = json.loads(path.read_text())
      if stored == config:
        return
      old, new = flatten(stored), flatten(config)
      changed = sorted(
        key
        for key in old.keys() | new.keys()
        if old.get(key) != new.get(key) and key not in CHANGEABLE
      )
      if changed:
        key = changed[0]
        raise ConfigError(
          f'--workdir={self.path} was trained with {key}={old.get(key)!r}, not {new.get(key)!r}'
          f'{f" ({len(changed)} keys differ)" if len(changed) > 1 else ""}; '
          'use another --workdir or the old value'
        )
    files.write_json(path, config)

  def truncate_records(self, step: int):
    """Drops records after `step`, so that resuming writes each of them once."""
    for name in ('metrics.jsonl', 'timing.jsonl'):
      path = self.path / name
      if path.exists():
        kept = [line for line in _complete_lines(path) if json.loads(line)['step'] <= step]
        temporary = path.with_name(name + '.tmp')
        temporary.write_text(''.join(kept))
        temporary.replace(path)

  def append(self, name: str, record: dict[str, Any]):
    """Adds one line to a `.jsonl` file; non-finite numbers become null."""
    clean = {
      key: None if isinstance(value, float) and not math.isfinite(value) else value
      for key, value in record.items()
    }
    with open(self.path / name, 'a') as file:
      file.write(json.dumps(clean) + '\n')
      file.flush()
      os.fsync(file.fileno())


def _complete_lines(path: pathlib.Path) -> list[str]:
  """The lines before the first that a kill cut short."""
  lines = []
  for line in path.read_text().splitlines(keepends=True):
    try:
      json.loads(line)
    except ValueError:
      break
    if not line.endswith('\n'):
      break
    lines.append(line)
  return lines
