import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afslvm.transforms import spline
from tests import oracles

BINS, BOUND = 5, 3.0
SHAPE = (2, 3, 4)  # [B, *event]


def values(seed=0, spread=2.0, scale=1.5):
  keys = jax.random.split(jax.random.key(seed))
  x = spread * jax.random.normal(keys[0], SHAPE)
  return x, scale * jax.random.normal(keys[1], (*SHAPE, 3 * BINS - 1))


@jax.jit
def inverse(x, raw):
  return spline.inverse(x, raw, BOUND, 2)


@jax.jit
def forward(y, raw):
  return spline.forward(y, raw, BOUND, 2)


def by_hand(x, raw):
  """y and log dy/dx of one number, from Durkan et al.'s Eq. 4 and 5, in float64."""
  raw = np.asarray(raw, np.float64)
  if abs(x) >= BOUND:
    return x, 0.0

  def knots(part):
    sizes = 1e-3 + (1 - 1e-3 * BINS) * np.exp(part - part.max()) / np.exp(part - part.max()).sum()
    return -BOUND + 2 * BOUND * np.concatenate([[0], np.cumsum(sizes)])

  at, up = knots(raw[:BINS]), knots(raw[BINS : 2 * BINS])
  inner = 1e-3 + np.log1p(np.exp(raw[2 * BINS :] + np.log(np.expm1(0.999))))
  slopes = np.concatenate([[1], inner, [1]])
  k = int(np.searchsorted(at, x, side='right')) - 1
  s, xi = (up[k + 1] - up[k]) / (at[k + 1] - at[k]), (x - at[k]) / (at[k + 1] - at[k])
  bottom = s + (slopes[k + 1] + slopes[k] - 2 * s) * xi * (1 - xi)
  top = (up[k + 1] - up[k]) * (s * xi**2 + slopes[k] * xi * (1 - xi))
  slope = s**2 * (slopes[k + 1] * xi**2 + 2 * s * xi * (1 - xi) + slopes[k] * (1 - xi) ** 2)
  return up[k] + top / bottom, np.log(slope / bottom**2)


def test_it_is_the_papers_spline():
  x, raw = values()
  found, log_det = inverse(x, raw)
  expected = [by_hand(float(x[i]), raw[i]) for i in np.ndindex(*SHAPE)]
  y, log_slope = (np.reshape(part, SHAPE) for part in zip(*expected, strict=True))
  assert 2 < np.sum(np.abs(x) >= BOUND) < x.size - 2
  np.testing.assert_allclose(found, y, rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(log_det, log_slope.sum(axis=(1, 2)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('scale', [0.1, 1.5, 6.0])
def test_forward_undoes_inverse(scale):
  x, raw = values(1, scale=scale)
  y, log_det = inverse(x, raw)
  again, other = forward(y, raw)
  steepest = float(np.exp(np.abs(np.asarray(jax.jit(slopes)(x, raw))).max()))
  np.testing.assert_allclose(again, x, atol=1e-6 * BOUND * max(steepest, 1.0))
  np.testing.assert_allclose(other, -log_det, rtol=1e-3, atol=2e-6 * x.size * max(steepest, 1.0))


def slopes(x, raw):
  """log dy/dx of every number."""
  return spline.inverse(x[..., None], raw[..., None, :], BOUND, 1)[1]


def test_log_det_matches_dense_jacobian():
  x, raw = values(2)
  for direction in (forward, inverse):
    found = direction(x, raw)[1]
    # Sequences don't touch each other, so that theirs add up to that of all.
    expected = oracles.dense_log_det(lambda v, d=direction: d(v, raw)[0], x)
    np.testing.assert_allclose(np.sum(found), expected, rtol=1e-4, atol=1e-4)


def test_zeros_give_the_identity():
  x = jnp.linspace(-1.3 * BOUND, 1.3 * BOUND, 24).reshape(SHAPE)
  raw = jnp.zeros((*SHAPE, 3 * BINS - 1))
  for direction in (forward, inverse):
    found, log_det = direction(x, raw)
    np.testing.assert_allclose(found, x, atol=2e-6)
    np.testing.assert_allclose(log_det, 0.0, atol=2e-5)


@pytest.mark.parametrize('scale', [1.0, 10.0])
def test_it_rises_and_has_the_slope_of_finite_differences(scale):
  raw = scale * jax.random.normal(jax.random.key(4), (3 * BINS - 1,))
  x = np.linspace(-1.1 * BOUND, 1.1 * BOUND, 4001, dtype=np.float32)
  everywhere = jnp.broadcast_to(raw, (len(x), 1, 1, len(raw)))
  y, log_slope = (np.asarray(part).ravel() for part in inverse(x[:, None, None], everywhere))
  assert np.all(np.diff(y) >= 0)
  assert (y[0], y[-1]) == (x[0], x[-1])
  risen = np.sum(np.exp(log_slope[1:-1])) * (x[1] - x[0])  # the integral of the slope
  np.testing.assert_allclose(risen, y[-1] - y[0], rtol=0.02)


@functools.partial(jax.jit, static_argnums=2)
@functools.partial(jax.value_and_grad, argnums=(0, 1), has_aux=True)
def total(x, raw, direction):
  value, log_det = direction(x, raw)
  return jnp.sum(jnp.tanh(value)) + jnp.sum(log_det), value


@pytest.mark.parametrize('scale', [0.0, 1.0, 1e4])
def test_gradients_are_finite_on_at_and_beyond_the_bounds(scale):
  """A NaN of the branch that isn't taken would reach them through `where`."""
  just_inside = np.nextafter(np.float32(BOUND), np.float32(0))
  x = jnp.array([-1e30, -2 * BOUND, -BOUND, -just_inside, 0.0, just_inside, BOUND, 1e3])
  x, outside = x[:, None, None], np.abs(x) >= BOUND
  raw = scale * jax.random.normal(jax.random.key(5), (len(x), 1, 1, 3 * BINS - 1))

  for direction in (forward, inverse):
    (loss, value), gradients = total(x, raw, direction)
    assert np.isfinite(loss)
    assert all(np.all(np.isfinite(gradient)) for gradient in gradients)
    np.testing.assert_array_equal(np.asarray(value)[outside], np.asarray(x)[outside])


def test_other_numbers_of_raw_values_are_refused():
  with pytest.raises(ValueError, match='3 \\* bins - 1'):
    spline.inverse(jnp.zeros((2, 3)), jnp.zeros((2, 3, 9)), BOUND, 1)
