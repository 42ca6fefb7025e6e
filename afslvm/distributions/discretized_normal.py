"""Probabilities of bins under a normal distribution."""

import math

import jax
import jax.numpy as jnp

from afslvm.distributions.normal import Normal
from afslvm.types import Array

# Bins narrower than this many standard deviations are integrated by a series: the difference of two
# distribution functions that are nearly equal would have no digits left in float32.
_NARROW = 0.1
PAPER_FLOOR = 1e-6
_TAIL = 10.0  # standard deviations, beyond which Φ has its asymptotic series
_FAR = 100.0  # standard deviations, beyond which nothing is left


def log_bin(
  normal: Normal, x: Array, width: float, open_low: Array | bool = False, open_high: Array = False
) -> Array:
  """log P(x - width/2 <= . < x + width/2), elementwise, stable in value and gradient everywhere.

  Where `open_low` or `open_high` the bin goes on to that infinity.
  """
  scale = jnp.exp(-normal.log_scale)
  middle, size = (x - normal.loc) * scale, width * scale
  narrow = (size < _NARROW) & jnp.logical_not(open_low) & jnp.logical_not(open_high)
  low, high = middle - 0.5 * size, middle + 0.5 * size
  # Not infinity itself, whose second derivative, which iterative inference takes, is NaN.
  far_low, far_high = jnp.minimum(high, 0.0) - _FAR, jnp.maximum(low, 0.0) + _FAR
  low, high = (
    jnp.where(open_low, jax.lax.stop_gradient(far_low), low),
    jnp.where(open_high, jax.lax.stop_gradient(far_high), high),
  )
  wide = _log_difference(jnp.where(narrow, -1.0, low), jnp.where(narrow, 1.0, high))
  return jnp.where(narrow, _log_narrow(middle, jnp.where(narrow, size, _NARROW)), wide)


def log_level(normal: Normal, x: Array, width: float) -> Array:
  """log P of a level of a grid on [0, 1] with spacing `width`; the outermost bins are open.

  So the probabilities of all levels sum to one.
  """
  return log_bin(normal, x, width, x < 0.5 * width, x > 1.0 - 0.5 * width)


def _log_difference(a: Array, b: Array) -> Array:
  """log(Φ(b) - Φ(a)), computed in the lower tail, where Φ keeps its digits."""
  flip = a > 0
  a, b = jnp.where(flip, -b, a), jnp.where(flip, -a, b)
  log_high, log_low = _log_ndtr(b), _log_ndtr(a)
  # Where Φ(a) is nothing beside Φ(b) its logarithm may be -inf, whose gradient is not to be had.
  gap = jnp.minimum(jnp.maximum(log_high - log_low, 1e-7), 80.0)
  return log_high + jnp.log1p(-jnp.exp(-gap))


def _log_ndtr(x: Array) -> Array:
  """log Φ(x), also in the third derivative, which jax's own has neither far out nor finite."""
  far = x < -_TAIL
  t = jnp.where(far, x, -_TAIL)
  u = 1.0 / jnp.square(t)  # asymptotic series, to 1e-7
  series = jnp.log1p(-u * (1.0 - 3.0 * u * (1.0 - 5.0 * u * (1.0 - 7.0 * u))))
  tail = -0.5 * (jnp.square(t) + math.log(2 * math.pi)) - jnp.log(-t) + series
  return jnp.where(far, tail, jax.scipy.special.log_ndtr(jnp.where(far, -1.0, x)))


def _log_narrow(middle: Array, width: Array) -> Array:
  """log ∫ φ over a narrow bin, to a relative error of its width to the fourth power.

  Around the middle m, φ(m + u) = φ(m) exp(-m u) (1 - u²/2 + ...); the exponential is integrated
  exactly, which is what counts in the tails.
  """
  log_density = -0.5 * (jnp.square(middle) + math.log(2 * math.pi))
  y = 0.5 * middle * width
  return log_density + jnp.log(width) + _log_sinhc(y) - jnp.square(width) / 24.0


def _log_sinhc(y: Array) -> Array:
  """log(sinh(y) / y)."""
  small = jnp.abs(y) < 0.1
  safe = jnp.where(small, 1.0, jnp.abs(y))
  large = safe + jnp.log1p(-jnp.exp(-2.0 * safe)) - jnp.log(2.0 * safe)
  squared = jnp.square(jnp.where(small, y, 0.0))
  return jnp.where(small, squared / 6.0 - jnp.square(squared) / 180.0, large)


def log_bin_paper(normal: Normal, x: Array, width: float) -> Array:
  """log(Φ((x + width - μ)/σ) - Φ((x - μ)/σ) + 1e-6), as the AVF paper's code has it.

  The bin begins at x instead of lying around it, nothing makes the bins cover everything, and far
  out the value is log 1e-6 without any gradient. For comparisons only.
  """
  scale = jnp.exp(normal.log_scale) + 1e-5
  a, b = (x - normal.loc) / scale, (x + width - normal.loc) / scale
  return jnp.log(jax.scipy.special.ndtr(b) - jax.scipy.special.ndtr(a) + PAPER_FLOOR)
