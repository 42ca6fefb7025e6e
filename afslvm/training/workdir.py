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
import logging
import math
import os
import pathlib
import socket
from typing import Any

from afslvm import files
from afslvm.errors import ConfigError, PlatformError

log = logging.getLogger(__name__)

# Keys that say where the data lie on one machine.
LOCAL = frozenset({'data.data_dir', 'data.source'})

# Keys that may change when a run is continued: they don't alter what was already computed.
CHANGEABLE = (
  frozenset(
    f'train.{key}'
    for key in (
      'log_every',
      'eval_every',
      'checkpoint_every',
      'keep_checkpoints',
      'max_skipped',
    )
  )
  | LOCAL
)


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

  Args:
    path: of the folder.
    writes: False in all but one of several processes that train together: such a one holds no
      lock, and leaves config and records to the other.

  Raises:
    ConfigError: the folder can't be made, another process trains in it, or it belongs to another
      config.
  """

  def __init__(self, path: str | os.PathLike, writes: bool = True):
    if not os.fspath(path):
      raise ConfigError('--workdir is empty; name a folder')
    self.path = pathlib.Path(path).expanduser()
    self.checkpoints = self.path / 'checkpoints'
    self.writes = writes

  def __enter__(self) -> 'Workdir':
    if self.writes:
      self._hold_lock()
    return self

  def __exit__(self, *exception):
    if self.writes:
      self._lock.close()

  def _hold_lock(self):
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

  def check_config(self, config: dict[str, Any], trained: bool):
    """Checks that config.json, if there is one, describes the same run.

    Args:
      config: of this command.
      trained: whether there is a checkpoint; without one, any config may replace the old.

    Raises:
      ConfigError: it is damaged, or a value that decides what was computed differs.
    """
    path = self.path / 'config.json'
    if not trained or not path.exists():
      return
    try:
      old, new = flatten(files.read_json(path)), flatten(config)
    except (OSError, ValueError):
      raise ConfigError(f'{path} is damaged; restore it, or use another --workdir') from None
    # A constant learning rate knows no end, so more steps continue the same run.
    endless = old.get('optimizer.schedule') == new.get('optimizer.schedule') == 'constant'
    may_change = CHANGEABLE | {'train.num_steps'} if endless else CHANGEABLE
    keys = sorted((old.keys() | new.keys()) - may_change)
    changed = [key for key in keys if old.get(key) != new.get(key)]
    if changed:
      key = changed[0]
      raise ConfigError(
        f'--workdir={self.path} was trained with {key}={old.get(key)!r}, not {new.get(key)!r}'
        f'{f" ({len(changed)} keys differ)" if len(changed) > 1 else ""}; '
        'use another --workdir or the old value'
      )

  def store_config(self, config: dict[str, Any]):
    """Writes config.json."""
    if not self.writes:
      return
    files.write_json(self.path / 'config.json', config)

  def truncate_records(self, step: int):
    """Drops records after `step`, so that resuming writes each of them once."""
    if not self.writes:
      return
    for name in ('metrics.jsonl', 'timing.jsonl'):
      path = self.path / name
      kept = b''.join(line for line, record in _records(path) if record['step'] <= step)
      if path.exists() and kept != path.read_bytes():
        temporary = path.with_name(name + '.tmp')
        temporary.write_bytes(kept)
        temporary.replace(path)

  def validations(self) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl that are validations."""
    records = (record for _, record in _records(self.path / 'metrics.jsonl'))
    return [record for record in records if 'validation_nats_per_dim' in record]

  def append(self, name: str, record: dict[str, Any]):
    """Adds one line to a `.jsonl` file; non-finite numbers become null.

    Raises:
      PlatformError: the disk is full, or the folder gone.
    """
    if not self.writes:
      return
    clean = {
      key: None if isinstance(value, float) and not math.isfinite(value) else value
      for key, value in record.items()
    }
    try:
      with open(self.path / name, 'a') as file:
        file.write(json.dumps(clean) + '\n')
        file.flush()
        os.fsync(file.fileno())
    except OSError as error:
      raise PlatformError(
        f'{self.path / name} can not be written ({error.strerror}); free space or put the folder '
        'back, and run the same command again'
      ) from error


def _records(path: pathlib.Path) -> list[tuple[bytes, dict[str, Any]]]:
  """Lines and what they say; what a kill cut short or a disk damaged is left out."""
  found: list[tuple[bytes, dict[str, Any]]] = []
  lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
  for number, line in enumerate(lines, 1):
    try:
      record = json.loads(line)
      whole = line.endswith(b'\n') and isinstance(record['step'], int)
    except (ValueError, TypeError, KeyError, RecursionError):
      whole = False
    if whole:
      found.append((line, record))
    elif number < len(lines):
      log.warning('line %d of %s is damaged and left out', number, path)
  return found
