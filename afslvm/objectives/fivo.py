"""The bound of a particle filter whose proposal is the posterior (Maddison et al. 2017).

Flows depend on no latent variable: they are undone once, in parallel, and their log-determinant is
added. Particles are filtered through the model inside them, step by step.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from afslvm.models.base import SequenceModel
from afslvm.objectives.iwae import log_mean_exp, tempered
from afslvm.types import Array, PyTree


class Filtered(NamedTuple):
  """The result of a particle filter."""

  bound: Array  # [B], nats per sequence
  effective_size: Array  # [B, T'], of the particles, 1..K, before resampling
  resampled: Array  # bool [B, T']
  collections: PyTree  # updated, averaged over particles


def particle_bound(
  model: SequenceModel,
  variables: PyTree,
  x: Array,
  mask: Array,
  key: Array,
  num_particles: int,
  threshold: float = 0.5,
  first: int = 0,
  kl_weight: Array | float = 1.0,
  mutable: tuple[str, ...] = (),
) -> Filtered:
  """log p̂(x), the sum of the log-mean weights between resampling steps: FIVO-K.

  Args:
    model: any sequence model; without latent variables the bound is the exact value.
    variables: its parameters and other collections.
    x: [B, T, *event], dequantised.
    mask: bool [B, T].
    key: for latent draws and resampling.
    num_particles: K.
    threshold: particles of a sequence are resampled, systematically, when their effective number
      falls below this share of K.
    first: steps before it aren't counted.
    kl_weight: of log q - log p; 1 is the bound.
    mutable: collections that are updated.
  """
  (y, log_det), updated = model.apply(
    variables, x, mask, method='without_flows', mutable=list(mutable)
  )
  skipped = x.shape[1] - y.shape[1]
  counted = mask[:, skipped:] & (jnp.arange(skipped, x.shape[1]) >= first)

  def initial(model):
    return model.core.initial_state(x.shape[0])

  def one_step(collections, state, y_t, mask_t, key):
    (state, terms), new = model.apply(
      {**variables, **collections},
      *(state, y_t, mask_t),
      method=lambda model, *arguments: model.core.step(*arguments),
      rngs={'sample': key},
      mutable=list(mutable),
    )
    return state, tempered(terms, jnp.asarray(kl_weight)), new

  particles = jax.vmap(one_step, in_axes=(None, 0, None, None, 0))

  def filter_step(carry, inputs):
    collections, state, log_weights, bound = carry
    y_t, mask_t, counted_t, key_t = inputs
    resampling_key, *keys = jax.random.split(key_t, num_particles + 1)
    state, log_alpha, new = particles(collections, state, y_t, mask_t, jnp.stack(keys))
    if new:
      collections = jax.tree.map(lambda value: jnp.mean(value, axis=0), new)
    log_weights = log_weights + jnp.where(counted_t, log_alpha, 0.0)
    size = effective_size(log_weights)
    due = (size < threshold * num_particles) & counted_t
    bound = bound + jnp.where(due, log_mean_exp(log_weights), 0.0)
    state = _resample(resampling_key, state, log_weights, due)
    log_weights = jnp.where(due, 0.0, log_weights)
    return (collections, state, log_weights, bound), (size, due)

  state = jax.tree.map(
    lambda value: jnp.broadcast_to(value, (num_particles, *value.shape)),
    model.apply(variables, method=initial),
  )
  zeros = jnp.zeros(x.shape[0])
  collections = {**{name: variables[name] for name in mutable}, **updated}
  carry: Any = (collections, state, jnp.zeros((num_particles, x.shape[0])), zeros)
  times = (
    jnp.moveaxis(y, 1, 0),
    mask[:, skipped:].T,
    counted.T,
    jax.random.split(key, y.shape[1]),
  )
  (collections, _, log_weights, bound), (size, due) = jax.lax.scan(filter_step, carry, times)
  bound = bound + log_mean_exp(log_weights) - jnp.sum(jnp.where(counted, log_det, 0.0), axis=1)
  return Filtered(bound, size.T, due.T, collections)


def effective_size(log_weights: Array) -> Array:
  """1 / Σ w² of normalised weights: between 1 and K, over the first axis."""
  normalized = jax.nn.log_softmax(log_weights, axis=0)
  return jnp.exp(-jax.scipy.special.logsumexp(2 * normalized, axis=0))


def systematic_ancestors(key: Array, log_weights: Array) -> Array:
  """Ancestors int32 [K] of K particles with weights [K]: one draw, K evenly spaced points.

  Particle k is chosen floor(K w_k) or ceil(K w_k) times, and K w_k times in expectation.
  """
  count = log_weights.shape[0]
  points = (jax.random.uniform(key) + jnp.arange(count)) / count
  cumulative = jnp.cumsum(jax.nn.softmax(log_weights))
  return jnp.minimum(jnp.searchsorted(cumulative, points, side='right'), count - 1)


def _resample(key: Array, state: PyTree, log_weights: Array, due: Array) -> PyTree:
  """New particles where `due` [B]; state leaves are [K, B, ...]. No gradient goes through this."""
  count, batch = log_weights.shape
  keys = jax.random.split(key, batch)
  ancestors = jax.vmap(systematic_ancestors, in_axes=(0, 1), out_axes=1)(
    keys, jax.lax.stop_gradient(log_weights)
  )
  ancestors = jnp.where(due, ancestors, jnp.arange(count)[:, None])

  def gather(leaf):
    index = ancestors.reshape(count, batch, *(1,) * (leaf.ndim - 2))
    return jnp.take_along_axis(leaf, index, axis=0)

  return jax.tree.map(gather, state)
