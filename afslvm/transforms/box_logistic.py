"""The box-logistic transform: an autoregressive flow whose conditional fits 8-bit levels exactly.

8-bit values with uniform noise are x = (v + u) / 256, and a normal conditional pays for u: fitted
to uniform noise it has 0.2546 bits/dim, however well v is predicted. Here x given the past is a
logistic variable plus uniform noise of one level's width, of cumulative distribution c = F(x), and
y = Phi^-1(c) is standard normal. As the logistic's scale shrinks, x becomes uniform on one level
and costs no bit; where it is wide, x is logistic. Both directions are in closed form, and with
several components F is that of a mixture, whose `forward` is by bisection. `docs/equations.md`
derives the formulas.

Tails are computed as logarithms of c and of 1 - c, never from a c that has rounded to one, and
log p(x) doesn't pass through either, so that log N(y) + log|dy/dx| is log p(x) to rounding wherever
x lies. All functions take log-scales in about (-30, 30).
"""

import math

import jax
import jax.numpy as jnp

from afslvm.types import Array

WIDTH = 1.0 / 256.0  # of the box: one level on the scale of `preprocessing.dequantise`
_LOG_WIDTH = math.log(WIDTH)
_NEGLIGIBLE = -15.0  # for |z| < e^-15, log1p(z) and expm1(z) are z in float32
_BISECTIONS = 32
_LOG_SLOPE_MAX = 60.0


def inverse(
  x: Array, shift: Array, log_scale: Array, event_ndims: int, log_weights: Array | None = None
) -> tuple[Array, Array]:
  """Returns y = Phi^-1(F(x)), and log|det dy/dx| [...] in nats.

  Args:
    x: [..., *event].
    shift: of the logistic variable, [..., *event]; of several components [..., *event, K].
    log_scale: of the logistic variable, the same shape as `shift`.
    event_ndims: how many trailing axes of `x` the log-determinant is summed over.
    log_weights: of the components, [..., *event, K], normalised over K; None is one component.
  """
  log_cdf, log_survival, log_density = _distribution(x, shift, log_scale, log_weights)
  y = _from_cdf(log_cdf, log_survival)
  return y, _sum_event(log_density - _log_normal(y), event_ndims)


def forward(
  y: Array, shift: Array, log_scale: Array, event_ndims: int, log_weights: Array | None = None
) -> tuple[Array, Array]:
  """Returns x = F^-1(Phi(y)), and log|det dx/dy| [...] in nats; arguments are as of `inverse`.

  Of several components x is found by bisection, to float32 round-off of what brackets it. Its
  gradients are those of the implicit function theorem, in gaps between components no steeper than
  e^60.
  """
  if log_weights is None:
    offset = _quantile(y, log_scale)
    log_density = _of_component(offset, log_scale)[2]
    return shift + offset, _sum_event(_log_normal(y) - log_density, event_ndims)
  x = jax.lax.stop_gradient(_bisected(y, shift, log_scale, log_weights))
  log_cdf, log_survival, log_density = _distribution(x, shift, log_scale, log_weights)
  slope = jnp.exp(jnp.minimum(_log_normal(y) - log_density, _LOG_SLOPE_MAX))
  # Its value is noise, its gradient that of x with respect to y and parameters.
  moved = (y - _from_cdf(log_cdf, log_survival)) * jax.lax.stop_gradient(slope)
  x = x + (moved - jax.lax.stop_gradient(moved))
  log_density = _distribution(x, shift, log_scale, log_weights)[2]
  return x, _sum_event(_log_normal(y) - log_density, event_ndims)


# ---- distributions -------------------------------------------------------------------------------


def _distribution(
  x: Array, shift: Array, log_scale: Array, log_weights: Array | None
) -> tuple[Array, Array, Array]:
  """Returns log F(x), log(1 - F(x)) and log p(x), each [..., *event]."""
  if log_weights is None:
    return _of_component(x - shift, log_scale)
  components = _of_component(x[..., None] - shift, log_scale)
  cdf, survival, density = (jax.nn.logsumexp(log_weights + v, axis=-1) for v in components)
  return cdf, survival, density


def _of_component(offset: Array, log_scale: Array) -> tuple[Array, Array, Array]:
  """Returns log F, log(1 - F) and log p of one component at x = shift + offset.

  With a and b the box's ends around x, in scales, and t = a - b the width of the box,

      p = (sigmoid(a) - sigmoid(b)) / width = (1 - e^-t) sigmoid(a) sigmoid(-b) / width,
      F = (softplus(a) - softplus(b)) / t = log(1 + (e^t - 1) sigmoid(b)) / t,

  and 1 - F is F with (-b, -a) in the place of (a, b).
  """
  inverse_scale = jnp.exp(-log_scale)
  t, log_t = WIDTH * inverse_scale, _LOG_WIDTH - log_scale
  a, b = (offset + WIDTH / 2) * inverse_scale, (offset - WIDTH / 2) * inverse_scale
  log_covered = jnp.log(-jnp.expm1(-t))
  rest_a, rest_b = _softplus_rest(a), _softplus_rest(b)
  # (e^t - 1) sigmoid(b), without a difference of large numbers on either side of b = 0.
  below = log_covered + jnp.where(b > 0, t, a) - rest_b
  above = log_covered + jnp.where(a < 0, t, -b) - rest_a
  log_density = log_covered + jnp.where(a < 0, a, 0.0) - rest_a
  log_density = log_density - jnp.where(b > 0, b, 0.0) - rest_b - _LOG_WIDTH
  return _log_softplus(below) - log_t, _log_softplus(above) - log_t, log_density


def _quantile(y: Array, log_scale: Array) -> Array:
  """Returns x - shift of one component at y.

  With l = t F and r = t (1 - F), a + b = l - r + 2 log(1 - e^-l) - 2 log(1 - e^-r).
  """
  log_cdf, log_survival = jax.scipy.special.log_ndtr(y), jax.scipy.special.log_ndtr(-y)
  log_t = _LOG_WIDTH - log_scale
  logistic = _log1mexp(log_t + log_cdf) - _log1mexp(log_t + log_survival)
  inside = 0.5 * WIDTH * (jnp.exp(log_cdf) - jnp.exp(log_survival))
  return inside + jnp.exp(log_scale) * logistic


def _bisected(y: Array, shift: Array, log_scale: Array, log_weights: Array) -> Array:
  """Returns x of a mixture at y: between the components' own, which bracket it."""
  own = shift + _quantile(y[..., None], log_scale)
  left = y < 0
  # The smaller of both tails, which has not rounded to one.
  target = jax.scipy.special.log_ndtr(jnp.where(left, y, -y))

  def halve(_, bracket):
    low, high = bracket
    middle = low + 0.5 * (high - low)
    log_cdf, log_survival, _ = _distribution(middle, shift, log_scale, log_weights)
    is_below = jnp.where(left, log_cdf < target, log_survival > target)
    return jnp.where(is_below, middle, low), jnp.where(is_below, high, middle)

  low, high = jax.lax.fori_loop(0, _BISECTIONS, halve, (own.min(axis=-1), own.max(axis=-1)))
  return low + 0.5 * (high - low)


# ---- from log-probabilities to a normal variable -------------------------------------------------


def _from_cdf(log_cdf: Array, log_survival: Array) -> Array:
  """Returns y with Phi(y) = F, from the smaller of both tails."""
  left = log_cdf < log_survival
  tail = quantile_of_tail(jnp.where(left, log_cdf, log_survival))
  return jnp.where(left, tail, -tail)


@jax.custom_jvp
def quantile_of_tail(log_p: Array) -> Array:
  """Returns y <= 0 with log Phi(y) = log_p, for log_p <= log 1/2, however small.

  Abramowitz and Stegun 26.2.23 is within 4.5e-4 of it everywhere, and one Newton step on log Phi
  squares that error: what is left is float32 round-off.
  """
  r = jnp.sqrt(-2.0 * log_p)
  correction = (2.515517 + r * (0.802853 + r * 0.010328)) / (
    1.0 + r * (1.432788 + r * (0.189269 + r * 0.001308))
  )
  y = correction - r
  log_cdf = jax.scipy.special.log_ndtr(y)
  return y - (log_cdf - log_p) * _mills_ratio(y, log_cdf)


@quantile_of_tail.defjvp
def _quantile_of_tail_jvp(primals, tangents):
  (log_p,), (tangent,) = primals, tangents
  y = quantile_of_tail(log_p)
  return y, _mills_ratio(y, log_p) * tangent


def _mills_ratio(y: Array, log_cdf: Array) -> Array:
  """Returns Phi(y) / phi(y) for y <= 0.

  Far out the difference of logarithms has no digits left, and Laplace's continued fraction has all.
  """
  far = y < -6.0
  z = jnp.where(far, -y, 6.0)
  fraction = z
  for n in range(8, 0, -1):
    fraction = z + n / fraction
  near = jnp.exp(jnp.where(far, 0.0, log_cdf - _log_normal(y)))
  return jnp.where(far, 1.0 / fraction, near)


# ---- logarithms that neither over- nor underflow -------------------------------------------------


def _log_normal(y: Array) -> Array:
  return -0.5 * (jnp.square(y) + math.log(2 * math.pi))


def _softplus_rest(z: Array) -> Array:
  """Returns softplus(z) - max(z, 0) = log1p(e^-|z|)."""
  return jnp.log1p(jnp.exp(jnp.where(z > 0, -z, z)))


def _log_softplus(z: Array) -> Array:
  """Returns log log(1 + e^z)."""
  tiny = z < _NEGLIGIBLE
  return jnp.where(tiny, z, jnp.log(jax.nn.softplus(jnp.where(tiny, 0.0, z))))


def _log1mexp(log_z: Array) -> Array:
  """Returns log(1 - e^-z)."""
  tiny = log_z < _NEGLIGIBLE
  return jnp.where(tiny, log_z, jnp.log(-jnp.expm1(-jnp.exp(jnp.where(tiny, 0.0, log_z)))))


def _sum_event(values: Array, event_ndims: int) -> Array:
  return jnp.sum(values, axis=tuple(range(-event_ndims, 0)))
