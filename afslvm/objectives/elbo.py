"""The evidence lower bound, or the exact log-likelihood where the model has no latent variables."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from afslvm.models.base import SequenceModel, StepTerms
from afslvm.transforms import preprocessing
from afslvm.types import Array, PyTree

Metrics = dict[str, Array]


def per_step(values: Array, terms: StepTerms) -> Array:
  """The mean of `values` [B, T] over scored steps of all sequences, so devices don't matter."""
  return jnp.sum(values) / jnp.maximum(jnp.sum(terms.scored), 1)


def terms_metrics(model: SequenceModel, dequantisation: str, terms: StepTerms) -> Metrics:
  """What is known of a batch: the plain bound, whatever is optimised, and its parts per step."""
  per_dim = -per_step(terms.elbo, terms) / math.prod(model.event_shape)
  return {
    'scored': jnp.sum(terms.scored).astype(jnp.float32),
    'nats_per_dim': per_dim + preprocessing.log_levels(dequantisation),
    'log_likelihood': per_step(terms.log_likelihood, terms),
    'kl': per_step(terms.kl, terms),
    'log_det': per_step(terms.log_det, terms),
  }


def training_terms(
  model: SequenceModel,
  params: PyTree,
  model_state: PyTree,
  batch: dict[str, Array],
  key: Array,
  kl_weight: Array | float = 1.0,
) -> tuple[StepTerms, PyTree]:
  """The terms of a batch in training mode, and the model's updated collections.

  Args:
    model: any sequence model.
    params: the model's parameters.
    model_state: its other collections (`batch_stats`); they are updated.
    batch: `x` [B, T, *event], dequantised, `mask` bool [B, T]; of streams `reset` bool [B]; of a
      part of a batch `rows` [P, B], those of each part, and `part`, which this is.
    key: for the model's own samples, and dropout.
    kl_weight: of the divergence, for inference that minimises free energies.
  """
  dropout = jax.random.fold_in(key, 1)
  if 'part' in batch:
    dropout = jax.random.fold_in(dropout, batch['part'])
  return model.apply(
    {
      'params': params,
      **model_state,
      'annealing': annealing(model, kl_weight),
      **_about(model, batch),
    },
    batch['x'],
    batch['mask'],
    rngs={'sample': key, 'dropout': dropout},
    mutable=list(model_state),
  )


def annealing(model: SequenceModel, kl_weight: Array | float) -> PyTree:
  """The collection that tells inference by free energies what the divergence weighs."""
  return model.at_core({'kl_weight': jnp.asarray(kl_weight, jnp.float32)})


def _about(model: SequenceModel, batch: dict[str, Array]) -> PyTree:
  """Collections that tell the model what its rows are.

  In training on streams, which of them begin; the others go on from the collection `carry`. Of a
  part, which rows of the whole batch they are, so that each has the draws it has there.
  """
  about = {}
  if 'reset' in batch:
    about['stream'] = model.at_core({'reset': batch['reset']})
  if 'rows' in batch:
    about['part'] = model.at_core({'rows': batch['rows'], 'index': batch['part']})
  return about


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
  """Each sequence's bound and how many of its steps were scored, without training side effects.

  Args:
    model: any sequence model.
    dequantisation: one of `preprocessing.DEQUANTISATIONS`.
    variables: the model's parameters and other collections.
    batch: as in `training_terms`.
    keys: for the dequantisation noise, and for the model's own samples.
    first: steps before it aren't counted.
  """
  noise_key, sample_key = keys
  x = preprocessing.dequantise(noise_key, batch['x'], dequantisation)
  terms = model.apply(variables, x, batch['mask'], rngs={'sample': sample_key})
  values = (terms.elbo, terms.log_weight, terms.kl, terms.scored)
  return BoundSums(*(jnp.sum(value[:, first:], axis=1) for value in values))
