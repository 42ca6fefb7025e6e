"""The training loop: one straight function over any experiment.

Order: lock -> data -> state (fresh or verified checkpoint) -> step -> loop -> receipt.
"""

import json
import logging
import time
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from afslvm import files
from afslvm.errors import DataError, NumericsError
from afslvm.training import checkpoint, distributed, program, receipt
from afslvm.training.experiment import Batch, Experiment
from afslvm.training.progress import Progress, format_duration
from afslvm.training.signals import StopRequest
from afslvm.training.state import TrainState, abstract_state
from afslvm.training.summaries import Summaries
from afslvm.training.validation import ValidationHistory, make_validation
from afslvm.training.workdir import Workdir

log = logging.getLogger(__name__)


def train(workdir: Workdir, experiment: Experiment) -> int:
  """Trains to the budget, from the newest good checkpoint if there is one.

  Args:
    workdir: entered, so that this process holds its lock.
    experiment: what to train.

  Returns:
    0 when the budget is used up, else the number of the signal that stopped it.

  Raises:
    NumericsError: too many non-finite steps in a row.
    CheckpointError: no checkpoint verifies, or one can't be written.
  """
  settings = experiment.train
  mesh = distributed.make_mesh()
  distributed.check_batch_size(settings.batch_size, mesh)
  checkpoints = checkpoint.Checkpoints(workdir.checkpoints, settings.keep_checkpoints)
  workdir.check_config(experiment.config, trained=checkpoints.newest is not None)
  workdir.truncate_records(checkpoints.newest or 0)
  if checkpoints.newest is not None and checkpoints.newest >= settings.num_steps:
    log.info(
      'already trained: %s holds step %d of %d',
      workdir.path, checkpoints.newest, settings.num_steps,
    )  # fmt: skip
    return 0

  workdir.store_config(experiment.config)
  batches = experiment.training_batches()
  state = _initial_or_restored(experiment, checkpoints, batches, mesh)
  start = int(state.step)
  train_step = program.compiled_step(experiment, mesh)
  validate = make_validation(experiment, mesh)
  history = ValidationHistory(workdir, experiment)
  summaries = Summaries(workdir.path / 'tensorboard', experiment, start)
  progress = Progress(start, settings.num_steps)
  watch = _NonFiniteWatch(workdir, settings.max_skipped)
  log.info(
    'training from step %d to %d on %d %s device(s); the first step compiles',
    start, settings.num_steps, mesh.size, jax.devices()[0].platform,
  )  # fmt: skip

  validated, shown, step = float('nan'), '', start
  with StopRequest() as stop:
    try:
      for step in range(start + 1, settings.num_steps + 1):
        batch = next(batches)
        state, metrics = train_step(state, distributed.to_devices(batch, mesh))
        watch.after(step, batch, metrics)
        checkpoints.seal()

        last, stopping = step == settings.num_steps, stop.signal is not None
        if _due(step, settings.log_every) or last:
          values = {key: float(value) for key, value in jax.device_get(metrics).items()}
          workdir.append('metrics.jsonl', {'step': step, **values})
          workdir.append('timing.jsonl', _timing(step, progress, settings.batch_size, experiment))
          summaries.scalars(step, values)
          shown = experiment.in_words(values['nats_per_dim'])
        progress.advance(step, shown)
        validation = None
        if _due(step, settings.eval_every) or last:
          validation, health = validate(state.evaluated)
          validated = validation
          history.add(step, validation, health)
          summaries.validation(step, validation, health, state.evaluated)
        if validation is not None or stopping or _due(step, settings.checkpoint_every):
          watch.flush()
          checkpoints.save(state, _data_state(batches, experiment), validation)
        if stopping:
          break
      # Before the last checkpoint is sealed: a run that counts as trained has a receipt.
      _write_receipt(workdir, experiment, progress, state, validated)
    except NumericsError:
      # Nothing has changed since the last finite step, which this keeps for a replay.
      checkpoints.save(state, _data_state(batches, experiment))
      raise
    finally:
      # Whatever ends the loop, a checkpoint that was begun is finished and sealed.
      checkpoints.close()
      summaries.close()

  if stop.signal and step < settings.num_steps:
    log.warning('saved step %d; run the same command again to continue', step)
    return stop.signal
  log.info(
    'trained %d steps in %s', step - start, format_duration(time.monotonic() - progress.began)
  )
  return 0


def _data_state(batches: Any, experiment: Experiment) -> dict[str, Any]:
  return {'iterator': batches.get_state(), 'fingerprint': experiment.fingerprint}


def _due(step: int, every: int) -> bool:
  return every > 0 and step % every == 0


def _initial_or_restored(
  experiment: Experiment, checkpoints: checkpoint.Checkpoints, batches: Any, mesh: Mesh
) -> TrainState:
  """Restores state and data position, or initialises from the first batch."""
  if checkpoints.newest is not None:
    target = abstract_state(
      experiment.model,
      experiment.train,
      experiment.optimizer,
      experiment.length,
      distributed.replicated(mesh),
      experiment.stream_rows,
    )
    state, data_state = checkpoints.restore(target)
    if data_state['fingerprint'] != experiment.fingerprint:
      raise DataError(
        f'the data have fingerprint {experiment.fingerprint}, this run was trained on '
        f'{data_state["fingerprint"]}; prepare the same data again, or use another --workdir'
      )
    batches.set_state(data_state['iterator'])
    log.info('resuming from step %d (verified)', int(state.step))
    return state
  first = distributed.to_devices(next(experiment.training_batches()), mesh)
  return program.first_state(experiment, first, mesh)


def _timing(
  step: int, progress: Progress, batch_size: int, experiment: Experiment
) -> dict[str, float]:
  rate = progress.rate(step)
  return {
    'step': step,
    'steps_per_second': round(rate, 3),
    'frames_per_second': round(rate * batch_size * experiment.length, 1),
    'wall_seconds': round(time.monotonic() - progress.began, 3),
  }


class _NonFiniteWatch:
  """Looks at a step's verdict one step later, so that the device never waits for the host."""

  def __init__(self, workdir: Workdir, limit: int):
    self.workdir, self.limit = workdir, limit
    self._previous: tuple[int, Batch, Any] | None = None
    self._in_row = 0

  def after(self, step: int, batch: Batch, metrics: dict[str, Any]):
    """Call after dispatching a step; judges the one before, and in a bad streak this one too.

    So the state that is at hand when the limit is reached is the one the last batch was tried on.
    """
    self.flush()
    self._previous = (step, batch, metrics['skipped_in_row'])
    if self._in_row or self.limit == 1:
      self.flush()

  def flush(self):
    """Judges the last step, waiting for it."""
    if self._previous is None:
      return
    step, batch, in_row = self._previous
    self._previous = None
    self._in_row = in_row = int(in_row)
    if not in_row:
      return
    bad = int(np.sum(~np.isfinite(np.asarray(batch['x'], np.float32))))
    log.warning(
      'step %d: loss or gradient is not finite (%d non-finite values in the data); '
      'skipped, nothing was changed (%d of %d in a row allowed)',
      step, bad, in_row, self.limit,
    )  # fmt: skip
    if in_row >= self.limit:
      path = self.workdir.path / 'debug' / f'step_{step}.npz'
      path.parent.mkdir(exist_ok=True)
      np.savez(path, step=step, **batch)
      raise NumericsError(
        f'{in_row} steps in a row up to step {step} were not finite; their last batch is in '
        f'{path}; look for bad values in it, or train with a lower optimizer.learning_rate in '
        'another --workdir'
      )


def _write_receipt(
  workdir: Workdir,
  experiment: Experiment,
  progress: Progress,
  state: TrainState,
  validation: float,
):
  step, path = int(state.step), workdir.path / 'receipt.json'
  wall = time.monotonic() - progress.began
  cpu = time.process_time() - progress.cpu_began
  earlier = json.loads(path.read_text()) if path.exists() else {}
  rate = progress.last_rate
  files.write_json(
    path,
    {
      'step': step,
      'started_at_step': progress.start,
      'skipped_steps': int(state.skipped),
      'validation_nats_per_dim': validation if np.isfinite(validation) else None,
      'parameters': sum(leaf.size for leaf in jax.tree.leaves(state.params)),
      'parameters_sha256': checkpoint.tree_sha256(state.params),
      'versions': receipt.versions(),
      'git_commit': receipt.git_commit(),
      'data_fingerprint': experiment.fingerprint,
      'device': receipt.device(),
      'steps_per_second': round(rate, 3),
      'frames_per_second': round(rate * experiment.train.batch_size * experiment.length, 1),
      'peak_memory_mb': receipt.peak_memory_mb(),
      'wall_seconds': round(wall, 2),
      'total_wall_seconds': round(wall + earlier.get('total_wall_seconds', 0.0), 2),
      'total_cpu_seconds': round(cpu + earlier.get('total_cpu_seconds', 0.0), 2),
    },
  )
