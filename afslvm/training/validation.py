"""The score that selects checkpoints, and diagnostics, on fixed crops of the validation split."""

import functools
import itertools
import logging
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from afslvm.evaluation import diagnostics
from afslvm.objectives import elbo
from afslvm.training import distributed, randomness
from afslvm.training.experiment import Experiment
from afslvm.training.workdir import Workdir
from afslvm.transforms import preprocessing
from afslvm.types import PyTree

log = logging.getLogger(__name__)

VALIDATION_SEED = 1


def make_validation(
  experiment: Experiment, mesh: Mesh
) -> Callable[[PyTree], tuple[float, dict[str, Any]]]:
  """Builds `variables -> (nats per dimension, diagnostics)`, on the same data and noise always.

  The score is that of the plain bound, whatever the training objective, over the steps that
  training scores; diagnostics are those of the first batch.
  """
  model, kind = experiment.model, experiment.dequantisation
  first = experiment.objective.first_scored

  @functools.partial(jax.jit, out_shardings=distributed.replicated(mesh))
  def score(variables, batch, key):
    sums = elbo.bound_sums(model, kind, variables, batch, jax.random.split(key), first)
    return sums.elbo.sum(), sums.steps.sum()

  def validate(variables: PyTree) -> tuple[float, dict[str, Any]]:
    sums, values = [], {}
    batches = itertools.islice(experiment.validation_batches(), experiment.train.validation_batches)
    for index, batch in enumerate(batches):
      key = jax.random.fold_in(randomness.stream(VALIDATION_SEED, 'validation'), index)
      batch = distributed.to_devices(batch, mesh)
      sums.append(score(variables, batch, key))
      if not index:
        noise_key, sample_key = jax.random.split(key)
        x = preprocessing.dequantise(noise_key, batch['x'], kind)
        values = diagnostics.diagnose(model, variables, x, batch['mask'], sample_key, first)
    total, steps = np.sum(np.asarray(jax.device_get(sums), np.float64), axis=0)
    dims = math.prod(model.event_shape)
    return float(-total / (steps * dims) + preprocessing.log_levels(kind)), values

  return validate


class ValidationHistory:
  """Validations of a run so far, in `metrics.jsonl` and in the log, with a word of warning."""

  def __init__(self, workdir: Workdir, experiment: Experiment):
    self._workdir, self._experiment = workdir, experiment
    self._health = [self._known(record) for record in workdir.validations()]

  @staticmethod
  def _known(record: dict[str, Any]) -> dict[str, Any]:
    return {'step': record['step'], **diagnostics.recorded(record)}

  def add(self, step: int, nats_per_dim: float, health: dict[str, Any]):
    """Records one, prints it, and says in plain words what looks wrong."""
    record = {'step': step, 'validation_nats_per_dim': nats_per_dim, **health}
    self._workdir.append('metrics.jsonl', record)
    self._health.append(self._known(record))
    shown = ''
    if 'kl' in health:
      shown = (
        f', KL {health["kl"]:.2f} nats/step, {health["active_units"]} of '
        f'{health["latent_size"]} units active, predictive gap {health["predictive_gap"]:.1f} '
        'nats/step'
      )
    log.info('step %d  validation %s%s', step, self._experiment.in_words(nats_per_dim), shown)
    for sentence in diagnostics.sentences(self._health):
      log.warning('step %d  %s', step, sentence)
