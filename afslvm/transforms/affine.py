"""The affine transform of an autoregressive flow, and bounded parameterisations of its scale.

AF paper Eq. 5 (forward), Eq. 6 (inverse) and Eq. 8 (log-determinant). The log-determinant is always
computed from the log-scale itself, never from `log(exp(log_scale))`, which over- and underflows.
"""

import math

import jax
import jax.numpy as jnp

from afslvm.types import Array

LOG_SCALE_MAX_PAPER = math.log(10.0)  # the paper's code clamps the scale to at most 10


def _sum_event(values: Array, event_ndims: int) -> Array:
  return jnp.sum(values, axis=tuple(range(-event_ndims, 0)))


def forward(y: Array, shift: Array, log_scale: Array, event_ndims: int) -> tuple[Array, Array]:
  """x = shift + exp(log_scale) * y (AF paper Eq. 5).

  Args:
    y: [..., *event].
    shift: broadcastable to `y`.
    log_scale: the same shape as `y`.
    event_ndims: how many trailing axes the log-determinant is summed over.

  Returns:
    x with y's shape, and log|det dx/dy| [...] in nats (Eq. 8).
  """
  return shift + jnp.exp(log_scale) * y, _sum_event(log_scale, event_ndims)


def inverse(x: Array, shift: Array, log_scale: Array, event_ndims: int) -> tuple[Array, Array]:
  """y = (x - shift) / exp(log_scale) (AF paper Eq. 6), and log|det dy/dx| [...] in nats."""
  return (x - shift) * jnp.exp(-log_scale), -_sum_event(log_scale, event_ndims)


def smooth_bound(raw: Array, low: float, high: float) -> Array:
  """Maps raw values into the open interval (low, high), low < 0 < high.

  Zero maps to zero with slope one, so a zero-initialised head still gives the identity, and the two
  tanh halves meet with equal first and second derivatives. Unlike a clamp it never has a zero
  gradient in the interior.
  """
  return jnp.where(raw > 0, high * jnp.tanh(raw / high), -low * jnp.tanh(raw / -low))


def symmetric_bound(raw: Array, limit: float) -> Array:
  """`smooth_bound` on (-limit, limit)."""
  return limit * jnp.tanh(raw / limit)


def paper_clamp(raw: Array) -> Array:
  """min(raw, log 10): the paper's code bounds the scale above only; its gradient there is zero."""
  return jnp.minimum(raw, LOG_SCALE_MAX_PAPER)


def glow_bound(raw: Array) -> Array:
  """-log sigmoid(raw + 2): Glow's code scales a coupling's half by sigmoid(raw + 2) < 1.

  That is on the way from data to latents, so the log-scale of the way back is above zero. Zero maps
  to log(1 / 0.881).
  """
  return jax.nn.softplus(-raw - 2.0)


def jet_bound(raw: Array) -> Array:
  """-log(2 sigmoid(raw)): scales in (0, 2) from data to latents, one at zero."""
  return jax.nn.softplus(-raw) - math.log(2.0)


def realnvp_bound(raw: Array, gain: Array, offset: Array) -> Array:
  """gain tanh(raw) + offset, with learned parameters per channel (Dinh et al. 2017)."""
  return gain * jnp.tanh(raw) + offset


def soft_bound(raw: Array) -> Array:
  """Maps raw values to (-2.5, 2.5), nearly, by an arc tangent, zero to zero."""
  return 2.5 * 0.636 * jnp.arctan(raw / 2.5)


def near_bounds(log_scale: Array, low: float, high: float) -> Array:
  """Returns whether log-scales lie within a hundredth of the interval from one of its bounds.

  One without a lower bound (-inf) is measured against the part of the interval above zero.
  """
  margin = 0.01 * (high - low if low > -math.inf else high)
  return (log_scale < low + margin) | (log_scale > high - margin)
