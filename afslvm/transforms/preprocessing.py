"""From stored values to what a density models: dequantisation on the device, from uint8.

`gauss256` is the AF paper's convention (its code: x / 255 + N(0, 1/256^2)); `uniform` makes the
density a lower bound on the 8-bit probability (Theis et al. 2016); `discretised` adds nothing: the
likelihood itself gives the probability of a level; `none` leaves other data as they are.
"""

import math

import jax
import jax.numpy as jnp

from afslvm.types import Array

DEQUANTISATIONS = ('gauss256', 'uniform', 'discretised', 'none')


def dequantise(key: Array, x: Array, kind: str) -> jax.Array:
  """Float32 values with the noise of `kind`, the shape of `x`.

  Args:
    key: a PRNG key; unused by `discretised` and `none`.
    x: other values than 8-bit ones in 0..255 for `none` only.
    kind: one of `DEQUANTISATIONS`.

  Raises:
    ValueError: `kind` is unknown.
  """
  values = jnp.asarray(x, jnp.float32)
  if kind == 'gauss256':
    return values / 255.0 + jax.random.normal(key, values.shape, jnp.float32) / 256.0
  if kind == 'uniform':
    return (values + jax.random.uniform(key, values.shape, jnp.float32)) / 256.0
  if kind == 'discretised':
    return values / 255.0
  if kind == 'none':
    return values
  raise ValueError(f'dequantisation {kind!r} is none of {", ".join(DEQUANTISATIONS)}')


def without_noise(x: Array, kind: str) -> Array:
  """Draws of a model of 8-bit data on the scale of stored values / 255: less the noise's mean."""
  return (256.0 * x - 0.5) / 255.0 if kind == 'uniform' else x


def log_levels(kind: str) -> float:
  """Nats per dimension from a density on [0, 1] to 256 levels; zero where there is none."""
  return math.log(256.0) if kind in ('gauss256', 'uniform') else 0.0
