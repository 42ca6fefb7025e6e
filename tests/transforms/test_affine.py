import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afslvm.transforms import affine
from tests import oracles

SHAPE = (2, 3, 4, 2)  # [B, T, *event], vectors of two axes


def values(seed=0, scale=1.0):
  keys = jax.random.split(jax.random.key(seed), 3)
  return [scale * jax.random.normal(key, SHAPE) for key in keys]


def test_forward_is_eq_5_and_inverse_eq_6():
  y, shift, log_scale = values()
  x, _ = affine.forward(y, shift, log_scale, 2)
  np.testing.assert_allclose(x, shift + np.exp(log_scale) * y, rtol=1e-5, atol=1e-6)
  again, _ = affine.inverse(x, shift, log_scale, 2)
  np.testing.assert_allclose(again, (x - shift) / np.exp(log_scale), rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(again, y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('event_ndims', [1, 2, 3])
def test_log_det_matches_dense_jacobian(event_ndims):
  y, shift, log_scale = values()
  lead = SHAPE[: len(SHAPE) - event_ndims]
  for direction in (affine.forward, affine.inverse):
    found = direction(y, shift, log_scale, event_ndims)[1]
    assert found.shape == lead
    for index in np.ndindex(*lead):
      part = (shift[index], log_scale[index])
      expected = oracles.dense_log_det(lambda v, d=direction, p=part: d(v, *p, 1)[0], y[index])
      np.testing.assert_allclose(found[index], expected, rtol=1e-4, atol=1e-5)


def test_the_two_log_dets_cancel():
  y, shift, log_scale = values()
  total = affine.forward(y, shift, log_scale, 2)[1] + affine.inverse(y, shift, log_scale, 2)[1]
  np.testing.assert_array_equal(total, 0)


# ---- bounds of the log-scale ---------------------------------------------------------------------

LOW, HIGH = -7.0, 2.0
BOUNDS = {
  'smooth': (lambda raw: affine.smooth_bound(raw, LOW, HIGH), LOW, HIGH),
  'symmetric': (lambda raw: affine.symmetric_bound(raw, HIGH), -HIGH, HIGH),
  'paper': (affine.paper_clamp, -np.inf, np.log(10.0)),
}
every_bound = pytest.mark.parametrize('name', BOUNDS)
smooth_ones = pytest.mark.parametrize('name', ['smooth', 'symmetric'])


@every_bound
def test_extreme_raw_log_scales_give_finite_log_dets(name):
  """exp over- and underflows at ±104; the log-determinant never sees it."""
  bound = BOUNDS[name][0]
  raw = jnp.array([-1e30, -1e6, -200.0, -0.0, 0.0, 200.0, 1e6, 1e30])[:, None]

  def log_det(raw):
    return affine.inverse(jnp.zeros_like(raw), 0.0, bound(raw), 1)[1]

  assert np.all(np.isfinite(log_det(raw)))
  gradient = jax.grad(lambda raw: log_det(raw).sum())(raw)
  assert np.all(np.isfinite(gradient))


@smooth_ones
def test_infinite_raw_log_scales_give_the_bounds(name):
  bound, low, high = BOUNDS[name]
  np.testing.assert_allclose(bound(jnp.array([-jnp.inf, jnp.inf])), [low, high], rtol=1e-6)


@every_bound
def test_bounds_hold_and_are_monotone(name):
  bound, low, high = BOUNDS[name]
  found = np.asarray(bound(jnp.linspace(-40.0, 40.0, 4001)))
  rounding = 1e-6
  assert np.all(found >= low - rounding)
  assert np.all(found <= high + rounding)
  assert np.all(np.diff(found) >= -rounding)
  inner = np.asarray(bound(jnp.linspace(0.9 * max(low, -10), 0.9 * high, 200)))
  assert np.all(np.diff(inner) > 0)


@smooth_ones
def test_zero_is_kept_with_slope_one(name):
  bound = BOUNDS[name][0]
  assert bound(0.0) == 0
  np.testing.assert_allclose(jax.grad(bound)(0.0), 1.0)
  np.testing.assert_allclose(jax.grad(bound)(-0.0), 1.0)


@smooth_ones
def test_bounds_are_continuously_differentiable(name):
  """The slope is that of finite differences, has no jump and is never zero in the interior."""
  bound = BOUNDS[name][0]
  raw = np.linspace(-4.0, 4.0, 801)
  slope = np.asarray(jax.vmap(jax.grad(bound))(jnp.asarray(raw)))
  step = 0.005
  numeric = np.asarray(bound(raw + step) - bound(raw - step)) / (2 * step)
  np.testing.assert_allclose(slope, numeric, atol=2e-3)
  assert np.abs(np.diff(slope)).max() < 0.01  # no jump, at zero in particular
  assert np.all(slope > 0)


@pytest.mark.parametrize(
  ('low', 'high', 'expected'),
  [
    (-7.0, 2.0, [True, False, False, False, True]),
    (-2.0, 2.0, [True, False, False, False, True]),
    (-math.inf, affine.LOG_SCALE_MAX_PAPER, [False, False, False, False, True]),
  ],
)
def test_what_lies_at_a_bound(low, high, expected):
  bottom = max(low, -15.0)
  values = jnp.array([bottom + 0.01, 0.9 * bottom, 0.0, 0.9 * high, high - 0.005])
  np.testing.assert_array_equal(affine.near_bounds(values, low, high), expected)


def test_the_papers_clamp_bounds_the_scale_at_ten():
  raw = jnp.array([-50.0, 0.0, 2.0, 2.5, 50.0])
  expected = np.minimum(np.exp(np.asarray(raw)), 10.0)
  np.testing.assert_allclose(np.exp(affine.paper_clamp(raw)), expected, rtol=1e-6)
  np.testing.assert_array_equal(jax.vmap(jax.grad(affine.paper_clamp))(raw), [1, 1, 1, 0, 0])


# ---- bounds of couplings -------------------------------------------------------------------------


def sigmoid(raw):
  return 1 / (1 + np.exp(-raw))


# The scale from data to latents as it is published, of raw in float64; and the log-scale's ends,
# those of latents to data, for raw from minus to plus infinity.
COUPLINGS = {
  'glow': (affine.glow_bound, lambda raw: sigmoid(raw + 2), np.inf, 0.0),
  'jet': (affine.jet_bound, lambda raw: 2 * sigmoid(raw), np.inf, -math.log(2)),
  'soft': (
    affine.soft_bound,
    lambda raw: np.exp(-2.5 * 0.636 * np.arctan(raw / 2.5)),
    -2.5 * 0.636 * math.pi / 2,
    2.5 * 0.636 * math.pi / 2,
  ),
  'realnvp': (
    lambda raw: affine.realnvp_bound(raw, 0.7, -0.2),
    lambda raw: np.exp(-(0.7 * np.tanh(raw) - 0.2)),
    -0.9,
    0.5,
  ),
}
every_coupling = pytest.mark.parametrize('name', COUPLINGS)


@every_coupling
def test_bounds_of_couplings_are_the_published_scales(name):
  """And so are their slopes, by finite differences in float64."""
  bound, scale, _, _ = COUPLINGS[name]
  raw = np.linspace(-9.0, 9.0, 181)
  np.testing.assert_allclose(bound(jnp.asarray(raw)), -np.log(scale(raw)), rtol=1e-5, atol=1e-6)
  step = 1e-5
  slope = (np.log(scale(raw - step)) - np.log(scale(raw + step))) / (2 * step)
  found = jax.vmap(jax.grad(bound))(jnp.asarray(raw))
  np.testing.assert_allclose(found, slope, rtol=1e-4, atol=1e-5)


@every_coupling
def test_bounds_of_couplings_end_where_they_should(name):
  bound, _, low, high = COUPLINGS[name]
  found = np.asarray(bound(jnp.array([-1e6, 1e6])))
  for value, end in zip(found, (low, high), strict=True):
    if np.isfinite(end):
      np.testing.assert_allclose(value, end, rtol=1e-5, atol=1e-6)
    else:
      np.testing.assert_allclose(value, 1e6, rtol=1e-5)  # it goes on, and so does its gradient
  assert np.all(np.isfinite(jax.vmap(jax.grad(bound))(jnp.array([-1e30, -100.0, 100.0, 1e30]))))


def test_where_couplings_begin():
  """Glow's shrinks by sigmoid(2) = 0.881, the others leave a half as it is."""
  np.testing.assert_allclose(np.exp(-affine.glow_bound(0.0)), 0.8807971, rtol=1e-6)
  np.testing.assert_allclose(affine.jet_bound(0.0), 0.0, atol=1e-7)
  assert affine.soft_bound(0.0) == 0
  assert affine.realnvp_bound(0.0, 0.7, 0.0) == 0


def test_glows_coupling_never_expands_towards_latents():
  """Whatever sharpens a density has to be elsewhere: in `ActNorm` and in linear maps."""
  assert np.all(np.asarray(affine.glow_bound(jnp.linspace(-50.0, 12.0, 1000))) > 0)
  assert np.all(np.asarray(affine.jet_bound(jnp.linspace(0.01, 50.0, 1000))) < 0)
