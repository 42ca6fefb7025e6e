"""What the levels of a multi-scale flow cost, and what their past leaves to predict."""

import functools
import itertools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from afslvm.evaluation.correlation import temporal_correlation
from afslvm.models.base import HasFrameLatents, SequenceModel
from afslvm.types import Array, PyTree

NUM_INTERPOLATED = 9


class Level(NamedTuple):
  """Numbers about the latents of one level, which are counted from the finest one."""

  bits_per_dim: np.ndarray  # [T], -log2 p(z_t | z_<t, above_t) over the dimensions of the frame
  correlation: float  # of successive z_t
  moved_correlation: float  # of successive u_t, z_t in the frame of reference of its prior


def of_levels(shown: dict[str, Any], scored: Array, dims: int) -> list[Level]:
  """Returns numbers about each level, [] of a model without levels.

  Args:
    shown: what the model sowed into `diagnostics`.
    scored: bool [B, T], the steps that count.
    dims: of a frame.
  """
  levels: list[Level] = []
  for number in itertools.count():
    names = [f'{name}_of_level_{number}' for name in ('log_prob', 'z', 'u')]
    if names[0] not in shown:
      return levels
    log_prob, z, u = (np.asarray(shown[name][-1]) for name in names)
    own = np.asarray(scored)[:, -log_prob.shape[1] :]
    counts = own.sum(axis=0)
    nats = -np.where(own, log_prob, 0.0).sum(axis=0, dtype=np.float64)[counts > 0]
    everywhere = own.all(axis=0)
    correlations = [
      temporal_correlation(values[:, everywhere]) if everywhere.sum() > 1 else math.nan
      for values in (z, u)
    ]
    levels.append(Level(nats / counts[counts > 0] / dims / math.log(2), *correlations))
  return levels


def numbers(levels: list[Level]) -> dict[str, float]:
  """Returns the same for logs: 'level 0/bits_per_dim', the mean over steps, and correlations."""
  found = {}
  for number, level in enumerate(levels):
    values = (float(level.bits_per_dim.mean()), level.correlation, level.moved_correlation)
    for name, value in zip(Level._fields, values, strict=True):
      found[f'level {number}/{name}'] = value
  return {name: value for name, value in found.items() if math.isfinite(value)}


def of_sequences(model: SequenceModel, variables: PyTree, x: Array, key: Array) -> list[Level]:
  """Returns numbers about the levels of the core of `model`, on x [B, T, *event]."""
  scored, shown = _apply(model, variables, x, key)
  for name in model.core_path:
    shown = shown.get(name, {})
  return of_levels(shown, scored, math.prod(model.event_shape))


@functools.partial(jax.jit, static_argnums=0)
def _apply(model: SequenceModel, variables: PyTree, x: Array, key: Array):
  terms, updated = model.apply(variables, x, rngs={'sample': key}, mutable=['diagnostics'])
  return terms.scored, updated.get('diagnostics', {})


def interpolated(
  model: SequenceModel, variables: PyTree, first: Array, last: Array
) -> np.ndarray | None:
  """Returns frames [N, *event] on the straight line between the latents of two frames [*event].

  None of a model that has no latents from which a frame can be computed back.
  """
  if not isinstance(model, HasFrameLatents):
    return None
  return np.asarray(_interpolate(model, variables, first, last))


@functools.partial(jax.jit, static_argnums=0)
def _interpolate(model: Any, variables: PyTree, first: Array, last: Array) -> Array:
  latents = model.apply(variables, jnp.stack([first, last])[None], method='latents')
  weights = jnp.linspace(0.0, 1.0, NUM_INTERPOLATED)

  def between(z: Array) -> Array:
    """Maps the two ends [1, 2, h, w, c] to [1, N, h, w, c]."""
    weight = weights.reshape(-1, 1, 1, 1)
    return (1 - weight) * z[:, :1] + weight * z[:, 1:]

  line = jax.tree.map(between, latents)
  return model.apply(variables, line, method='decode')[0]
