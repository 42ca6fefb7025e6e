"""The training loop: one straight function over any experiment.

Order: lock -> data -> state (fresh or verified checkpoint) -> step -> loop -> receipt.
"""

import logging
import signal
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from afslvm.errors import DataError, NumericsError
from afslvm.training import checkpoint, distributed, processes, program
from afslvm.training.experiment import Batch, Experiment
from afslvm.training.records import Records, due
from afslvm.training.signals import StopRequest
from afslvm.training.state import TrainState, abstract_state
from afslvm.training.waiting import WatchedBatches, WatchedSteps
from afslvm.training.workdir import LOCAL, Workdir, flatten

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
    CheckpointError: no checkpoint verifies, one can't be written, or the disk has no room for one.
    LostProcessError: one of several processes has ended.
  """
  settings = experiment.train
  mesh = distributed.make_mesh()
  distributed.check_batch_size(settings.batch_size, mesh)
  checkpoints = _open(workdir, experiment)
  if checkpoints.newest is not None and checkpoints.newest >= settings.num_steps:
    log.info(
      'already trained: %s holds step %d of %d',
      workdir.path, checkpoints.newest, settings.num_steps,
    )  # fmt: skip
    return 0

  workdir.store_config(experiment.config)
  batches = experiment.training_batches()
  state = _initial_or_restored(experiment, checkpoints, batches, mesh)
  checkpoints.check_space(state)
  records = Records(workdir, experiment, mesh, start=int(state.step))
  log.info(
    'training from step %d to %d on %d %s device(s); the first step compiles',
    records.start, settings.num_steps, mesh.size, jax.devices()[0].platform,
  )  # fmt: skip
  watched = WatchedBatches(batches, experiment.source)
  with StopRequest() as stop, watched, WatchedSteps() as steps:
    try:
      step = _run(state, watched, steps, checkpoints, records, stop)
      checkpoints.close()
    except BaseException as error:
      lost = processes.explain(error)
      if lost is not None:  # what all must take part in would never end
        raise lost from error
      # Whatever ends the loop, a checkpoint that was begun is finished and sealed.
      checkpoints.close()
      raise
    finally:
      records.close()

  if step < settings.num_steps:
    log.warning('saved step %d; run the same command again to continue', step)
    return stop.signal or signal.SIGTERM  # which another process got
  log.info('trained %d steps in %s', step - records.start, records.duration)
  return 0


def _run(
  state: TrainState,
  batches: WatchedBatches,
  steps: WatchedSteps,
  checkpoints: checkpoint.Checkpoints,
  records: Records,
  stop: StopRequest,
) -> int:
  """Steps, records and checkpoints to the budget or to a signal; returns the last step."""
  experiment, settings = records.experiment, records.experiment.train
  train_step = program.compiled_step(experiment, records.mesh)
  watch = _NonFiniteWatch(records.workdir, settings.max_skipped)
  agreement = processes.Agreement(records.mesh)

  def save(validation: float | None = None):
    data_state = {'iterator': batches.get_state(), 'fingerprint': experiment.fingerprint}
    checkpoints.save(state, data_state, validation)

  step = records.start
  try:
    for step in range(records.start + 1, settings.num_steps + 1):
      batch = next(batches)
      with steps.waiting():
        state, metrics = train_step(state, distributed.to_devices(batch, records.mesh))
        watch.after(step, batch, metrics)
        stopping = agreement.reached(stop.signal is not None)
        records.trained(step, metrics)
      checkpoints.seal()
      validation = records.validated(step, state)
      if validation is not None or stopping or due(step, settings.checkpoint_every):
        watch.flush()
        save(validation)
      if stopping:
        break
  except NumericsError:
    # Nothing has changed since the last finite step, which this keeps for a replay.
    save()
    raise
  # Before the last checkpoint is sealed: a run that counts as trained has a receipt.
  records.write_receipt(state)
  return step


def _open(workdir: Workdir, experiment: Experiment) -> checkpoint.Checkpoints:
  """Checks that the folder and all processes are of this run; sets damaged checkpoints aside."""
  shared = {k: v for k, v in flatten(experiment.config).items() if k not in LOCAL}
  processes.check_same({**shared, 'the data': experiment.fingerprint})
  checkpoints = checkpoint.Checkpoints(workdir.checkpoints, experiment.train.keep_checkpoints)
  workdir.check_config(experiment.config, trained=checkpoints.newest is not None)
  workdir.truncate_records(checkpoints.newest or 0)
  return checkpoints


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
      experiment.objective.is_online,
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
  return program.first_state(experiment, program.initial_batch(experiment, mesh), mesh)


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
      share = f'_process_{jax.process_index()}' if processes.are_many() else ''
      path = self.workdir.path / 'debug' / f'step_{step}{share}.npz'
      path.parent.mkdir(exist_ok=True)
      np.savez(path, step=step, **batch)
      raise NumericsError(
        f'{in_row} steps in a row up to step {step} were not finite; their last batch is in '
        f'{path}; python launch/replay.py --workdir={self.workdir.path} says what in it was not; '
        'if it is not the data, train with a lower optimizer.learning_rate in another --workdir'
      )
