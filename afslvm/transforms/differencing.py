"""Temporal differencing, u_t = x_t - x_{t-1}: the affine transform with shift x_{t-1}, scale one.

AF paper Section 3.1 (Eq. 10-14): one differencing turns a second-order Markov sequence into a
first-order one, two turn the particle into white noise. x_0 = 0 before the first step.
"""

import jax.numpy as jnp

from afslvm.transforms.chain import Transform
from afslvm.types import Array


def _no_volume_change(x: Array) -> Array:
  return jnp.zeros(x.shape[:2], jnp.float32)


def forward(y: Array) -> tuple[Array, Array]:
  """Sums [B, T, *event] over time (Eq. 10), with log-determinant zero, [B, T]."""
  return jnp.cumsum(y, axis=1), _no_volume_change(y)


def inverse(x: Array) -> tuple[Array, Array]:
  """Differences of successive steps of [B, T, *event]; the first is kept as it is."""
  return jnp.diff(x, axis=1, prepend=jnp.zeros_like(x[:, :1])), _no_volume_change(x)


DIFFERENCING = Transform(forward, inverse)
