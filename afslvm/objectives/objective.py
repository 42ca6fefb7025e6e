"""The training objective that a config describes."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from afslvm.errors import ConfigError
from afslvm.models.base import SequenceModel
from afslvm.objectives import elbo, fivo, iwae
from afslvm.objectives.annealing import KLSettings, kl_weight, weighted_kl
from afslvm.types import Array, PyTree

BOUNDS = ('elbo', 'iwae', 'fivo')
# (params, model_state, batch, key, step) -> (loss, (metrics, new model_state)); the batch's `x` is
# dequantised. Metrics hold `scored`, the steps that the loss is a mean over.
Loss = Callable[[PyTree, PyTree, dict[str, Array], Array, Array], tuple[Array, Any]]


@dataclasses.dataclass(frozen=True)
class ObjectiveSettings(KLSettings):
  """Which bound is maximised, and how its divergence is weighted.

  Attributes:
    bound: `elbo` (AF paper Eq. 20), `iwae` over whole sequences, or `fivo`, a particle filter's.
    num_samples: draws or particles per sequence, K; `elbo` takes one.
    resample_threshold: of `fivo`, as a share of K.
    first_scored: steps before it are given; the AVF paper never scores the first one.
  """

  bound: str = 'elbo'
  num_samples: int = 1
  resample_threshold: float = 0.5
  first_scored: int = 0

  choices: ClassVar = {'bound': BOUNDS}
  limits: ClassVar = {
    **KLSettings.limits,
    'num_samples': (1, None),
    'resample_threshold': (0.0, 1.0),
    'first_scored': (0, None),
  }

  def check(self):
    """Raises ConfigError for options that the bound doesn't have."""
    if self.bound == 'elbo' and self.num_samples != 1:
      raise ConfigError(
        f'objective.num_samples={self.num_samples} needs objective.bound=iwae or fivo; elbo takes 1'
      )
    if self.bound != 'elbo' and self.first_scored:
      raise ConfigError(
        f'objective.first_scored={self.first_scored} needs objective.bound=elbo; use 0'
      )
    if self.bound != 'elbo' and (self.free_nats, self.kl_balance) != (0.0, 0.5):
      raise ConfigError(
        f'objective.bound={self.bound} weighs samples, not divergences: free_nats must be 0.0 and '
        'kl_balance 0.5'
      )


def make_loss(settings: ObjectiveSettings, model: SequenceModel, dequantisation: str) -> Loss:
  """The loss of a train step, a mean over scored steps in nats per step.

  Args:
    settings: which bound, and what its divergence weighs.
    model: any sequence model.
    dequantisation: that `x` has gone through, for what is logged.
  """
  if settings.bound == 'elbo':

    def annealed_elbo(params, model_state, batch, key, step):
      weight = kl_weight(settings, step)
      terms, updated = elbo.training_terms(model, params, model_state, batch, key, weight)
      terms = terms.masked(jnp.arange(terms.kl.shape[1]) >= settings.first_scored)
      reconstruction = elbo.per_step(terms.log_det - terms.log_likelihood, terms)
      loss = reconstruction + weighted_kl(terms, settings, step)
      if terms.local is not None:
        # Variational EM: its gradient is that of the inference, its value is in the loss already.
        local = elbo.per_step(terms.local, terms)
        loss = loss + local - jax.lax.stop_gradient(local)
      metrics = {'loss': loss, **elbo.terms_metrics(model, dequantisation, terms)}
      if terms.latents is not None:
        metrics['kl_weight'] = weight
      return loss, (metrics, updated)

    return annealed_elbo

  def negative_bound(params, model_state, batch, key, step):
    x, mask = batch['x'], batch['mask']
    if 'part' in batch:
      key = jax.random.fold_in(key, batch['part'])
    weight = kl_weight(settings, step)
    annealing = {'annealing': elbo.annealing(model, weight)}
    variables = {'params': params, **model_state, **annealing}
    sample = _importance if settings.bound == 'iwae' else _particles
    bound, terms, updated = sample(settings, model, variables, x, mask, key, weight)
    loss = -jnp.sum(bound) / jnp.maximum(jnp.sum(terms.scored), 1)
    metrics = {'loss': loss, **elbo.terms_metrics(model, dequantisation, terms)}
    return loss, ({**metrics, 'kl_weight': weight}, updated)

  return negative_bound


def _importance(settings, model, variables, x, mask, key, weight):
  """The bound, terms of the first draw for the log, and the updated collections."""
  keys = jax.random.split(key, settings.num_samples)
  bound, terms, updated = iwae.importance_bound(
    model, variables, x, mask, keys, weight, _collections(variables)
  )
  return bound, jax.tree.map(lambda term: term[0], terms), updated


def _particles(settings, model, variables, x, mask, key, weight):
  """As `_importance`; terms are means over particles."""
  particles = fivo.ParticleFilter(
    model, settings.num_samples, settings.resample_threshold, mutable=_collections(variables)
  )
  filtered = particles(variables, x, mask, key, weight, dropout=jax.random.fold_in(key, 1))
  return filtered.bound, filtered.terms, filtered.collections


def _collections(variables: PyTree) -> tuple[str, ...]:
  """What training updates besides the parameters."""
  return tuple(name for name in variables if name not in ('params', 'annealing'))
