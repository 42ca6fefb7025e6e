"""Bounds on log p(x) of arrays, by any sequence model: `af.elbo`, `af.iwae` and `af.fivo`.

They can be differentiated and compiled: `jax.value_and_grad` of `Bound.loss` trains a model.
"""

import math

import jax
import jax.numpy as jnp
from flax import struct

from afslvm.models.base import SequenceModel
from afslvm.objectives import iwae as iwae_lib
from afslvm.objectives.fivo import ParticleFilter
from afslvm.transforms import preprocessing
from afslvm.types import Array, PyTree


class Bound(struct.PyTreeNode):
  """log p(x), or a lower bound on it, for each of B sequences.

  `nats_per_step` and `nats_per_dim` are negative log-likelihoods, of which lower is better.

  Attributes:
    log_likelihood: [B] nats, summed over the scored steps.
    kl: [B] nats, the part of it that is the divergence; zeros without latent variables.
    scored: bool [B, T], the steps that count: not padding, and not what a flow is only given.
    updated: collections that training updates, such as batch statistics; {} in evaluation.
    kind: 'exact', 'elbo', 'prior-chain-elbo', 'iwae-K' or 'fivo-K'.
    event_shape: of one step.
    dequantisation: the noise that the values got, one of `preprocessing.DEQUANTISATIONS`.
  """

  log_likelihood: Array
  kl: Array
  scored: Array
  updated: PyTree
  kind: str = struct.field(pytree_node=False)
  event_shape: tuple[int, ...] = struct.field(pytree_node=False)
  dequantisation: str = struct.field(pytree_node=False, default='none')

  @property
  def steps(self) -> Array:
    """Returns the number of scored steps of each sequence, [B]."""
    return jnp.sum(self.scored, axis=1)

  @property
  def loss(self) -> Array:
    """Returns the mean of the negative bound over all scored steps of all sequences, in nats."""
    return -jnp.sum(self.log_likelihood) / jnp.maximum(jnp.sum(self.scored), 1)

  @property
  def nats_per_step(self) -> Array:
    """Returns nats per step [B], without the log 256 that `nats_per_dim` adds for noise."""
    return -self.log_likelihood / jnp.maximum(self.steps, 1)

  @property
  def nats_per_dim(self) -> Array:
    """Returns nats per dimension [B], with log 256 added for 8-bit values that got noise."""
    per_dim = self.nats_per_step / math.prod(self.event_shape)
    return per_dim + preprocessing.log_levels(self.dequantisation)

  @property
  def bits_per_dim(self) -> Array:
    """Returns `nats_per_dim` in bits, [B]."""
    return self.nats_per_dim / math.log(2.0)

  def __str__(self) -> str:
    """One line: the mean over sequences, with what it is."""
    limit = '' if self.kind == 'exact' else '≤ '
    units = {'nats/dim': self.nats_per_dim, 'bits/dim': self.bits_per_dim}
    if self.dequantisation in ('none', 'discretised'):  # no levels that a step would lack
      units = {'nats/step': self.nats_per_step, 'nats/dim': self.nats_per_dim}
    values = ', '.join(f'{limit}{jnp.mean(value):.3f} {unit}' for unit, value in units.items())
    count, steps = self.scored.shape[0], int(jnp.sum(self.scored))
    return (
      f'{self.kind}: {values} ({count} sequences, {steps} scored steps, '
      f'dequantisation {self.dequantisation})'
    )


def elbo(
  model: SequenceModel,
  variables: PyTree,
  x: Array,
  key: Array,
  mask: Array | None = None,
  training: bool = False,
) -> Bound:
  """Returns the evidence lower bound, or the exact log-likelihood without latent variables.

  Args:
    model: any sequence model.
    variables: its parameters and other collections.
    x: [B, T, *event], float, dequantised.
    key: for latent draws.
    mask: bool [B, T], False at padding, which must be at the end.
    training: whether dropout is active and batch statistics are updated.

  Raises:
    ValueError: x does not fit the model.
  """
  check(model, x, mask)
  mask = jnp.ones(x.shape[:2], bool) if mask is None else jnp.asarray(mask)
  dropout = {'dropout': jax.random.fold_in(key, 1)} if training else {}
  terms, updated = model.apply(
    variables, x, mask, rngs={'sample': key, **dropout}, mutable=_collections(variables, training)
  )
  value, kl = jnp.sum(terms.elbo, axis=1), jnp.sum(terms.kl, axis=1)
  return Bound(value, kl, terms.scored, updated, model.bound, tuple(model.event_shape))


def iwae(
  model: SequenceModel,
  variables: PyTree,
  x: Array,
  key: Array,
  mask: Array | None = None,
  num_samples: int = 10,
) -> Bound:
  """Returns the importance-weighted bound of `num_samples` draws of sequences; see `elbo`."""
  check(model, x, mask)
  mask = jnp.ones(x.shape[:2], bool) if mask is None else jnp.asarray(mask)
  keys = jax.random.split(key, num_samples)
  value, terms, _ = iwae_lib.importance_bound(model, variables, x, mask, keys)
  kl = jnp.mean(jnp.sum(terms.kl, axis=2), axis=0)
  kind = 'exact' if model.bound == 'exact' else f'iwae-{num_samples}'
  return Bound(value, kl, terms.scored[0], {}, kind, tuple(model.event_shape))


def fivo(
  model: SequenceModel,
  variables: PyTree,
  x: Array,
  key: Array,
  mask: Array | None = None,
  num_particles: int = 10,
) -> Bound:
  """Returns the bound of a particle filter whose proposal is the posterior; see `elbo`."""
  check(model, x, mask)
  mask = jnp.ones(x.shape[:2], bool) if mask is None else jnp.asarray(mask)
  found = ParticleFilter(model, num_particles)(variables, jnp.asarray(x), mask, key)
  skipped = x.shape[1] - found.terms.kl.shape[1]
  scored = jnp.pad(found.terms.scored, [(0, 0), (skipped, 0)])
  kl = jnp.sum(found.terms.kl, axis=1)
  kind = 'exact' if model.bound == 'exact' else f'fivo-{num_particles}'
  return Bound(found.bound, kl, scored, {}, kind, tuple(model.event_shape))


def check(model: SequenceModel, x: Array, mask: Array | None = None):
  """Raises ValueError, in one sentence, for sequences or a mask that do not fit the model."""
  check_shape(model, x)
  shape = x.shape
  if not jnp.issubdtype(x.dtype, jnp.floating):
    raise ValueError(
      f'x has dtype {x.dtype}; a model takes floats: run.score(x) converts values as the run was '
      "trained, af.dequantise(key, x, 'gauss256') by hand, x.astype('float32') without noise"
    )
  if shape[1] <= model.min_context:
    raise ValueError(
      f'x has {shape[1]} steps, which leaves nothing to score after the {model.min_context} that '
      f'this model is given; use {model.min_context + 1} or more'
    )
  if mask is not None and (tuple(mask.shape) != shape[:2] or mask.dtype != bool):
    raise ValueError(
      f'mask has shape {tuple(mask.shape)} and dtype {mask.dtype}; it must be bool {shape[:2]}, '
      'False at padding'
    )


def check_shape(model: SequenceModel, x: Array, name: str = 'x'):
  """Raises ValueError, in one sentence, for an array that is not [B, T, *event]."""
  shape, event = tuple(jnp.shape(x)), ', '.join(map(str, model.event_shape))
  if len(shape) != 2 + len(model.event_shape) or shape[2:] != tuple(model.event_shape):
    hint = _hint(model, shape, name)
    raise ValueError(f'{name} has shape {shape}; this model takes [B, T, {event}]{hint}')


def _hint(model: SequenceModel, shape: tuple[int, ...], name: str) -> str:
  """Returns a clause that says how to mend a shape, or '' where it can't be guessed."""
  event = tuple(model.event_shape)
  if shape[1:] == event:
    return f'; for one sequence use {name}[None]'
  if event[-1] == 1 and shape[2:] == event[:-1]:
    return f'; add the channel: {name}[..., None]'
  if len(event) == 3 and shape[2:] == (event[2], *event[:2]):
    return f'; move the channels to the end: np.moveaxis({name}, 2, -1)'
  return ''


def _collections(variables: PyTree, training: bool) -> list[str]:
  """Returns the names of the collections that a pass in training mode updates."""
  return [name for name in variables if name != 'params'] if training else []
