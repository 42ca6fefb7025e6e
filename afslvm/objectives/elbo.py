"""The evidence lower bound, or the exact log-likelihood where the model has no latent variables."""

import math

import jax
import jax.numpy as jnp

from afslvm.models.base import SequenceModel, StepTerms
from afslvm.transforms import preprocessing
from afslvm.types import Array, PyTree

Metrics = dict[str, Array]


def per_step(values: Array, terms: StepTerms) -> Array:
  """The mean of `values` [B, T] over scored steps of all sequences, so devices don't matter."""
  return jnp.sum(values) / jnp.maximum(jnp.sum(terms.scored), 1)


def negative_elbo(
  model: SequenceModel,
  dequantisation: str,
  params: PyTree,
  model_state: PyTree,
  batch: dict[str, Array],
  key: Array,
) -> tuple[Array, tuple[Metrics, PyTree]]:
  """AF paper Eq. 20, negated: the mean over scored steps, in nats per step.

  Args:
    model: any sequence model.
    dequantisation: one of `preprocessing.DEQUANTISATIONS`.
    params: the model's parameters.
    model_state: its other collections (`batch_stats`); they are updated.
    batch: `x` [B, T, *event] as stored, `mask` bool [B, T].
    key: for the dequantisation noise and the model's own samples.

  Returns:
    The loss, and metrics with the new model state. `nats_per_dim` includes log 256 for 8-bit data.
  """
  noise_key, sample_key = jax.random.split(key)
  x = preprocessing.dequantise(noise_key, batch['x'], dequantisation)
  terms, updated = model.apply(
    {'params': params, **model_state},
    x,
    batch['mask'],
    rngs={'sample': sample_key},
    mutable=list(model_state),
  )
  loss = -per_step(terms.elbo, terms)
  metrics = {
    'loss': loss,
    'nats_per_dim': loss / math.prod(model.event_shape) + preprocessing.log_levels(dequantisation),
    'log_likelihood': per_step(terms.log_likelihood, terms),
    'kl': per_step(terms.kl, terms),
    'log_det': per_step(terms.log_det, terms),
  }
  return loss, (metrics, updated)


def bound_sums(
  model: SequenceModel,
  dequantisation: str,
  variables: PyTree,
  batch: dict[str, Array],
  keys: tuple[Array, Array],
  first: int = 0,
) -> tuple[Array, Array]:
  """Each sequence's bound and how many of its steps were scored, without training side effects.

  Args:
    model: any sequence model.
    dequantisation: one of `preprocessing.DEQUANTISATIONS`.
    variables: the model's parameters and other collections.
    batch: as in `negative_elbo`.
    keys: for the dequantisation noise, and for the model's own samples.
    first: steps before it aren't counted.

  Returns:
    [B] nats summed over scored steps, and [B] scored steps.
  """
  noise_key, sample_key = keys
  x = preprocessing.dequantise(noise_key, batch['x'], dequantisation)
  terms = model.apply(variables, x, batch['mask'], rngs={'sample': sample_key})
  return jnp.sum(terms.elbo[:, first:], axis=1), jnp.sum(terms.scored[:, first:], axis=1)
