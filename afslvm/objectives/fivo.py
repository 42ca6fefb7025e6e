"""The bound of a particle filter whose proposal is the posterior (Maddison et al. 2017).

Flows depend on no latent variable: they are undone once, in parallel, and their log-determinant is
added. What the model inside them needs of the observations is computed at once, too; its particles
are filtered step by step.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from afslvm import fast_cpu
from afslvm.models.base import SequenceModel, StepTerms
from afslvm.objectives.inside import check_has_no_prior_chain
from afslvm.objectives.iwae import log_mean_exp, tempered
from afslvm.types import Array, PyTree


class Filtered(NamedTuple):
  """The result of a particle filter."""

  bound: Array  # [B], nats per sequence
  effective_size: Array  # [B, T'], of the particles, 1..K, before resampling
  resampled: Array  # bool [B, T']
  terms: StepTerms  # [B, T'], means over particles
  collections: PyTree  # updated, averaged over particles


class Cloud(NamedTuple):
  """The particles, and what the filter has found so far."""

  collections: PyTree  # the model's mutable ones
  state: PyTree  # of the core, leaves [K, B, ...]
  log_weights: Array  # [K, B], since the last resampling
  bound: Array  # [B], nats up to it


@dataclasses.dataclass(frozen=True)
class ParticleFilter:
  """log p̂(x), the sum of log-mean weights between resampling steps: FIVO-K.

  Attributes:
    model: any sequence model; without latent variables the bound is the exact value.
    num_particles: K.
    threshold: particles of a sequence are resampled, systematically, when their effective number
      falls below this share of K.
    first: steps before it aren't counted.
    mutable: collections of the model that are updated: those of a decoder at each step, from its
      particles alone, so that its batch statistics are those of a step.

  Raises:
    ConfigError: the prior has a chain of its own.
  """

  model: SequenceModel
  num_particles: int
  threshold: float = 0.5
  first: int = 0
  mutable: tuple[str, ...] = ()

  def __post_init__(self):
    check_has_no_prior_chain(self.model, 'fivo')

  def __call__(
    self,
    variables: PyTree,
    x: Array,
    mask: Array,
    key: Array,
    kl_weight: Array | float = 1.0,
    dropout: Array | None = None,
  ) -> Filtered:
    """Filters x [B, T, *event], dequantised, with mask bool [B, T].

    Args:
      variables: the model's parameters and other collections.
      x: the data.
      mask: False at padding.
      key: for latent draws and resampling.
      kl_weight: of log q - log p; 1 is the bound.
      dropout: its key, for training.
    """
    # As in `SequenceModel.__call__`: not even a NaN at padding reaches a gradient.
    x = jnp.where(mask.reshape(mask.shape + (1,) * (x.ndim - 2)), x, 0.0)
    shared = {} if dropout is None else {'dropout': dropout}
    (prepared, log_det), updated = self.model.apply(
      variables, x, mask, method=_prepare, mutable=list(self.mutable), rngs=shared
    )
    skipped = x.shape[1] - log_det.shape[1]
    counted = mask[:, skipped:] & (jnp.arange(skipped, x.shape[1]) >= self.first)
    variables = {**variables, **updated}
    keys = jax.random.split(key, log_det.shape[1])
    inputs = (jax.tree.map(lambda value: jnp.moveaxis(value, 1, 0), (prepared, counted)), keys)
    step = functools.partial(self._step, variables, jnp.asarray(kl_weight), dropout)
    with fast_cpu.in_loop():
      cloud, outputs = jax.lax.scan(step, self._start(variables, x.shape[0]), inputs)
    size, due, terms = jax.tree.map(jnp.transpose, outputs)
    # Steps that the core only conditions on have no log-determinant either.
    counted = counted & (terms.scored > 0.5)  # a mean over particles, which agree
    bound = cloud.bound + log_mean_exp(cloud.log_weights)
    bound = bound - jnp.sum(jnp.where(counted, log_det, 0.0), axis=1)
    terms = terms.replace(log_det=log_det, scored=counted).masked(counted)
    return Filtered(bound, size, due, terms, cloud.collections)

  def _start(self, variables: PyTree, batch_size: int) -> Cloud:
    """Returns all particles in the core's first state."""
    first = self.model.apply(variables, method=lambda model: model.core.initial_state(batch_size))
    count = self.num_particles
    state = jax.tree.map(lambda value: jnp.broadcast_to(value, (count, *value.shape)), first)
    collections = {name: variables[name] for name in self.mutable}
    return Cloud(collections, state, jnp.zeros((count, batch_size)), jnp.zeros(batch_size))

  def _step(
    self, variables: PyTree, kl_weight: Array, dropout: Array | None, cloud: Cloud, inputs: Any
  ):
    """Moves all particles through one observation, weighs them, and resamples where it is due."""
    (prepared_t, counted_t), key = inputs
    resampling_key, *keys = jax.random.split(key, self.num_particles + 1)
    shared = {} if dropout is None else {'dropout': jax.random.fold_in(key, 1)}

    def move(state, key):
      (state, terms), new = self.model.apply(
        {**variables, **cloud.collections},
        *(state, prepared_t),
        method=lambda model, *arguments: model.core.advance(*arguments),
        rngs={'sample': key, **shared},
        mutable=list(self.mutable),
      )
      return state, tempered(terms, kl_weight), terms.replace(latents=None), new

    state, log_alpha, terms, new = jax.vmap(move)(cloud.state, jnp.stack(keys))
    terms, new = jax.tree.map(lambda value: jnp.mean(value, axis=0), (terms, new))
    log_weights = cloud.log_weights + jnp.where(counted_t, log_alpha, 0.0)
    size = effective_size(log_weights)
    due = (size < self.threshold * self.num_particles) & counted_t
    bound = cloud.bound + jnp.where(due, log_mean_exp(log_weights), 0.0)
    state = _resample(resampling_key, state, log_weights, due)
    log_weights = jnp.where(due, 0.0, log_weights)
    return Cloud({**cloud.collections, **new}, state, log_weights, bound), (size, due, terms)


def _prepare(model: SequenceModel, x: Array, mask: Array) -> tuple[PyTree, Array]:
  """Returns what the core's steps need of its observations, [B, T', ...], and flows' log_det."""
  y, log_det = model.without_flows(x, mask)
  return model.core.prepare(y, mask[:, x.shape[1] - y.shape[1] :]), log_det


def effective_size(log_weights: Array) -> Array:
  """Returns 1 / Σ w² of normalised weights over the first axis, between 1 and K."""
  normalized = jax.nn.log_softmax(log_weights, axis=0)
  return jnp.exp(-jax.scipy.special.logsumexp(2 * normalized, axis=0))


def systematic_ancestors(key: Array, log_weights: Array) -> Array:
  """Returns ancestors, int32 [K], of K particles by one draw of K evenly spaced points.

  Particle k is chosen floor(K w_k) or ceil(K w_k) times, and K w_k times in expectation.
  """
  count = log_weights.shape[0]
  points = (jax.random.uniform(key) + jnp.arange(count)) / count
  cumulative = jnp.cumsum(jax.nn.softmax(log_weights))
  return jnp.minimum(jnp.searchsorted(cumulative, points, side='right'), count - 1)


def _resample(key: Array, state: PyTree, log_weights: Array, due: Array) -> PyTree:
  """Returns new particles where `due` [B]; leaves are [K, B, ...]. No gradient goes through."""
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
