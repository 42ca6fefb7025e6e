"""TensorBoard files, written without TensorFlow; training goes on without them if they fail."""

import logging
import pathlib
import time
from typing import Any

import jax

from afslvm.training.experiment import Experiment
from afslvm.types import PyTree

log = logging.getLogger(__name__)


class Summaries:
  """Scalars at each log line; at each validation, one sequence through every flow as a picture."""

  def __init__(self, writes: bool, directory: pathlib.Path, experiment: Experiment, start: int):
    self._picture = experiment.picture
    self._file: _EventFile | None = None
    if not writes:
      return
    try:
      self._file = _EventFile(directory, start)
    except (ImportError, OSError) as error:
      log.warning('no TensorBoard files: %s', error)

  def scalars(self, step: int, values: dict[str, float]):
    """One point per metric."""
    self._write(step, {f'train/{name}': value for name, value in values.items()})

  def validation(self, step: int, nats_per_dim: float, health: dict[str, Any], variables: PyTree):
    """The validation score, diagnostics, and pictures where the data are frames."""
    if self._file is None:
      return
    values = {'nats_per_dim': nats_per_dim, **health}
    shown = {f'validation/{k}': v for k, v in values.items() if not isinstance(v, list)}
    if self._picture is not None:
      # From this process's own copy: the others take no part in drawing.
      shown['validation/flows'] = self._picture(jax.device_get(variables))
    self._write(step, shown)

  def close(self):
    """Closes the file."""
    self._file = None

  def _write(self, step: int, values: dict[str, Any]):
    try:
      if self._file is not None:
        self._file.add(step, values)
    except OSError as error:
      log.warning('no more TensorBoard files: %s', error)
      self._file = None


class _EventFile:
  """Events are on disk once `add` returns.

  tensorboardX's own writer gives them to a thread, which a full disk ends, and then waits for it
  forever.
  """

  def __init__(self, directory: pathlib.Path, start: int):
    from tensorboardX import event_file_writer
    from tensorboardX.proto import event_pb2

    directory.mkdir(parents=True, exist_ok=True)
    self._event = event_pb2.Event
    self._file = event_file_writer.EventsWriter(str(directory / 'events'))
    # What an earlier start wrote after this step is not shown.
    begin = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    self._file.write_event(self._event(step=start + 1, session_log=begin))
    self._file.flush()

  def add(self, step: int, values: dict[str, Any]):
    """Writes numbers, and pictures [H, W, 3] in [0, 1], by name."""
    from tensorboardX import summary

    for name, value in values.items():
      made = (
        summary.image(name, value, dataformats='HWC')
        if getattr(value, 'ndim', 0) == 3
        else summary.scalar(name, value)
      )
      self._file.write_event(self._event(step=step, wall_time=time.time(), summary=made))
    self._file.flush()
