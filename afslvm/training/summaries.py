"""TensorBoard files, written without TensorFlow; training goes on without them if they fail."""

import logging
import pathlib
from typing import Any

import jax
import numpy as np

from afslvm.training.experiment import Experiment
from afslvm.transforms import preprocessing
from afslvm.types import PyTree

log = logging.getLogger(__name__)


class Summaries:
  """Scalars at each log line; at each validation, one sequence through every flow as a picture."""

  def __init__(self, directory: pathlib.Path, experiment: Experiment, start: int):
    self._experiment = experiment
    try:
      from tensorboardX import SummaryWriter

      self._writer: Any = SummaryWriter(str(directory), purge_step=start + 1)
    except (ImportError, OSError) as error:
      log.warning('no TensorBoard files: %s', error)
      self._writer = None

  def scalars(self, step: int, values: dict[str, float]):
    """One point per metric."""
    if self._writer is not None:
      for name, value in values.items():
        self._writer.add_scalar(f'train/{name}', value, step)

  def validation(self, step: int, nats_per_dim: float, variables: PyTree):
    """The validation score, and pictures where the data are frames."""
    if self._writer is None:
      return
    self._writer.add_scalar('validation/nats_per_dim', nats_per_dim, step)
    if len(self._experiment.model.event_shape) == 3:
      self._writer.add_image('validation/flows', self._frames(variables), step, dataformats='HWC')

  def _frames(self, variables: PyTree) -> np.ndarray:
    from afslvm.evaluation import visuals
    from afslvm.visualization import frames

    experiment = self._experiment
    first = next(iter(experiment.validation_batches()))['x'][:1]
    key = jax.random.key(0)
    x = preprocessing.dequantise(key, first, experiment.dequantisation)
    rows = visuals.visual_rows(experiment.model, variables, x, key)
    return frames.stack_rows(rows, index=0)

  def close(self):
    """Flushes the files."""
    if self._writer is not None:
      self._writer.close()
