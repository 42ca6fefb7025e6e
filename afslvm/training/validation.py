"""The score that selects checkpoints: the bound on fixed crops of the validation split."""

import itertools
import math
from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import Mesh

from afslvm.objectives import elbo
from afslvm.training import distributed
from afslvm.training.experiment import Experiment
from afslvm.transforms import preprocessing
from afslvm.types import PyTree

VALIDATION_SEED = 1


def make_validation(experiment: Experiment, mesh: Mesh) -> Callable[[PyTree], float]:
  """Builds `variables -> nats per dimension`, with the same data and noise at every call."""
  model, kind = experiment.model, experiment.dequantisation

  @jax.jit
  def score(variables, batch, key):
    total, steps = elbo.bound_sums(model, kind, variables, batch, jax.random.split(key))
    return total.sum(), steps.sum()

  def validate(variables: PyTree) -> float:
    sums = []
    batches = itertools.islice(experiment.validation_batches(), experiment.train.validation_batches)
    for index, batch in enumerate(batches):
      key = jax.random.fold_in(jax.random.key(VALIDATION_SEED), index)
      sums.append(score(variables, distributed.to_devices(batch, mesh), key))
    total, steps = np.sum(np.asarray(jax.device_get(sums), np.float64), axis=0)
    dims = math.prod(model.event_shape)
    return float(-total / (steps * dims) + preprocessing.log_levels(kind))

  return validate
