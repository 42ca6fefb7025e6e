"""What a run writes besides checkpoints: log lines, `.jsonl` records, summaries, the receipt."""

import logging
import pathlib
import time
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from afslvm import files
from afslvm.evaluation import diagnostics
from afslvm.training import checkpoint, receipt
from afslvm.training.experiment import Experiment
from afslvm.training.progress import Progress, format_duration
from afslvm.training.state import TrainState
from afslvm.training.summaries import Summaries
from afslvm.training.validation import ValidationHistory, make_validation
from afslvm.training.workdir import Workdir

log = logging.getLogger(__name__)


def due(step: int, every: int) -> bool:
  """Whether something that happens every so many steps happens now; 0 is never."""
  return every > 0 and step % every == 0


class Records:
  """The records of one start of a run.

  Args:
    workdir: where they go.
    experiment: that is trained.
    mesh: of its devices.
    start: the step that training goes on from.
  """

  def __init__(self, workdir: Workdir, experiment: Experiment, mesh: Mesh, start: int):
    self.workdir, self.experiment, self.mesh, self.start = workdir, experiment, mesh, start
    self._progress = Progress(start, experiment.train.num_steps)
    self._summaries = Summaries(workdir.writes, workdir.path / 'tensorboard', experiment, start)
    self._history = ValidationHistory(workdir, experiment)
    self._validate = make_validation(experiment, mesh)
    self._validation, self._shown = float('nan'), ''

  @property
  def duration(self) -> str:
    """Of training so far, in words."""
    return format_duration(time.monotonic() - self._progress.began)

  def trained(self, step: int, metrics: dict[str, Any]):
    """Call after every step; looks at its metrics, which waits for it, only where they are due."""
    if due(step, self.experiment.train.log_every) or self._is_last(step):
      values = {key: float(value) for key, value in jax.device_get(metrics).items()}
      self.workdir.append('metrics.jsonl', {'step': step, **values})
      self.workdir.append('timing.jsonl', self._timing(step))
      self._summaries.scalars(step, values)
      self._shown = self.experiment.in_words(values['nats_per_dim'])
    self._progress.advance(step, self._shown)

  def validated(self, step: int, state: TrainState) -> float | None:
    """Validates where it is due; returns the score in nats per dimension."""
    if not (due(step, self.experiment.train.eval_every) or self._is_last(step)):
      return None
    self._validation, health = self._validate(state.evaluated)
    self._history.add(step, self._validation, health)
    self._summaries.validation(step, self._validation, health, state.evaluated)
    return self._validation

  def write_receipt(self, state: TrainState):
    """Writes what produced the run, and at what cost so far."""
    if not self.workdir.writes:
      return
    path = self.workdir.path / 'receipt.json'
    earlier = _costs(path)
    wall = time.monotonic() - self._progress.began
    cpu = time.process_time() - self._progress.cpu_began
    rate = self._progress.last_rate
    files.write_json(
      path,
      {
        'step': int(state.step),
        'started_at_step': self.start,
        'skipped_steps': int(state.skipped),
        'validation_nats_per_dim': self._validation if np.isfinite(self._validation) else None,
        'parameters': sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        'parameters_sha256': checkpoint.tree_sha256(state.params),
        'versions': receipt.versions(),
        'git_commit': receipt.git_commit(),
        'data_fingerprint': self.experiment.fingerprint,
        'device': receipt.device(),
        'steps_per_second': round(rate, 3),
        'frames_per_second': round(rate * self._frames(), 1),
        'peak_memory_mb': receipt.peak_memory_mb(),
        'wall_seconds': round(wall, 2),
        'total_wall_seconds': round(wall + earlier['total_wall_seconds'], 2),
        'total_cpu_seconds': round(cpu + earlier['total_cpu_seconds'], 2),
      },
    )

  def close(self):
    """Finishes what is being written."""
    self._summaries.close()

  def _is_last(self, step: int) -> bool:
    return step == self.experiment.train.num_steps

  def _frames(self) -> int:
    return self.experiment.train.batch_size * self.experiment.length

  def _timing(self, step: int) -> dict[str, float]:
    rate = self._progress.rate(step)
    return {
      'step': step,
      'steps_per_second': round(rate, 3),
      'frames_per_second': round(rate * self._frames(), 1),
      'wall_seconds': round(time.monotonic() - self._progress.began, 3),
    }


def _costs(path: pathlib.Path) -> dict[str, float]:
  """What a run cost before, by its receipt; nothing where there is none that can be read."""
  try:
    receipt = files.read_json(path)
  except (OSError, ValueError):
    receipt = {}
  values = {key: receipt.get(key) for key in ('total_wall_seconds', 'total_cpu_seconds')}
  return {k: v if diagnostics.is_number(v) else 0.0 for k, v in values.items()}
