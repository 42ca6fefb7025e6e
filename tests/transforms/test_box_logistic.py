import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from afslvm.transforms import box_logistic
from tests import oracles

WIDTH = 1 / 256
SCALES = (-10.0, -9.0, -7.0, -5.0, -3.0, 0.0, 2.0)  # log-scales
every_scale = pytest.mark.parametrize('log_scale', SCALES)
# K = 3: two narrow components a few levels apart, and a wide one.
MIXTURE = {
  'shift': np.array([0.30, 0.32, 0.5], np.float32),
  'log_scale': np.array([-9.0, -6.0, -2.0], np.float32),
  'log_weights': np.log(np.array([0.5, 0.2, 0.3], np.float32)),
}


@functools.partial(jax.jit, static_argnums=0)
def each(direction, values, shift, log_scale, log_weights=None):
  """A transform of numbers [N] that has the same parameters for all: values, log-slopes."""
  parameters = [jnp.broadcast_to(p, (len(values), *jnp.shape(p))) for p in (shift, log_scale)]
  if log_weights is not None:
    log_weights = jnp.broadcast_to(log_weights, parameters[0].shape)[:, None]
  parameters = [p[:, None] for p in parameters]
  found, log_slope = direction(values[:, None], *parameters, 1, log_weights)
  return found[:, 0], log_slope


def points(log_scale, shift=0.4):
  """x in the box, in the bulk and in the tails."""
  rng = np.random.default_rng(0)
  scale = np.exp(log_scale)
  offsets = [rng.uniform(-1, 1, 200) * WIDTH, 4 * scale * rng.standard_normal(200)]
  return (shift + np.concatenate([*offsets, scale * rng.uniform(-300, 300, 100)])).astype(
    np.float32
  )


def relative(found, expected):
  """The largest error, relative where values are above one."""
  return np.max(np.abs(found - expected) / np.maximum(1, np.abs(expected)))


# ---- the distribution ----------------------------------------------------------------------------


@every_scale
def test_it_is_the_definition_to_round_off(log_scale):
  """y and log p, in the bulk and 300 scales out."""
  x = points(log_scale)
  y, log_slope = (np.asarray(v, float) for v in each(box_logistic.inverse, x, 0.4, log_scale))
  lower, upper, log_density = (v.astype(float) for v in oracles.box_logistic(x, 0.4, log_scale))
  expected = np.where(lower < upper, special.ndtri_exp(lower), -special.ndtri_exp(upper))
  assert np.abs(expected).max() > 20
  assert relative(y, expected) < 4e-6
  log_normal = -0.5 * (y**2 + np.log(2 * np.pi))
  assert relative(log_slope + log_normal, log_density) < 4e-6


def test_a_mixture_is_the_definition_to_round_off():
  x = np.concatenate([points(-5.0, shift) for shift in (0.3, 0.32, 0.5)])
  y, log_slope = (np.asarray(v, float) for v in each(box_logistic.inverse, x, **MIXTURE))
  lower, upper, log_density = (v.astype(float) for v in oracles.box_logistic(x, **MIXTURE))
  expected = np.where(lower < upper, special.ndtri_exp(lower), -special.ndtri_exp(upper))
  assert relative(y, expected) < 4e-6
  assert relative(log_slope - 0.5 * (y**2 + np.log(2 * np.pi)), log_density) < 4e-6


@every_scale
def test_it_integrates_to_one(log_scale):
  """By the trapezoidal rule, in steps of a twentieth of the scale."""
  scale = np.exp(log_scale)
  reach = WIDTH / 2 + 40 * scale
  offsets = np.linspace(-reach, reach, 2 * int(20 * reach / scale) + 1)
  y, log_slope = each(box_logistic.inverse, offsets.astype(np.float32), 0.0, log_scale)
  density = np.exp(np.asarray(log_slope, float) + log_normal(np.asarray(y, float)))
  np.testing.assert_allclose(np.trapezoid(density, offsets), 1.0, atol=2e-5)


def log_normal(y):
  return -0.5 * (y**2 + np.log(2 * np.pi))


def test_a_vanishing_scale_gives_one_level():
  """Inside the box 8 bits, so that a level that is known costs nothing; outside nothing."""
  x = np.float32(0.25) + np.linspace(-0.99, 0.99, 41, dtype=np.float32) * WIDTH
  y, log_slope = (np.asarray(v, float) for v in each(box_logistic.inverse, x, 0.25, -16.0))
  inside = np.abs(x - 0.25) < WIDTH / 2
  log_density = log_slope + log_normal(y)
  np.testing.assert_allclose(log_density[inside], np.log(256), rtol=1e-6)
  np.testing.assert_allclose(special.ndtr(y)[inside], 0.5 + (x - 0.25)[inside] / WIDTH, atol=1e-5)
  assert log_density[~inside].max() < -100


@pytest.mark.parametrize('log_scale', [0.0, 2.0])
def test_a_wide_scale_gives_the_logistic(log_scale):
  x = points(log_scale)
  y, log_slope = (np.asarray(v, float) for v in each(box_logistic.inverse, x, 0.4, log_scale))
  z = (np.asarray(x, float) - np.float32(0.4)) / np.exp(log_scale)
  expected = -log_scale - np.logaddexp(0, z) - np.logaddexp(0, -z)
  np.testing.assert_allclose(log_slope + log_normal(y), expected, rtol=2e-6, atol=3e-6)


# ---- the transform -------------------------------------------------------------------------------


@every_scale
def test_forward_undoes_inverse(log_scale):
  """x comes back to the rounding of x, or of a hundredth of a thousandth of the scale."""
  x = points(log_scale)
  y, log_slope = each(box_logistic.inverse, x, 0.4, log_scale)
  again, other = each(box_logistic.forward, y, 0.4, log_scale)
  np.testing.assert_allclose(again, x, rtol=2e-7, atol=6e-5 * np.exp(log_scale))
  near = np.abs(y) < 4
  np.testing.assert_allclose(other[near], -log_slope[near], rtol=1e-3, atol=1e-3)


@every_scale
def test_inverse_undoes_forward(log_scale):
  """Around zero, where x has the digits: at 0.4 float32 can't tell levels of the noise apart."""
  y = np.concatenate([np.linspace(-5, 5, 101), [-40, -9, 9, 40]]).astype(np.float32)
  x, log_slope = each(box_logistic.forward, y, 0.0, log_scale)
  again, other = each(box_logistic.inverse, np.asarray(x), 0.0, log_scale)
  np.testing.assert_allclose(again, y, rtol=5e-5, atol=5e-6)
  np.testing.assert_allclose(log_slope, -other, rtol=1e-4, atol=1e-4)


def test_a_mixture_is_undone():
  y = np.concatenate([np.linspace(-5, 5, 201), [-40, 40]]).astype(np.float32)
  x, log_slope = each(box_logistic.forward, y, **MIXTURE)
  assert np.all(np.diff(x[:-2]) > 0)
  lower, upper, log_density = (
    v.astype(float) for v in oracles.box_logistic(np.asarray(x), **MIXTURE)
  )
  tail = np.where(y < 0, lower, upper)
  # A last digit of x is 1e-5 of the box.
  np.testing.assert_allclose(tail, special.log_ndtr(-np.abs(y)), rtol=1e-4, atol=1e-4)
  np.testing.assert_allclose(log_slope, log_normal(np.asarray(y, float)) - log_density, atol=2e-3)


SHAPE = (2, 3)


@functools.partial(jax.jit, static_argnums=0)
def transform(direction, values, parameters):
  return direction(values, **parameters, event_ndims=1)


def arrays(components=0, seed=0):
  """x, and parameters around it."""
  keys = jax.random.split(jax.random.key(seed), 4)
  shape = (*SHAPE, components) if components else SHAPE
  x = 0.5 + 0.05 * jax.random.normal(keys[0], SHAPE)
  parameters = {
    'shift': 0.5 + 0.05 * jax.random.normal(keys[1], shape),
    'log_scale': -4.0 + jax.random.normal(keys[2], shape),
  }
  if components:
    parameters['log_weights'] = jax.nn.log_softmax(jax.random.normal(keys[3], shape))
  return x, parameters


@pytest.mark.parametrize('components', [0, 3])
def test_log_det_matches_dense_jacobian(components):
  x, parameters = arrays(components)
  y, log_det = transform(box_logistic.inverse, x, parameters)
  for direction, at, sign in ((box_logistic.inverse, x, 1), (box_logistic.forward, y, -1)):
    found = transform(direction, at, parameters)[1]
    assert found.shape == SHAPE[:1]
    np.testing.assert_allclose(found, sign * log_det, rtol=1e-4, atol=1e-3)
    expected = oracles.dense_log_det(lambda v, d=direction: transform(d, v, parameters)[0], at)
    np.testing.assert_allclose(found.sum(), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize('components', [0, 3])
def test_draws_move_with_parameters_as_finite_differences(components):
  """The gradients of a mixture are those of the implicit function theorem."""
  x, parameters = arrays(components, seed=1)
  y, _ = transform(box_logistic.inverse, x, parameters)

  @jax.jit
  def total(parameters):
    return jnp.sum(transform(box_logistic.forward, y, parameters)[0])

  gradients = jax.jit(jax.grad(total))(parameters)
  for name, value in parameters.items():
    direction = jax.random.normal(jax.random.key(7), value.shape)
    step = 2e-3 if name != 'shift' else 1e-3
    up, down = ({**parameters, name: value + s * step * direction} for s in (1, -1))
    expected = float(total(up) - total(down)) / (2 * step)
    np.testing.assert_allclose(jnp.sum(direction * gradients[name]), expected, rtol=0.02, atol=5e-4)


# ---- nothing overflows ---------------------------------------------------------------------------

OUTLIERS = np.array([-1e20, -1e6, -1e3, -1.0, 0.0, 0.5, 1.0, 1e3, 1e6, 1e20], np.float32)


@pytest.mark.parametrize('components', [0, 3])
def test_outliers_have_finite_values_and_gradients(components):
  """Whatever the parameters: a step may never be lost to one frame."""
  grid = np.meshgrid(OUTLIERS, [-1e4, 0.0, 0.5, 1e4], [-20.0, -10.0, -3.0, 2.0, 10.0])
  x, shift, log_scale = (jnp.asarray(v.reshape(-1, 1), jnp.float32) for v in grid)
  log_weights = None
  if components:
    apart = jnp.array([0.0, -3.0, 4.0])
    shift, log_scale = shift[..., None] + apart, log_scale[..., None] + apart
    log_weights = jnp.broadcast_to(jnp.array([-1e4, 0.0, -30.0]), shift.shape)

  @jax.jit
  @functools.partial(jax.value_and_grad, argnums=(0, 1, 2), has_aux=True)
  def score(x, shift, log_scale):
    y, log_det = box_logistic.inverse(x, shift, log_scale, 1, log_weights)
    return jnp.sum(log_det) - 0.5 * jnp.sum(jnp.square(y)), (y, log_det)

  (_, values), gradients = score(x, shift, log_scale)
  for value in (*values, *gradients):
    assert np.all(np.isfinite(value))


def test_gradients_of_the_density_are_those_of_the_definition():
  """In the bulk, in the box's flat middle and 300 scales out; of log p, which y cancels from."""
  for log_scale in (-9.0, -5.0, 0.0):
    x = points(log_scale)

    def score(x, shift, log_scale):
      y, log_slope = each(box_logistic.inverse, x, shift, log_scale)
      return log_slope - 0.5 * jnp.square(y)

    at = (x, jnp.float32(0.4), jnp.float32(log_scale))
    tangents = (jnp.zeros_like(x), jnp.float32(0.0), jnp.float32(1.0))
    found = jax.jit(lambda at, t: jax.jvp(score, at, t)[1])(at, tangents)
    step = 1e-4
    up, down = (_density_in_double(x, 0.4, log_scale + s * step) for s in (1, -1))
    expected = ((up - down) / (2 * step)).astype(float)
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4)


def _density_in_double(x, shift, log_scale):
  """log p at a log-scale that isn't rounded to float32."""
  x, shift = (np.asarray(v, np.float32).astype(np.longdouble) for v in (x, shift))
  a, b = ((x - shift + side * WIDTH / 2) * np.exp(np.longdouble(-log_scale)) for side in (1, -1))
  covered = np.log(-np.expm1(b - a))
  return covered - np.logaddexp(np.longdouble(0), -a) - np.logaddexp(np.longdouble(0), b)


# ---- the normal quantile of a log-probability ----------------------------------------------------


def test_quantile_of_tail():
  """From one half to probabilities of which float32 has not even the exponent."""
  log_p = -np.exp(np.linspace(np.log(np.log(2)), np.log(1e9), 2000)).astype(np.float32)
  expected = special.ndtri_exp(log_p.astype(float))
  found = np.asarray(jax.jit(box_logistic.quantile_of_tail)(log_p))
  assert relative(found, expected) < 6e-7
  slope = jax.jit(jax.vmap(jax.grad(box_logistic.quantile_of_tail)))(log_p)
  mills = np.sqrt(np.pi / 2) * special.erfcx(-expected / np.sqrt(2))
  np.testing.assert_allclose(slope, mills, rtol=1e-5)
