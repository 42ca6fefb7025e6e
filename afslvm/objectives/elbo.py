"""The evidence lower bound, or the exact log-likelihood where the model has no latent variables."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from afslvm.models.base import SequenceModel, StepTerms
from afslvm.transforms import preprocessing
from afslvm.types import Array, PyTree

Metrics = dict[str, Array]


def per_step(values: Array, terms: StepTerms) -> Array:
  """Returns the mean of `values` [B, T] over scored steps of all sequences, on all devices."""
  return jnp.sum(values) / jnp.maximum(jnp.sum(terms.scored), 1)


def terms_metrics(model: SequenceModel, dequantisation: str, terms: StepTerms) -> Metrics:
  """Returns what is logged of a batch: the plain bound, whatever is optimised, and its parts."""
  per_dim = -per_step(terms.elbo, terms) / math.prod(model.event_shape)
  return {
    'scored': jnp.sum(terms.scored).astype(jnp.float32),
    'nats_per_dim': per_dim + preprocessing.log_levels(dequantisation),
    'log_likelihood': per_step(terms.log_likelihood, terms),
    'kl': per_step(terms.kl, terms),
    'log_det': per_step(terms.log_det, terms),
  }


def in_training(
  model: SequenceModel,
  params: PyTree,
  collections: PyTree,
  batch: dict[str, Array],
  key: Array,
  kl_weight: Array | float = 1.0,
  function: Callable[..., Any] = SequenceModel.__call__,
  **arguments: Any,
) -> tuple[Any, PyTree]:
  """Calls function(model, x, mask, **arguments) in training mode.

  Args:
    model: any sequence model.
    params: the model's parameters.
    collections: its other collections (`batch_stats`), which are updated.
    batch: `x` [B, T, *event], dequantised, and `mask` bool [B, T]; of a part of a batch also `rows`
      [P, B], those of each part, and `part`, the number of this one.
    key: for the model's own samples, and dropout.
    kl_weight: of the divergence, for inference that minimises free energies.
    function: takes the bound model; by default it scores.
    **arguments: of the function.

  Returns:
    What the function returns, and the updated collections.
  """
  dropout = jax.random.fold_in(key, 1)
  if 'part' in batch:
    dropout = jax.random.fold_in(dropout, batch['part'])
  variables = {'params': params, **collections, 'annealing': annealing(model, kl_weight)}
  if 'rows' in batch:
    # The draws of a row are those that it has in the whole batch.
    variables['part'] = model.at_core({'rows': batch['rows'], 'index': batch['part']})
  return model.apply(
    variables,
    batch['x'],
    batch['mask'],
    **arguments,
    method=function,
    rngs={'sample': key, 'dropout': dropout},
    mutable=list(collections),
  )


def annealing(model: SequenceModel, kl_weight: Array | float) -> PyTree:
  """Returns the collection that tells inference by free energies what the divergence weighs."""
  return model.at_core({'kl_weight': jnp.asarray(kl_weight, jnp.float32)})


class BoundSums(NamedTuple):
  """Sums over the scored steps of each sequence, all [B]."""

  elbo: Array  # nats, with the divergence in closed form
  log_weight: Array  # nats, log p(x, z) - log q(z) at the draw
  kl: Array  # nats
  steps: Array  # how many were scored


def bound_sums(
  model: SequenceModel,
  dequantisation: str,
  variables: PyTree,
  batch: dict[str, Array],
  keys: tuple[Array, Array],
  first: int = 0,
) -> BoundSums:
  """Returns each sequence's bound and how many of its steps were scored, in evaluation mode.

  Args:
    model: any sequence model.
    dequantisation: one of `preprocessing.DEQUANTISATIONS`.
    variables: the model's parameters and other collections.
    batch: `x` [B, T, *event], as stored, and `mask` bool [B, T].
    keys: for the dequantisation noise, and for the model's own samples.
    first: steps before it aren't counted.
  """
  noise_key, sample_key = keys
  x = preprocessing.dequantise(noise_key, batch['x'], dequantisation)
  terms = model.apply(variables, x, batch['mask'], rngs={'sample': sample_key})
  values = (terms.elbo, terms.log_weight, terms.kl, terms.scored)
  return BoundSums(*(jnp.sum(value[:, first:], axis=1) for value in values))
