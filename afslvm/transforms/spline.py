"""Monotone rational-quadratic splines with linear tails (Durkan et al. 2019, arXiv 1906.04032).

On [-bound, bound] a spline has `bins` bins; their widths, heights and the slopes at inner knots
come from raw values, of which zeros give the identity. Outside it is the identity, and the slope
at both bounds is one, so the whole is once continuously differentiable.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from afslvm.types import Array

MIN_SIZE = 1e-3  # of a bin, in units of the whole interval
MIN_SLOPE = 1e-3
_UNIT_SLOPE = math.log(math.expm1(1.0 - MIN_SLOPE))  # softplus of it and the least slope add to one


class _Bin(NamedTuple):
  """The bin that each value lies in."""

  left: Array
  bottom: Array
  width: Array
  height: Array
  slope_left: Array
  slope_right: Array


def forward(y: Array, raw: Array, bound: float, event_ndims: int) -> tuple[Array, Array]:
  """Returns x, of which `inverse` makes y, and log|det dx/dy| [...] in nats.

  Args:
    y: [..., *event].
    raw: [..., *event, 3 * bins - 1], any values: widths, heights, slopes at inner knots.
    bound: values further from zero stay as they are.
    event_ndims: how many trailing axes of `y` the log-determinant is summed over.
  """
  # Arithmetic outside the bins would give NaN gradients even where its result isn't used.
  inside, clipped = jnp.abs(y) < bound, jnp.clip(y, -bound, bound)
  at = _bin(clipped, raw, bound, by_height=True)
  mean = at.height / at.width
  eta = jnp.clip((clipped - at.bottom) / at.height, 0.0, 1.0)
  curve = at.slope_left + at.slope_right - 2.0 * mean
  # xi solves a xi^2 + b xi = mean eta. The discriminant is b^2 + 4 a mean eta, written as a sum of
  # squares; of both forms of the root each has the cancellation where the other has none.
  a, b = eta * curve + mean - at.slope_left, at.slope_left - eta * curve
  difference = at.slope_left * (1.0 - eta) - at.slope_right * eta
  root = jnp.sqrt(jnp.square(difference) + 4.0 * jnp.square(mean) * eta * (1.0 - eta))
  xi = jnp.where(b >= 0, 2.0 * mean * eta, root - b) / jnp.where(b >= 0, b + root, 2.0 * a)
  x = jnp.where(inside, at.left + xi * at.width, y)
  return x, -_sum_event(jnp.where(inside, _log_slope(xi, at), 0.0), event_ndims)


def inverse(x: Array, raw: Array, bound: float, event_ndims: int) -> tuple[Array, Array]:
  """Returns the spline's value y at x, and log|det dy/dx| [...] in nats; as for `forward`."""
  inside, clipped = jnp.abs(x) < bound, jnp.clip(x, -bound, bound)
  at = _bin(clipped, raw, bound, by_height=False)
  xi = jnp.clip((clipped - at.left) / at.width, 0.0, 1.0)
  mean, both = at.height / at.width, xi * (1.0 - xi)
  risen = at.height * (mean * jnp.square(xi) + at.slope_left * both) / _denominator(xi, at)
  y = jnp.where(inside, at.bottom + risen, x)
  return y, _sum_event(jnp.where(inside, _log_slope(xi, at), 0.0), event_ndims)


def _bin(value: Array, raw: Array, bound: float, by_height: bool) -> _Bin:
  """Returns the bin of each value in [-bound, bound], which is an x, or `by_height` a y."""
  bins = (raw.shape[-1] + 1) // 3
  if raw.shape[-1] != 3 * bins - 1:
    raise ValueError(f'{raw.shape[-1]} raw values are not 3 * bins - 1 for any number of bins')
  widths, heights, slopes = jnp.split(raw.astype(jnp.float32), [bins, 2 * bins], axis=-1)
  x_knots, y_knots = _knots(widths, bound), _knots(heights, bound)
  slopes = MIN_SLOPE + jax.nn.softplus(slopes + _UNIT_SLOPE)
  ends = [(0, 0)] * (slopes.ndim - 1) + [(1, 1)]
  slopes = jnp.pad(slopes, ends, constant_values=1.0)
  knots = y_knots if by_height else x_knots
  index = jnp.sum(value[..., None] >= knots[..., 1:-1], axis=-1)
  chosen = index[..., None] == jnp.arange(bins)

  def pick(values: Array) -> Array:
    return jnp.sum(jnp.where(chosen, values, 0.0), axis=-1)

  left, bottom = pick(x_knots[..., :-1]), pick(y_knots[..., :-1])
  return _Bin(
    left,
    bottom,
    pick(x_knots[..., 1:]) - left,
    pick(y_knots[..., 1:]) - bottom,
    pick(slopes[..., :-1]),
    pick(slopes[..., 1:]),
  )


def _knots(raw: Array, bound: float) -> Array:
  """Returns bins + 1 rising values from -bound to bound, none closer than the least size."""
  bins = raw.shape[-1]
  sizes = MIN_SIZE + (1.0 - MIN_SIZE * bins) * jax.nn.softmax(raw, axis=-1)
  inner = bound * (2.0 * jnp.cumsum(sizes[..., :-1], axis=-1) - 1.0)
  end = jnp.full_like(raw[..., :1], bound)
  return jnp.concatenate([-end, inner, end], axis=-1)


def _denominator(xi: Array, at: _Bin) -> Array:
  """Returns mean + (slopes - 2 mean) xi (1 - xi), of positive terms only."""
  mean = at.height / at.width
  ends = jnp.square(xi) + jnp.square(1.0 - xi)
  return mean * ends + (at.slope_left + at.slope_right) * xi * (1.0 - xi)


def _log_slope(xi: Array, at: _Bin) -> Array:
  """Returns log dy/dx."""
  mean = at.height / at.width
  inner = at.slope_right * jnp.square(xi) + at.slope_left * jnp.square(1.0 - xi)
  inner = inner + 2.0 * mean * xi * (1.0 - xi)
  return 2.0 * jnp.log(mean) + jnp.log(inner) - 2.0 * jnp.log(_denominator(xi, at))


def _sum_event(values: Array, event_ndims: int) -> Array:
  return jnp.sum(values, axis=tuple(range(-event_ndims, 0)))
