"""Checkpoints that are verified before they are believed.

Orbax writes them asynchronously and atomically, but restores a file with flipped bits, or one of
another dtype, without a word. So each committed checkpoint gets a manifest with the sha256 of every
file and the shape and dtype of every array, written last: a checkpoint without one is unfinished, a
checkpoint that differs from it is damaged, and neither is ever restored.
"""

import functools
import hashlib
import logging
import math
import pathlib
import re
import shutil
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from afslvm import files
from afslvm.errors import CheckpointError
from afslvm.training import processes
from afslvm.training.state import TrainState
from afslvm.types import PyTree

MANIFEST = 'MANIFEST.afslvm.json'
METRIC = 'validation_nats_per_dim'
FORMAT = 1  # of checkpoints; those that say nothing have the first
log = logging.getLogger(__name__)


def leaf_paths(tree: PyTree) -> dict[str, Any]:
  """Leaves of a tree by path, such as 'params/flow/shift_head/kernel'."""
  flat, _ = jax.tree_util.tree_flatten_with_path(tree)
  return {jax.tree_util.keystr(path, simple=True, separator='/'): leaf for path, leaf in flat}


def tree_sha256(tree: PyTree) -> str:
  """A fingerprint of arrays: path, dtype, shape and bytes of each, in order of path."""
  digest = hashlib.sha256()
  for path, leaf in sorted(leaf_paths(jax.device_get(tree)).items()):
    value = np.ascontiguousarray(leaf)
    digest.update(f'{path} {value.dtype} {value.shape} '.encode())
    digest.update(value.tobytes())
  return digest.hexdigest()


def _signature(tree: PyTree) -> dict[str, str]:
  return {k: f'{v.dtype}{list(v.shape)}' for k, v in leaf_paths(tree).items()}


def _file_hashes(directory: pathlib.Path) -> dict[str, str]:
  hashes = {}
  for path in sorted(p for p in directory.rglob('*') if p.is_file() and p.name != MANIFEST):
    with open(path, 'rb') as file:
      digest = hashlib.file_digest(file, 'sha256').hexdigest()
    hashes[path.relative_to(directory).as_posix()] = digest
  return hashes


def read_manifest(directory: pathlib.Path) -> dict[str, Any] | None:
  """The manifest of one checkpoint, or None where it is missing or damaged."""
  try:
    manifest = files.read_json(directory / MANIFEST)
    return manifest if manifest['sha256'] == files.own_sha256(manifest) else None
  except (OSError, ValueError, KeyError):
    return None


def problem(directory: pathlib.Path) -> str:
  """Why a checkpoint can't be trusted, or '' if every file is as it was written.

  Raises:
    CheckpointError: it is of a newer version, which may know better.
  """
  if not (directory / MANIFEST).exists():
    return 'unfinished'
  manifest = read_manifest(directory)
  if manifest is None:
    return f'damaged: {MANIFEST} is not what was written'
  if (written := manifest.get('format', 1)) > FORMAT:
    raise CheckpointError(
      f'{directory} is a checkpoint of format {written}, this version of afslvm reads up to '
      f'{FORMAT}; use the version in receipt.json, or another --workdir'
    )
  try:
    found = _file_hashes(directory)
  except FileNotFoundError:
    return 'gone'  # a training process has just pruned it
  except OSError as error:
    return f'damaged: {error.filename} can not be read ({error.strerror})'
  for name, sha256 in manifest['files'].items():
    if name not in found:
      return f'damaged: {name} is missing'
    if found[name] != sha256:
      return f'damaged: sha256 of {name} differs'
  return ''


def all_steps(directory: pathlib.Path) -> list[int]:
  """Steps that have a directory, newest first, by number and not by time."""
  if not directory.is_dir():
    return []
  return sorted((int(p.name) for p in directory.iterdir() if p.name.isdigit()), reverse=True)


def find_good(directory: pathlib.Path, which: str = 'latest') -> int | None:
  """The newest verified step (`latest`), the one of best validation (`best`), or None.

  Raises:
    CheckpointError: there are checkpoints, and each is damaged.
  """
  candidates = all_steps(directory)
  if which == 'best':
    candidates.sort(key=lambda step: (_validation(directory / str(step)), -step))
  damaged = []
  for step in candidates:
    what = problem(directory / str(step))
    if not what:
      return step
    if what.startswith('damaged'):
      damaged.append(f'{step} ({what})')
  if damaged:
    raise CheckpointError(
      f'no checkpoint in {directory} verifies: {"; ".join(damaged)}; '
      'restore the folder from a copy, or remove it to train from the start'
    )
  return None


def _validation(directory: pathlib.Path) -> float:
  """The validation score of a checkpoint; infinity where it has none."""
  score = (read_manifest(directory) or {}).get(METRIC)
  return math.inf if score is None else score


def _check_signature(directory: pathlib.Path, target: PyTree):
  """Orbax casts dtypes silently and reports shapes at length: compare before restoring."""
  manifest = read_manifest(directory) or {}
  stored, expected = manifest.get('arrays', {}), _signature(target)
  differing = sorted(
    key for key in stored.keys() | expected.keys() if stored.get(key) != expected.get(key)
  )
  if differing:
    first = differing[0]
    raise CheckpointError(
      f'checkpoint {directory} is of another model: {len(differing)} arrays differ, first {first} '
      f'(stored {stored.get(first, "nothing")}, model {expected.get(first, "nothing")}); '
      'use the config it was trained with, or another --workdir'
    )


class Checkpoints:
  """Saves and restores `TrainState` with the data iterator's state, one folder per step.

  Opening sets aside, next to the folder, whatever is newer than the newest checkpoint that
  verifies, with a line in the log.

  Attributes:
    newest: the newest step that verifies, or None.
  """

  def __init__(self, directory: pathlib.Path, keep: int = 2):
    self.directory, self._keep = directory, keep
    self._pending: tuple[int, dict[str, Any]] | None = None
    self.newest: int | None = None
    newest = processes.of_first(self._open)
    self.newest = newest if newest >= 0 else None

  @functools.cached_property
  def _manager(self) -> ocp.CheckpointManager:
    keep_best = policies.BestN(
      n=1,
      get_metric_fn=lambda metrics: metrics[METRIC],
      reverse=True,
      keep_checkpoints_without_metrics=False,
    )
    options = ocp.CheckpointManagerOptions(
      cleanup_tmp_directories=True,
      preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(self._keep), keep_best]),
    )
    return ocp.CheckpointManager(self.directory.absolute(), options=options)

  def _open(self) -> int:
    """Verifies and sets aside what isn't good; the newest step that is, or -1."""
    self.newest = find_good(self.directory)
    self._set_aside()
    return -1 if self.newest is None else self.newest

  def _set_aside(self):
    if not self.directory.is_dir():
      return
    for path in self.directory.glob('*.orbax-checkpoint-tmp*'):
      log.warning('discarded unfinished checkpoint %s', path.name.split('.')[0])
    for step in all_steps(self.directory):
      if self.newest is not None and step <= self.newest:
        return
      what = problem(self.directory / str(step))
      aside = self.directory.with_name('checkpoints_set_aside') / str(step)
      shutil.rmtree(aside, ignore_errors=True)
      aside.parent.mkdir(exist_ok=True)
      (self.directory / str(step)).rename(aside)
      fallback = (
        f'using {self.newest}' if self.newest is not None else 'starting from the beginning'
      )
      log.warning('checkpoint %d is %s; moved to %s, %s', step, what, aside, fallback)

  def restore(self, target: TrainState) -> tuple[TrainState, Any]:
    """The newest state and the data iterator's state; `target` has shapes, dtypes, shardings."""
    assert self.newest is not None
    return restore_step(self.directory, self.newest, target, self._manager)

  def check_space(self, state: TrainState):
    """Says so where the disk has no room for the checkpoints that are kept.

    Raises:
      CheckpointError: not even for one.
    """
    if not processes.is_first():
      return
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    count = self._keep + 2  # the best one, and the one that is being written
    free = shutil.disk_usage(self.directory.parent).free
    if free < count * size:
      needed = (
        f'{count} checkpoints of {size / 1e6:,.0f} MB have to fit in {self.directory}, where '
        f'{free / 1e6:,.0f} MB are free'
      )
      if free < size:
        raise CheckpointError(f'{needed}; free space, or use another --workdir')
      log.warning('%s', needed)

  def save(self, state: TrainState, data_state: Any, validation: float | None = None):
    """Starts writing; returns as soon as the arrays are copied off the device."""
    self.seal(wait=True)
    step = int(state.step)
    if validation is not None and not math.isfinite(validation):
      validation = None  # never the best
    manifest = {
      'format': FORMAT,
      'step': step,
      METRIC: validation,
      'parameters_sha256': tree_sha256(state.params),
      'arrays': _signature(state),
    }
    items = ocp.args.Composite(
      state=ocp.args.StandardSave(state), data=ocp.args.JsonSave(data_state)
    )
    metrics = None if validation is None else {METRIC: validation}
    self._guard(lambda: self._manager.save(step, args=items, metrics=metrics))
    self._pending = (step, manifest)

  def seal(self, wait: bool = False):
    """Writes the manifest of a checkpoint once it is committed; cheap to call at every step."""
    if self._pending is None or (not wait and self._manager.is_saving_in_progress()):
      return
    (step, manifest), self._pending = self._pending, None
    self._guard(self._manager.wait_until_finished)
    directory = self.directory / str(step)
    if processes.is_first():
      self._guard(lambda: manifest.update(files=_file_hashes(directory)))
      manifest['sha256'] = files.own_sha256(manifest)
      self._guard(lambda: files.write_json(directory / MANIFEST, manifest))
    self.newest = step

  def close(self):
    """Waits for what is being written."""
    self.seal(wait=True)
    if '_manager' in self.__dict__:
      self._manager.close()

  def _guard(self, action):
    try:
      action()
    except (ValueError, OSError) as error:
      kept = '' if self.newest is None else f'; the last good step is {self.newest}'
      raise CheckpointError(
        f'could not write to {self.directory} ({_reason(error)}); free space, fix permissions or '
        f'put the folder back, and run the same command again{kept}'
      ) from error


def _reason(error: Exception) -> str:
  """What the operating system said, out of the long line that TensorStore makes of it."""
  line = str(error).partition('\n')[0]
  said = re.search(r'([^:]+) \[os_error_code', line)
  return said[1].strip() if said else line[:200]


def restore_step(
  directory: pathlib.Path,
  step: int,
  target: TrainState,
  manager: ocp.CheckpointManager | None = None,
) -> tuple[TrainState, Any]:
  """Restores one verified step into the shapes, dtypes and shardings of `target`.

  Raises:
    CheckpointError: the checkpoint is of another model, or can't be read.
  """
  path = directory / str(step)
  _check_signature(path, target)
  manager = manager or ocp.CheckpointManager(
    directory.absolute(), options=ocp.CheckpointManagerOptions(read_only=True)
  )
  items = ocp.args.Composite(state=ocp.args.StandardRestore(target), data=ocp.args.JsonRestore())
  try:
    restored = manager.restore(step, args=items)
  except Exception as error:  # Orbax and TensorStore raise many kinds, none of them documented.
    raise CheckpointError(f'{path} could not be read: {str(error).splitlines()[0]}') from error
  return restored['state'], restored['data']
