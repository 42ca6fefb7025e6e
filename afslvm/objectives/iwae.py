"""The importance-weighted bound over whole sequences (Burda et al. 2016)."""

import math

import jax
import jax.numpy as jnp

from afslvm.models.base import SequenceModel, StepTerms
from afslvm.objectives.inside import check_has_no_prior_chain
from afslvm.types import Array, PyTree, ScalarOrArray


def log_mean_exp(values: Array) -> Array:
  """Returns the log of the mean of exp(values) over the first axis."""
  return jax.scipy.special.logsumexp(values, axis=0) - math.log(values.shape[0])


def importance_bound(
  model: SequenceModel,
  variables: PyTree,
  x: Array,
  mask: Array,
  keys: Array,
  kl_weight: ScalarOrArray = 1.0,
  mutable: tuple[str, ...] | None = None,
) -> tuple[Array, StepTerms, PyTree]:
  """Returns log 1/K Σ_k Π_t p(x_t, z_t^k | ...) / q(z_t^k | ...), a bound for every K.

  It is tighter for more draws. What doesn't depend on them, such as flows and encoders, is computed
  once.

  Args:
    model: any sequence model.
    variables: its parameters and other collections.
    x: [B, T, *event], dequantised.
    mask: bool [B, T].
    keys: [K] PRNG keys, one for each draw.
    kl_weight: of log q - log p; 1 is the bound.
    mutable: collections of the model that training updates; None in evaluation, without dropout.

  Returns:
    The bound [B], nats per sequence; the terms of all draws, [K, B, T]; the updated collections,
    averaged over draws.

  Raises:
    ConfigError: the prior has a chain of its own.
  """
  check_has_no_prior_chain(model, 'iwae')
  # Dropout is the same for all draws, like the encoders that it acts on.
  shared = {} if mutable is None else {'dropout': jax.random.fold_in(keys[0], 1)}

  def draw(key):
    return model.apply(
      variables, x, mask, rngs={'sample': key, **shared}, mutable=list(mutable or ())
    )

  terms, updated = jax.vmap(draw)(keys)
  sums = jnp.sum(tempered(terms, kl_weight), axis=2)
  return log_mean_exp(sums), terms, jax.tree.map(lambda value: jnp.mean(value, axis=0), updated)


def tempered(terms: StepTerms, kl_weight: ScalarOrArray) -> Array:
  """Returns `StepTerms.log_weight` with log q - log p weighted; the terms' shape."""
  if terms.latents is None:
    return terms.log_weight
  discount = (1.0 - kl_weight) * terms.latents.log_ratio
  return terms.log_weight + jnp.where(terms.scored, discount, 0.0)
