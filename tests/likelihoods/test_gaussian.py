"""The Gaussian likelihood and its bounds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afslvm.likelihoods.gaussian import Gaussian
from afslvm.networks.heads import LocLogScale

MAPS, VECTORS = (3, 2, 3, 5), (3, 6)
FRAME = (4, 6, 2)


def make(features_shape, scale=1.0, **options):
  likelihood = Gaussian(FRAME, **options)
  features = jax.random.normal(jax.random.key(1), features_shape)
  variables = likelihood.init(jax.random.key(0), features, method='distribution')
  variables = jax.tree.map(
    lambda leaf: leaf + scale * jax.random.normal(jax.random.key(2), leaf.shape), variables
  )
  return likelihood, variables, features


@pytest.mark.parametrize('shape', [MAPS, VECTORS], ids=['maps', 'vectors'])
@pytest.mark.parametrize('activation', ['linear', 'sigmoid'])
def test_log_prob_is_summed_over_the_event(shape, activation):
  likelihood, variables, features = make(shape, 0.2, mean_activation=activation)
  x = jax.random.normal(jax.random.key(3), (3, *FRAME))
  normal = likelihood.apply(variables, features, method='distribution')
  assert normal.loc.shape == normal.log_scale.shape == x.shape
  if activation == 'sigmoid':
    assert 0 < float(normal.loc.min()) < float(normal.loc.max()) < 1
  else:
    assert float(normal.loc.min()) < 0
  np.testing.assert_array_equal(likelihood.apply(variables, features, method='predict'), normal.loc)
  scale = np.exp(np.asarray(normal.log_scale, np.float64))
  error = (np.asarray(x) - normal.loc) / scale
  expected = (-0.5 * error**2 - np.log(scale) - 0.5 * np.log(2 * np.pi)).sum(axis=(1, 2, 3))
  found = likelihood.apply(variables, features, x, method='log_prob')
  np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize(
  ('bound', 'low', 'high'), [('clip', -15.0, 5.0), ('smooth', -7.0, 2.0), ('clip', -1.0, 0.5)]
)
def test_bounds_of_the_log_scale_and_how_many_lie_there(bound, low, high):
  options = {'log_scale_bound': bound, 'log_scale_low': low, 'log_scale_high': high}
  likelihood, variables, features = make(VECTORS, 200.0, **options)
  log_scale = likelihood.apply(variables, features, method='distribution').log_scale
  assert float(log_scale.min()) == pytest.approx(low, abs=1e-3)
  assert float(log_scale.max()) == pytest.approx(high, abs=1e-3)
  assert low <= float(log_scale.min())
  assert float(log_scale.max()) <= high
  x = jnp.zeros((3, *FRAME))
  share = likelihood.apply(variables, features, x, method='saturation')
  assert share.shape == (3,)
  margin = 0.01 * (high - low)
  outside = (log_scale < low + margin) | (log_scale > high - margin)
  np.testing.assert_allclose(share, outside.reshape(3, -1).mean(axis=1), rtol=1e-6)
  assert float(share.min()) > 0.5
  calm = jax.tree.map(jnp.zeros_like, variables)
  np.testing.assert_array_equal(likelihood.apply(calm, features, x, method='saturation'), 0.0)


def test_temperature_scales_the_deviation():
  likelihood, variables, features = make(MAPS, 0.1)
  normal = likelihood.apply(variables, features, method='distribution')

  def draw(temperature):
    return likelihood.apply(variables, features, jax.random.key(5), temperature, method='sample')

  np.testing.assert_array_equal(draw(0.0), normal.loc)
  np.testing.assert_allclose(
    draw(1.0) - normal.loc, 2 * (draw(0.5) - normal.loc), rtol=1e-3, atol=1e-4
  )
  standardized = np.asarray((draw(1.0) - normal.loc) / jnp.exp(normal.log_scale))
  assert abs(standardized.mean()) < 4.5 / np.sqrt(standardized.size)
  assert abs(standardized.var() - 1) < 4.5 * np.sqrt(2 / standardized.size)


def test_heads_of_latent_variables_are_clipped():
  """At -15 and 5 (the paper's code), with no gradient beyond, as in the original."""
  head, h = LocLogScale(3), jnp.ones((2, 4))
  params = head.init(jax.random.key(0), h)
  for bias, expected in ((100.0, 5.0), (-100.0, -15.0)):
    given = jax.tree.map(lambda leaf: leaf, params)
    given['params']['log_scale']['bias'] = jnp.full(3, bias)
    np.testing.assert_array_equal(head.apply(given, h)[1], expected)
    grads = jax.grad(lambda p: head.apply(p, h)[1].sum())(given)
    np.testing.assert_array_equal(grads['params']['log_scale']['bias'], 0.0)
