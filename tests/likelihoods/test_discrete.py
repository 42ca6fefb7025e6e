"""Likelihoods of discrete data: their probabilities sum to one, and nothing overflows."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from afslvm.distributions import discretized_normal
from afslvm.distributions.bernoulli import Bernoulli as BernoulliDistribution
from afslvm.distributions.normal import Normal
from afslvm.likelihoods.bernoulli import Bernoulli
from afslvm.likelihoods.discretized_gaussian import DiscretizedGaussian
from afslvm.likelihoods.nade import Nade
from tests import constructors

KEY = jax.random.key(0)
EVERY_ROLL = np.array(list(itertools.product((0.0, 1.0), repeat=5)), np.float32)


def test_bernoulli_is_stable_at_large_logits():
  logits = jnp.array([-50.0, 50.0, 0.0, -1e4, 1e4])
  for x, expected in ((1.0, [-50, 0, -np.log(2), -1e4, 0]), (0.0, [0, -50, -np.log(2), 0, -1e4])):
    found = BernoulliDistribution(logits).log_prob(x)
    np.testing.assert_allclose(found, expected, atol=1e-6)
  slope = jax.grad(lambda v: BernoulliDistribution(v).log_prob(1.0).sum())(logits)
  np.testing.assert_allclose(slope, [1, 0, 0.5, 1, 0], atol=1e-6)


@pytest.mark.parametrize('cls', [Bernoulli, Nade])
def test_binary_likelihoods_sum_to_one_and_sample_what_they_say(cls):
  likelihood = cls((5,), initial_rate=0.3)
  features = 2.0 * jax.random.normal(KEY, (1, 4))
  variables = likelihood.init(KEY, features, jnp.zeros((1, 5)), method='log_prob')
  variables = jax.tree.map(lambda v: v + 0.7 * jax.random.normal(KEY, v.shape), variables)
  many = jnp.repeat(features, len(EVERY_ROLL), axis=0)
  log_prob = constructors.apply(likelihood, variables, many, EVERY_ROLL, method='log_prob')
  probability = np.exp(np.asarray(log_prob, np.float64))
  np.testing.assert_allclose(probability.sum(), 1.0, rtol=1e-5)

  count = 20_000
  draw = jax.jit(lambda f: likelihood.apply(variables, f, KEY, method='sample'))
  drawn = np.asarray(draw(jnp.repeat(features, count, axis=0)))
  index = (drawn @ 2 ** np.arange(5)[::-1]).astype(int)
  found = np.bincount(index, minlength=32) / count
  error = np.sqrt(probability * (1 - probability) / count)
  assert np.all(np.abs(found - probability) < 5 * error + 1e-4)
  mode = likelihood.apply(variables, features, KEY, 0.0, method='sample')
  assert set(np.unique(mode)) <= {0.0, 1.0}
  assert likelihood.apply(variables, features, method='predict').shape == (1, 5)


def test_nade_dimensions_depend_on_earlier_ones_only():
  likelihood = Nade((5,), hidden=3)
  features, x = jnp.ones((1, 2)), jnp.array([[1.0, 0, 1, 0, 1]])
  variables = likelihood.init(KEY, features, x, method='log_prob')
  slopes = jax.jacobian(lambda x: likelihood.apply(variables, features, x, method='error')[0])(x)
  slopes = np.asarray(slopes)[:, 0] - np.eye(5)  # the error is x - p
  assert np.all(np.triu(slopes) == 0)
  assert np.all(slopes[np.tril_indices(5, -1)] != 0)


# ---- bins of a normal distribution ---------------------------------------------------------------


def log_bin_oracle(x, loc, scale, width):
  """In float64, by the difference of distribution functions in the lower tail."""
  low, high = (x - width / 2 - loc) / scale, (x + width / 2 - loc) / scale
  low, high = np.where(low > 0, -high, low), np.where(low > 0, -low, high)
  log_high, log_low = special.log_ndtr(high), special.log_ndtr(low)
  return log_high + np.log(-np.expm1(log_low - log_high))


@jax.jit
@functools.partial(jax.vmap, in_axes=(0, None, None))
def log_bin_and_slope(x, scale, width):
  normal = Normal(jnp.zeros(()), jnp.log(scale))
  return jax.value_and_grad(lambda v: discretized_normal.log_bin(normal, v, width))(x)


@pytest.mark.parametrize('width', [1e-3, 0.02, 0.099, 0.101, 0.5, 4.0])
@pytest.mark.parametrize('scale', [0.05, 1.0])
def test_bins_are_right_in_the_middle_and_in_the_tails(width, scale):
  x = np.linspace(-9, 9, 73) * scale
  found, slope = log_bin_and_slope(jnp.array(x, jnp.float32), scale, width * scale)
  expected = log_bin_oracle(x, 0.0, scale, width * scale)
  np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)
  step = 1e-4 * scale
  numeric = (
    log_bin_oracle(x + step, 0.0, scale, width * scale)
    - log_bin_oracle(x - step, 0.0, scale, width * scale)
  ) / (2 * step)
  np.testing.assert_allclose(slope * scale, numeric * scale, rtol=2e-3, atol=2e-3)


def test_far_tails_have_finite_values_and_gradients():
  normal = Normal(jnp.zeros(()), jnp.zeros(()))
  for width in (1e-3, 1.0):
    score = lambda v, w=width: discretized_normal.log_bin(normal, v, w)  # noqa: E731
    value, slope = jax.jit(jax.value_and_grad(score))(300.0)
    assert np.isfinite(value)
    np.testing.assert_allclose(slope, -300.0, rtol=0.01)


@pytest.mark.parametrize(('loc', 'scale'), [(0.5, 0.1), (0.02, 0.001), (1.4, 0.3), (0.3, 5.0)])
def test_levels_sum_to_one_and_the_papers_bins_do_not(loc, scale):
  x = np.arange(256, dtype=np.float32)[:, None] / 255
  features = jnp.zeros((256, 1))
  sums = {}
  for bins, width in (('levels', 1 / 255), ('avf_paper', 1 / 256)):
    likelihood = DiscretizedGaussian((1,), bin_width=width, bins=bins, log_scale_bound='clip')
    variables = likelihood.init(KEY, features, x, method='log_prob')
    variables['params']['mean_head']['dense']['bias'] = jnp.array([loc])
    variables['params']['log_scale_head']['dense']['bias'] = jnp.log(jnp.array([scale]))
    log_prob = constructors.apply(likelihood, variables, features, x, method='log_prob')
    sums[bins] = float(np.sum(np.exp(np.asarray(log_prob, np.float64))))
    assert likelihood.measure == {'levels': 'probability'}.get(bins, 'bins of the AVF paper')
  np.testing.assert_allclose(sums['levels'], 1.0, rtol=1e-4)
  assert abs(sums['avf_paper'] - 1.0) > 1e-3


def test_the_papers_bin_begins_at_the_value_and_has_a_floor():
  normal = Normal(jnp.array(0.0), jnp.array(0.0))
  found = discretized_normal.log_bin_paper(normal, jnp.array(0.3), 0.5)
  expected = np.log(special.ndtr(0.8) - special.ndtr(0.3) + 1e-6)
  np.testing.assert_allclose(found, expected, rtol=1e-4)
  assert float(discretized_normal.log_bin_paper(normal, jnp.array(40.0), 0.5)) == pytest.approx(
    np.log(1e-6), rel=1e-4
  )


@pytest.mark.parametrize('x', [0.0, 0.4, 1.0])
def test_levels_have_second_derivatives_everywhere(x):
  """Iterative inference differentiates gradients; the outermost levels are open bins."""
  loc = np.linspace(0.0, 1.0, 9, dtype=np.float32)[:, None]
  log_scale = np.linspace(-7.0, 2.0, 19, dtype=np.float32)

  def slopes(parameters):
    normal = Normal(*parameters)
    return jax.grad(lambda n: discretized_normal.log_level(n, x, 1 / 255))(normal)

  def total(parameters):
    found = slopes(parameters)
    return found.loc - 2.0 * found.log_scale

  pairs = [jnp.ravel(v) for v in np.broadcast_arrays(loc, log_scale)]
  for values in jax.jit(jax.vmap(jax.grad(total)))(tuple(pairs)):
    assert np.all(np.isfinite(values))
