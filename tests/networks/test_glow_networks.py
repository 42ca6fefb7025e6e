"""The networks of couplings and of priors, against transcriptions in NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afslvm.networks import glow
from afslvm.networks.normalization import ActNorm
from tests import constructors, modules, oracles

SIDES = (5, 6)  # of which a dilation of 2 sees the middle, too


def close(found, expected):
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('edge', [True, False])
@pytest.mark.parametrize('activation', glow.ACTIVATIONS)
def test_the_network_of_a_coupling(activation, edge):
  module = glow.GlowStack(4, 7, activation, edge)
  x = modules.normal(0, 2, *SIDES, 3)
  variables = modules.randomized(module, x)
  close(
    constructors.apply(module, variables, x),
    oracles.glow_stack(modules.in_float64(variables), np.asarray(x, np.float64), activation),
  )


@pytest.mark.parametrize('size', [SIDES, (1, 2), (1, 1)])
def test_the_edge_channel_is_that_of_a_concatenation(size):
  """Also where a map is nothing but border, and in the map that is made of nothing else."""
  module, x = glow.ZeroConv(4), modules.normal(0, 2, *size, 3)
  variables = modules.randomized(module, x)
  params = modules.in_float64(variables)
  close(constructors.apply(module, variables, x), oracles.zero_conv(params, np.asarray(x)))
  params = {'kernel': params['conv']['kernel'][:, :, 3:], 'output': params['output']}
  variables = {'params': jax.tree.map(np.float32, params)}
  found = glow.BorderMap(4).apply(variables, size)
  close(found, oracles.gained(params['output'], oracles.edge_conv(params, np.zeros((1, *size, 0)))))


def test_a_map_of_borders_without_edges_is_constant():
  module = glow.BorderMap(3, edge=False)
  variables = modules.randomized(module, SIDES)
  found = module.apply(variables, SIDES)
  assert found.shape == (1, *SIDES, 3)
  assert np.unique(found).size == 3


def windows(slots, channels, above):
  level_mean = modules.normal(1, 2, *SIDES, above) if above else None
  return modules.normal(0, 2, slots, *SIDES, channels), level_mean


def as_float64(*arrays):
  return [None if array is None else np.asarray(array, np.float64) for array in arrays]


@pytest.mark.parametrize(('above', 'depth'), [(3, 2), (0, 1)])
def test_the_prior_of_stacked_slots(above, depth):
  """With and without levels above."""
  module, seen = glow.PlanePrior(4, 7, depth), windows(3, 2, above)
  variables = modules.randomized(module, *seen)
  params = modules.in_float64(variables)
  expected = oracles.plane_prior(params, *as_float64(*seen), depth)
  close(constructors.apply(module, variables, *seen), expected)


@pytest.mark.parametrize(('above', 'depth'), [(3, 1), (0, 2)])
def test_the_prior_of_convolutions_over_time(above, depth):
  """Dilation 1 and 2 side by side, and scales that differ between slots."""
  module, seen = glow.SpacetimePrior(4, 3, depth), windows(3, 2, above)
  variables = modules.randomized(module, *seen)
  params = modules.in_float64(variables)
  assert 'block_0_dilation_4' not in params
  assert params['block_0_dilation_2']['first_norm']['shift'].shape == (3, 3)
  expected = oracles.spacetime_prior(params, *as_float64(*seen), depth, rates=(1, 2))
  close(constructors.apply(module, variables, *seen), expected)


@pytest.mark.parametrize(('width', 'rates'), [(4, {1}), (5, {1, 2}), (8, {1, 2}), (9, {1, 2, 4})])
def test_the_dilations_that_a_map_has_room_for(width, rates):
  """3, 3 and 2 of them at the 32, 16 and 8 columns of the published levels."""
  module = glow.SpacetimePrior(4, 3, 1)
  x = jnp.zeros((1, 3, 16, width, 2))
  params = jax.eval_shape(lambda: module.init(jax.random.key(0), x, None))['params']
  found = {int(name.rpartition('_')[2]) for name in params if name.startswith('block')}
  assert found == rates


def test_convolutions_over_time_without_edges():
  module = glow.SpacetimeConv(4, 2, edge=False)
  x = windows(3, 2, 0)[0]
  variables = modules.randomized(module, x)
  expected = oracles.edge_conv(modules.in_float64(variables), np.asarray(x, np.float64), 2)
  close(constructors.apply(module, variables, x), expected)


def test_slots_see_no_later_ones():
  module = glow.DilatedBranch(2, 3, 1, 'gated', True, 'float32')
  x = windows(4, 2, 0)[0]
  variables = modules.randomized(module, x)
  before = constructors.apply(module, variables, x)
  after = constructors.apply(module, variables, x.at[:, 2].add(1.0))
  changed = np.any(np.asarray(before != after), axis=(0, 2, 3, 4))
  np.testing.assert_array_equal(changed, [False, False, True, True])


# ---- the first values ----------------------------------------------------------------------------

NETWORKS = {
  'plane': functools.partial(glow.PlanePrior, 4, 6, 2),
  'plane relu': functools.partial(glow.PlanePrior, 4, 6, 1, activation='relu'),
  'spacetime': functools.partial(glow.SpacetimePrior, 4, 5, 1),
}


@functools.partial(jax.jit, static_argnums=0)
def initial(module, window, level_mean, mask=None):
  return module.init(jax.random.key(0), window, level_mean, mask)


@pytest.mark.parametrize('name', NETWORKS)
def test_the_first_batch_is_normalised_in_every_layer(name):
  """And a fresh network says nothing yet. Padding does not change it, be it NaN."""
  module = NETWORKS[name]()
  window, level_mean = (4 * part + 3 for part in windows(3, 2, 3))
  variables = initial(module, window, level_mean)
  out, shown = jax.jit(
    lambda v: module.apply(
      v,
      window,
      level_mean,
      mutable='intermediates',
      capture_intermediates=lambda m, called: isinstance(m, ActNorm) and called == '__call__',
    )
  )(variables)
  np.testing.assert_array_equal(out, np.zeros_like(out))
  normalized = jax.tree.leaves(shown)
  assert len(normalized) == sum('log_scale' in path for path in _paths(variables))
  for y in normalized:
    y = np.asarray(y, np.float64)
    axes = tuple(axis for axis in range(y.ndim - 1) if axis != 1 or name != 'spacetime')
    np.testing.assert_allclose(y.mean(axes), np.zeros_like(y.mean(axes)), atol=1e-4)
    np.testing.assert_allclose(y.std(axes), np.ones_like(y.std(axes)), rtol=1e-3)
  more = (jnp.concatenate([part, jnp.full_like(part, jnp.nan)]) for part in (window, level_mean))
  padded = initial(module, *more, jnp.arange(4) < 2)
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4), padded, variables
  )


def _paths(variables):
  return [jax.tree_util.keystr(p) for p, _ in jax.tree_util.tree_leaves_with_path(variables)]


@pytest.mark.parametrize('name', ['stack', 'plane', 'spacetime'])
def test_low_precision_stays_inside_the_hidden_layers(name):
  """Parameters and outputs are float32, near those of exact layers."""
  make = {'stack': functools.partial(glow.GlowStack, 4, 6), **NETWORKS}[name]
  seen = windows(3, 2, 3) if name != 'stack' else (modules.normal(0, 2, *SIDES, 3),)
  exact, rounded = make(), make(compute_dtype='bfloat16')
  variables = modules.randomized(rounded, *seen)
  assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype('float32')}
  found, expected = (constructors.apply(m, variables, *seen) for m in (rounded, exact))
  assert found.dtype == jnp.float32
  assert 'bf16' in str(jax.make_jaxpr(lambda *seen: rounded.apply(variables, *seen))(*seen))
  error = np.abs(found - expected).max() / np.abs(expected).max()
  assert 0 < error < 0.05
