"""The importance-weighted bound, against the Kalman filter."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afslvm.objectives import iwae
from tests import constructors, oracles
from tests import linear_gaussian as lg

STEPS = 5


@functools.partial(jax.jit, static_argnums=0)
def importance_bound(model, *arguments):
  return iwae.importance_bound(model, *arguments)


@functools.cache
def gaps(samples, count=400, seed=0, **inference):
  """Bound less log-likelihood of many sequences, [count]."""
  x = lg.sequences(count, STEPS, seed)
  exact = np.array([oracles.kalman_log_likelihood(row, *lg.PARAMETERS) for row in x])
  model, mask = lg.make(**inference), jnp.ones(x.shape[:2], bool)
  keys = jax.random.split(jax.random.key(samples), samples)

  bound = importance_bound(model, {}, jnp.array(x, jnp.float32), mask, keys, jnp.float32(1.0))[0]
  return np.asarray(bound, np.float64) - exact


def test_one_sample_is_the_elbo():
  """The same draw gives the same number; the mean is the bound in closed form."""
  x = jnp.array(lg.sequences(6, STEPS), jnp.float32)
  model, mask, key = lg.make(), jnp.ones((6, STEPS), bool), jax.random.key(3)
  bound, terms, _ = importance_bound(model, {}, x, mask, key[None], jnp.float32(1.0))
  own = constructors.apply(model, {}, x, mask, rngs={'sample': key})
  np.testing.assert_allclose(bound, own.log_weight.sum(axis=1), rtol=1e-5)
  np.testing.assert_allclose(terms.kl[0], own.kl, rtol=1e-5, atol=1e-6)
  expected = []
  for row in lg.sequences(400, STEPS):
    closed = oracles.affine_elbo(row, lg.PARAMETERS, oracles.affine_posterior(row, lg.PARAMETERS))
    expected.append(closed[0] - oracles.kalman_log_likelihood(row, *lg.PARAMETERS))
  difference = gaps(1) - np.array(expected)
  assert abs(difference.mean()) < 4.5 * difference.std() / np.sqrt(len(difference))


@pytest.mark.parametrize('inference', [{}, {'shift': 0.3, 'log_stretch': 0.2}], ids=str)
def test_iwae_is_monotone_in_k(inference):
  values = [gaps(samples, **inference) for samples in (1, 4, 16, 256)]
  for fewer, more in zip(values, values[1:], strict=False):
    rise = more - fewer
    assert rise.mean() > 2 * rise.std() / np.sqrt(len(rise))
  for value in values:
    assert value.mean() < 2 * value.std() / np.sqrt(len(value))
  assert values[-1].mean() > (-0.2 if inference else -0.02)
  assert values[-1].mean() > values[0].mean() / 10


def test_any_number_of_samples_is_exact_at_the_smoothing_posterior():
  np.testing.assert_allclose(gaps(3, future=True), 0.0, atol=2e-4)


@pytest.mark.parametrize('samples', [1, 4])
def test_the_mean_weight_is_an_unbiased_likelihood(samples):
  """E[exp(bound)] = p(x), for every K."""
  x = lg.sequences(1, STEPS, seed=4)
  exact = oracles.kalman_log_likelihood(x[0], *lg.PARAMETERS)
  many = jnp.broadcast_to(jnp.array(x, jnp.float32), (8000, STEPS, lg.SIZE))
  keys = jax.random.split(jax.random.key(1), samples)
  mask = jnp.ones(many.shape[:2], bool)
  bound = importance_bound(lg.make(), {}, many, mask, keys, jnp.float32(1.0))[0]
  ratio = np.exp(np.asarray(bound, np.float64) - exact)
  assert abs(ratio.mean() - 1) < 4.5 * ratio.std() / np.sqrt(len(ratio))


def test_weights_are_summed_over_time_before_the_mean():
  """Not a sum of per-step means (systems of the thesis), which would be no bound."""
  x = jnp.array(lg.sequences(3, STEPS), jnp.float32)
  mask, keys = jnp.ones((3, STEPS), bool), jax.random.split(jax.random.key(0), 6)
  bound, terms, _ = importance_bound(lg.make(), {}, x, mask, keys, jnp.float32(1.0))
  weights = np.asarray(terms.log_weight, np.float64)
  expected = np.log(np.mean(np.exp(weights.sum(axis=2)), axis=0))
  np.testing.assert_allclose(bound, expected, rtol=1e-5)


def test_weight_of_the_divergence():
  """log p(x | z) - w (log q - log p); nothing is left of the ratio at w = 0."""
  x = jnp.array(lg.sequences(2, STEPS), jnp.float32)
  mask = jnp.ones((2, STEPS), bool).at[1, 3:].set(False)
  terms = constructors.apply(lg.make(), {}, x, mask, rngs={'sample': jax.random.key(0)})
  ratio = terms.latents.log_ratio * mask
  for weight in (0.0, 0.3, 1.0):
    found = iwae.tempered(terms, jnp.float32(weight))
    expected = terms.log_likelihood - weight * ratio
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_masks_change_nothing():
  x = jnp.array(lg.sequences(2, STEPS), jnp.float32)
  noise = {'noise': {'latent': jnp.array([0.4, -1.1])}}
  keys, weight = jax.random.split(jax.random.key(0), 2), jnp.float32(1.0)
  whole = jnp.ones((2, STEPS), bool)
  expected = importance_bound(lg.make(), noise, x, whole, keys, weight)[0]
  longer = jnp.concatenate([x, jnp.full((2, 3, lg.SIZE), jnp.nan)], axis=1)
  mask = jnp.broadcast_to(jnp.arange(STEPS + 3) < STEPS, longer.shape[:2])
  found = importance_bound(lg.make(), noise, longer, mask, keys, weight)[0]
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_collections_change_only_in_training():
  """A model with BatchNorm scores a sequence alone as it does in a batch."""
  model = constructors.flows(1, constructors.conv(), base=constructors.slvm(constructors.FRAME))
  x = constructors.data(model, batch=2, steps=4)
  variables = constructors.randomized(model, x)
  variables = {**variables, 'noise': {'base': {'latent': jnp.zeros(constructors.LATENT)}}}
  keys = jax.random.split(jax.random.key(0), 2)

  @functools.partial(jax.jit, static_argnames='mutable')
  def bound(x, mutable=()):
    mask = jnp.ones(x.shape[:2], bool)
    return iwae.importance_bound(model, variables, x, mask, keys, mutable=mutable)

  together, _, updated = bound(x)
  assert updated == {}
  np.testing.assert_allclose(together[:1], bound(x[:1])[0], rtol=1e-4)
  trained, _, updated = bound(x, ('batch_stats',))
  assert updated.keys() == {'batch_stats'}
  assert not np.allclose(trained, together, rtol=1e-2)
