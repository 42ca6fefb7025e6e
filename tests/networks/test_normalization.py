"""Scales and shifts that the first batch decides, and nothing afterwards."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afslvm.networks.normalization import GAIN, ActNorm
from tests import modules, oracles

SHAPES = {'maps': (6, 3, 2, 4), 'windows': (6, 2, 3, 2, 4), 'vectors': (40, 4)}
every_shape = pytest.mark.parametrize('shape', SHAPES)


def data(shape, seed=0):
  """Channels of different means and scales."""
  x = modules.normal(seed, *SHAPES[shape])
  return x * jnp.array([0.05, 1.0, 3.0, 40.0]) + jnp.array([5.0, 0.0, -2.0, 1.0])


def initialized(module, x, mask=None):
  return jax.jit(lambda x: module.init(jax.random.key(0), x, mask))(x)


def statistics(x, by_slot):
  """Means and deviations in float64, [C] or [slots, C]."""
  axes = tuple(axis for axis in range(x.ndim - 1) if not (by_slot and axis == 1))
  x = np.asarray(x, np.float64)
  return x.mean(axes), x.std(axes)


@pytest.mark.parametrize(
  ('shape', 'by_slot'), [*((shape, False) for shape in SHAPES), ('windows', True)]
)
def test_the_first_batch_is_normalised(shape, by_slot):
  """Each channel, of each slot where slots are apart, has mean 0 and deviation 1."""
  module, x = ActNorm(by_slot=by_slot), data(shape)
  if by_slot:
    x = x.at[:, 1].multiply(7.0)
  variables = initialized(module, x)
  mean, deviation = statistics(module.apply(variables, x), by_slot)
  np.testing.assert_allclose(mean, np.zeros_like(mean), atol=2e-4)
  np.testing.assert_allclose(deviation, np.ones_like(mean), rtol=1e-3)
  mean, deviation = statistics(x, by_slot)
  params = variables['params']
  np.testing.assert_allclose(params['shift'], mean, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(np.exp(GAIN * params['log_scale']), deviation, rtol=1e-3)
  other = statistics(module.apply(variables, data(shape, seed=1) + 1), by_slot)[0]
  assert np.abs(other).min() > 0.01


def test_slots_that_are_not_apart_share_their_statistics():
  """So a slot by itself is not normalised."""
  x = data('windows').at[:, 1].add(100.0)
  y = ActNorm().apply(initialized(ActNorm(), x), x)
  assert float(jnp.abs(y.mean(axis=(0, 2, 3))).min()) > 0.5


@pytest.mark.parametrize('by_slot', [False, True])
def test_what_does_not_count_does_not_count(by_slot):
  """Not even where it is NaN."""
  x = data('windows')
  more = jnp.concatenate([x[:3], jnp.full_like(x[:2], jnp.nan), x[3:]])
  mask = jnp.array([True] * 3 + [False] * 2 + [True] * 3)
  expected = initialized(ActNorm(by_slot=by_slot), x)
  found = initialized(ActNorm(by_slot=by_slot), more, mask)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, expected)


@pytest.mark.parametrize('floor', [1e-6, 1e-2])
def test_a_constant_channel_gets_the_floor(floor):
  """And the others what they would have without it."""
  x = data('maps').at[..., 1].set(0.3)
  variables = initialized(ActNorm(floor), x)
  scale = np.exp(GAIN * np.asarray(variables['params']['log_scale'], np.float64))
  np.testing.assert_allclose(scale[1], floor, rtol=1e-3)
  np.testing.assert_allclose(scale[[2, 3]], statistics(x, False)[1][[2, 3]], rtol=1e-3)
  y = ActNorm(floor).apply(variables, x)
  assert np.all(np.isfinite(y))
  np.testing.assert_allclose(y[..., 1], np.zeros(x.shape[:-1]), atol=0.2)


def test_initial_values_from_the_way_back_are_zero():
  """It sees no x: a fresh flow that draws first leaves latents as they are."""
  y = data('maps')
  variables = ActNorm().init(jax.random.key(0), y, method='forward')
  for leaf in jax.tree.leaves(variables):
    np.testing.assert_array_equal(leaf, np.zeros(4))
  np.testing.assert_array_equal(ActNorm().apply(variables, y, method='forward')[0], y)


def test_nothing_is_remembered_but_parameters():
  """No flag can be lost, and no later batch can change anything."""
  x = data('maps')
  variables = initialized(ActNorm(), x)
  assert set(variables) == {'params'}
  assert set(variables['params']) == {'shift', 'log_scale'}
  _, changed = ActNorm().apply(variables, 3 * x + 1, mutable=True)
  jax.tree.map(np.testing.assert_array_equal, changed, variables)


@every_shape
def test_there_and_back(shape):
  """The log-determinants are those of Jacobians, and cancel."""
  module, x = ActNorm(), data(shape) / 10
  variables = modules.randomized(module, x, scale=0.3)
  y, log_det = module.apply(variables, x, method='inverse')
  again, other = module.apply(variables, y, method='forward')
  np.testing.assert_allclose(again, x, rtol=1e-5, atol=1e-5)
  np.testing.assert_array_equal(other, -log_det)
  dense = oracles.dense_log_det(lambda v: module.apply(variables, v[None]), x[0])
  np.testing.assert_allclose(log_det, np.full(len(x), dense), rtol=1e-4)


def test_parameters_learn_as_those_of_glows_code_do():
  """Stored log-scales are a third of the log-scales: a gradient step moves these nine times."""
  x = data('maps')
  variables = initialized(ActNorm(), x)
  moved = {'params': {**variables['params']}}
  moved['params']['log_scale'] = variables['params']['log_scale'] + 0.1
  ratio = ActNorm().apply(variables, x) / ActNorm().apply(moved, x)
  np.testing.assert_allclose(ratio, np.full(x.shape, np.exp(0.3)), rtol=1e-3)
