"""TensorBoard files, written without TensorFlow; training goes on without them if they fail."""

import logging
import pathlib
from typing import Any

import jax

from afslvm.training.experiment import Experiment
from afslvm.types import PyTree

log = logging.getLogger(__name__)


class Summaries:
  """Scalars at each log line; at each validation, one sequence through every flow as a picture."""

  def __init__(self, writes: bool, directory: pathlib.Path, experiment: Experiment, start: int):
    self._picture = experiment.picture
    self._writer: Any = None
    if not writes:
      return
    try:
      from tensorboardX import SummaryWriter

      self._writer = SummaryWriter(str(directory), purge_step=start + 1)
    except (ImportError, OSError) as error:
      log.warning('no TensorBoard files: %s', error)

  def scalars(self, step: int, values: dict[str, float]):
    """One point per metric."""
    if self._writer is not None:
      for name, value in values.items():
        self._writer.add_scalar(f'train/{name}', value, step)

  def validation(self, step: int, nats_per_dim: float, health: dict[str, Any], variables: PyTree):
    """The validation score, diagnostics, and pictures where the data are frames."""
    if self._writer is None:
      return
    for name, value in {'nats_per_dim': nats_per_dim, **health}.items():
      if not isinstance(value, list):
        self._writer.add_scalar(f'validation/{name}', value, step)
    if self._picture is not None:
      # From this process's own copy: the others take no part in drawing.
      picture = self._picture(jax.device_get(variables))
      self._writer.add_image('validation/flows', picture, step, dataformats='HWC')

  def close(self):
    """Flushes the files."""
    if self._writer is not None:
      self._writer.close()
