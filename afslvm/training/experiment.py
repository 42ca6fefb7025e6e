"""What the loop needs to know of an experiment; `building.py` makes one from a config."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from afslvm.models.base import SequenceModel
from afslvm.objectives.objective import ObjectiveSettings
from afslvm.training.settings import OptimizerSettings, TrainSettings
from afslvm.types import PyTree

Batch = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Experiment:
  """A model, its data and its budget, without any name of either.

  Attributes:
    model: any sequence model.
    dequantisation: of the training data, one of `preprocessing.DEQUANTISATIONS`.
    length: steps of a training sequence.
    seed: of parameters, data order and noise.
    train: budgets.
    optimizer: of the parameters.
    training_batches: makes an endless iterator with `get_state` and `set_state`, over this
      process's part of each global batch.
    validation_batches: makes a finite iterator over this process's part of fixed crops.
    objective: the bound that is maximised.
    fingerprint: of the data.
    config: the whole config as plain values, for the record.
    stateful: the rows of a batch go on where those of the batch before ended, and so does the
      model's state.
    per_step: scores are shown in nats per step, as for music and sound, and not per dimension.
    picture: variables -> a picture [H, W, 3] in [0, 1] for TensorBoard, if there is one to show.
  """

  model: SequenceModel
  dequantisation: str
  length: int
  seed: int
  train: TrainSettings
  optimizer: OptimizerSettings
  training_batches: Callable[[], Any]
  validation_batches: Callable[[], Iterator[Batch]]
  fingerprint: str
  config: dict[str, Any]
  objective: ObjectiveSettings = ObjectiveSettings()
  stateful: bool = False
  per_step: bool = False
  picture: Callable[[PyTree], np.ndarray] | None = None

  @property
  def stream_rows(self) -> int:
    """Rows of the global batch whose state is kept; 0 if none is."""
    return self.train.batch_size if self.stateful else 0

  @property
  def source(self) -> str:
    """What messages call the data."""
    data = self.config.get('data', {})
    place = data.get('data_dir')
    return data.get('name', 'the data') + (f' in {place}' if place else '')

  def in_words(self, nats_per_dim: float) -> str:
    """A score with its unit."""
    if self.per_step:
      return f'{nats_per_dim * math.prod(self.model.event_shape):.3f} nats/step'
    return f'{nats_per_dim:.3f} nats/dim'
