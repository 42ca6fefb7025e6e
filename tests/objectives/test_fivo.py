"""The particle filter's bound, against the Kalman filter, and its resampling."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afslvm.objectives import fivo, iwae
from tests import constructors, oracles
from tests import linear_gaussian as lg

STEPS = 8


def filtered(x, samples, model=None, variables=None, key=0, mask=None, **options):
  model = model or lg.make(**options.pop('inference', {}))
  x = jnp.asarray(x, jnp.float32)
  mask = jnp.ones(x.shape[:2], bool) if mask is None else mask

  @jax.jit
  def run(x, mask, key):
    return fivo.ParticleFilter(model, samples, **options)(variables or {}, x, mask, key)

  return run(x, mask, jax.random.key(key))


@functools.cache
def gaps(samples, count=400, threshold=0.5, **inference):
  """Bound less log-likelihood of many sequences, [count]."""
  x = lg.sequences(count, STEPS)
  exact = np.array([oracles.kalman_log_likelihood(row, *lg.PARAMETERS) for row in x])
  found = filtered(x, samples, inference=inference, threshold=threshold)
  return np.asarray(found.bound, np.float64) - exact


# ---- the bound -----------------------------------------------------------------------------------


@pytest.mark.parametrize('inference', [{}, {'shift': 0.3}], ids=str)
def test_fivo_is_monotone_in_k(inference):
  values = [gaps(samples, **inference) for samples in (1, 4, 16, 128)]
  for fewer, more in zip(values, values[1:], strict=False):
    rise = more - fewer
    assert rise.mean() > 2 * rise.std() / np.sqrt(len(rise))
  for value in values:
    assert value.mean() < 2 * value.std() / np.sqrt(len(value))
  assert values[-1].mean() > (-0.3 if inference else -0.05)


def test_resampling_keeps_long_sequences_tight():
  """At equal K the filter loses less than importance weights of whole sequences, which diverge."""
  x = lg.sequences(200, 40)
  exact = np.array([oracles.kalman_log_likelihood(row, *lg.PARAMETERS) for row in x])
  with_, without = (
    np.asarray(filtered(x, 16, threshold=threshold).bound, np.float64) - exact
    for threshold in (0.5, 0.0)
  )
  assert without.mean() < 2 * with_.mean() < 0


@pytest.mark.parametrize('threshold', [0.0, 0.5, 1.0])
def test_the_estimate_of_the_likelihood_is_unbiased(threshold):
  """E[p̂(x)] = p(x) however often particles are resampled."""
  x = lg.sequences(1, STEPS, seed=4)
  exact = oracles.kalman_log_likelihood(x[0], *lg.PARAMETERS)
  found = filtered(np.repeat(x, 4000, axis=0), 4, threshold=threshold)
  ratio = np.exp(np.asarray(found.bound, np.float64) - exact)
  assert abs(ratio.mean() - 1) < 4.5 * ratio.std() / np.sqrt(len(ratio))
  share = float(found.resampled.mean())
  # The first weights are equal, p(x_1), for this posterior is the exact one.
  assert {0.0: share == 0, 0.5: 0 < share < 0.5, 1.0: share > 0.8}[threshold]


def test_one_particle_is_one_importance_sample():
  """Given the noise of z; and it is never resampled."""
  x = jnp.array(lg.sequences(3, STEPS), jnp.float32)
  noise = {'noise': {'latent': jnp.array([0.4, -1.1])}}
  found = filtered(x, 1, variables=noise, threshold=1.0)
  mask, keys = jnp.ones((3, STEPS), bool), jax.random.split(jax.random.key(0), 1)
  expected = iwae.importance_bound(lg.make(), noise, x, mask, keys, jnp.float32(1.0))[0]
  np.testing.assert_allclose(found.bound, expected, rtol=1e-5)
  assert not found.resampled.any()
  np.testing.assert_allclose(found.effective_size, 1.0, rtol=1e-6)


def test_without_resampling_it_is_the_importance_weighted_bound():
  """Threshold 0: the same distribution of the bound, by mean and spread."""
  x = np.repeat(lg.sequences(1, STEPS, seed=4), 3000, axis=0)
  one = np.asarray(filtered(x, 4, threshold=0.0).bound, np.float64)
  keys, mask = jax.random.split(jax.random.key(5), 4), jnp.ones(x.shape[:2], bool)
  other = iwae.importance_bound(
    lg.make(), {}, jnp.array(x, jnp.float32), mask, keys, jnp.float32(1.0)
  )[0]
  other = np.asarray(other, np.float64)
  error = np.sqrt((one.var() + other.var()) / len(x))
  assert abs(one.mean() - other.mean()) < 4.5 * error
  np.testing.assert_allclose(one.std(), other.std(), rtol=0.1)


def test_particles_weighted_by_hand():
  """Without resampling the bound is the log-mean of products of the steps' weights."""
  model, x, count = lg.make(), jnp.array(lg.sequences(2, 3), jnp.float32), 3
  found = filtered(x, count, threshold=0.0, key=9)
  weights = np.zeros((count, 2))
  states = [model.apply({}, 2, method='initial_state')] * count
  for t, key in enumerate(jax.random.split(jax.random.key(9), 3)):
    keys = jax.random.split(key, count + 1)[1:]
    for k in range(count):
      states[k], terms = constructors.apply(
        model, {}, states[k], x[:, t], method='step', rngs={'sample': keys[k]}
      )
      weights[k] += np.asarray(terms.log_weight, np.float64)
  np.testing.assert_allclose(found.bound, np.log(np.exp(weights).mean(axis=0)), rtol=1e-4)
  normalized = np.exp(weights) / np.exp(weights).sum(axis=0)
  np.testing.assert_allclose(found.effective_size[:, -1], 1 / (normalized**2).sum(0), rtol=1e-3)


def test_an_exact_model_has_nothing_to_filter():
  model = constructors.Recurrent(constructors.VECTOR)
  x = constructors.data(model)
  variables = constructors.randomized(model, x)
  found = filtered(x, 3, model=model, variables=variables)
  np.testing.assert_allclose(
    found.bound, constructors.apply(model, variables, x).elbo.sum(axis=1), rtol=1e-4
  )


# ---- flows, masks, context -----------------------------------------------------------------------


def under_a_flow(boundary):
  """A flow around the linear-Gaussian model, with random parameters."""
  conditioner = constructors.DenseConditioner((lg.SIZE,), window=2, features=4, depth=1)
  model = constructors.flows(1, conditioner, base=lg.make(), boundary=boundary)
  x = jnp.array(lg.sequences(3, STEPS), jnp.float32)
  return model, constructors.randomized(model, x), x


@pytest.mark.parametrize('boundary', ['context', 'learned'])
def test_a_flow_outside_adds_its_log_det(boundary):
  model, variables, x = under_a_flow(boundary)
  mask = jnp.ones(x.shape[:2], bool)
  noise = jnp.array([0.4, -1.1])
  nested = {**variables, 'noise': {'base': {'latent': noise}}}
  found = filtered(x, 2, model=model, variables=nested)
  y, log_det = constructors.apply(model, variables, x, mask, method='without_flows')
  assert y.shape[1] == STEPS - (2 if boundary == 'context' else 0)
  base = filtered(y, 2, variables={'noise': {'latent': noise}})
  np.testing.assert_allclose(found.bound, base.bound - log_det.sum(axis=1), rtol=1e-4)
  terms = constructors.apply(model, nested, x, mask)
  np.testing.assert_allclose(log_det, terms.log_det[:, -y.shape[1] :], rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(found.bound, terms.log_weight.sum(axis=1), rtol=1e-4)
  assert found.resampled.shape == y.shape[:2]


def test_steps_before_the_first_are_not_counted():
  model, variables, x = under_a_flow('learned')
  nested = {**variables, 'noise': {'base': {'latent': jnp.array([0.4, -1.1])}}}
  terms = constructors.apply(model, nested, x)
  for first in (0, 3, STEPS):
    found = filtered(x, 2, model=model, variables=nested, first=first)
    expected = terms.log_weight[:, first:].sum(axis=1)
    np.testing.assert_allclose(found.bound, expected, rtol=1e-4, atol=1e-4)
  found = filtered(x, 8, model=model, variables=variables, first=3, threshold=1.0)
  np.testing.assert_array_equal(found.resampled[:, :3], False)
  np.testing.assert_array_equal(found.resampled[:, 3:], True)


def test_masks_change_nothing():
  """Neither the bound nor the gradient, even where the padding is NaN."""
  model, variables, x = under_a_flow('learned')
  noise = {'base': {'latent': jnp.array([0.4, -1.1])}}
  longer = jnp.concatenate([x, jnp.full((3, 2, lg.SIZE), jnp.nan)], axis=1)
  mask = jnp.broadcast_to(jnp.arange(STEPS + 2) < STEPS, longer.shape[:2])

  @jax.jit
  def run(params, x, mask):
    variables = {'params': params, 'noise': noise}
    return jnp.sum(fivo.ParticleFilter(model, 2)(variables, x, mask, jax.random.key(0)).bound)

  gradient = jax.value_and_grad(run)
  expected = gradient(variables['params'], x, jnp.ones(x.shape[:2], bool))
  found = gradient(variables['params'], longer, mask)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), found, expected)


def test_observations_are_encoded_at_once(monkeypatch):
  """Outside the scan, and not once per particle."""
  shapes, encode = [], lg.Message.encode

  def counted(self, x, mask):
    shapes.append(x.shape)
    return encode(self, x, mask)

  monkeypatch.setattr(lg.Message, 'encode', counted)
  filtered(lg.sequences(3, STEPS), 4)
  assert shapes == [(3, STEPS, lg.SIZE)]


def test_terms_are_means_over_particles():
  model, variables, x = under_a_flow('context')
  nested = {**variables, 'noise': {'base': {'latent': jnp.array([0.4, -1.1])}}}
  found = filtered(x, 2, model=model, variables=nested, first=4).terms
  expected = constructors.apply(model, nested, x)
  for name in ('log_likelihood', 'kl', 'log_det'):
    terms = np.asarray(getattr(found, name))
    np.testing.assert_array_equal(terms[:, :2], 0.0)
    later = getattr(expected, name)[:, 4:]
    np.testing.assert_allclose(terms[:, 2:], later, rtol=1e-4, atol=1e-4)
  np.testing.assert_array_equal(found.scored[0], [False] * 2 + [True] * 4)


# ---- resampling ----------------------------------------------------------------------------------


@pytest.mark.parametrize('seed', range(3))
def test_systematic_resampling(seed):
  """floor(K w) or ceil(K w) children each, and K w on average."""
  count, draws = 7, 4000
  log_weights = 1.5 * jax.random.normal(jax.random.key(seed), (count,))
  expected = count * np.asarray(jax.nn.softmax(log_weights), np.float64)
  keys = jax.random.split(jax.random.key(seed + 10), draws)
  ancestors = jax.vmap(fivo.systematic_ancestors, in_axes=(0, None))(keys, log_weights)
  assert ancestors.min() >= 0
  assert ancestors.max() < count
  counts = np.stack([np.bincount(row, minlength=count) for row in np.asarray(ancestors)])
  assert np.all(counts >= np.floor(expected - 1e-5))
  assert np.all(counts <= np.ceil(expected + 1e-5))
  fraction = expected % 1
  error = np.sqrt(fraction * (1 - fraction) / draws)
  assert np.all(np.abs(counts.mean(axis=0) - expected) < 4.5 * error + 1e-3)


def test_a_particle_without_weight_has_no_children():
  log_weights = jnp.array([-jnp.inf, 0.0, -1000.0, 0.0])
  for seed in range(20):
    ancestors = fivo.systematic_ancestors(jax.random.key(seed), log_weights)
    np.testing.assert_array_equal(ancestors, [1, 1, 3, 3])


def test_effective_size():
  weights = np.array([[0.7, 1.0, 0.25], [0.2, 0.0, 0.25], [0.05, 0.0, 0.25], [0.05, 0.0, 0.25]])
  with np.errstate(divide='ignore'):
    found = fivo.effective_size(jnp.array(np.log(weights) + 3.0))
  np.testing.assert_allclose(found, 1 / (weights**2).sum(axis=0), rtol=1e-5)
  np.testing.assert_allclose(found[1:], [1.0, 4.0], rtol=1e-5)


def test_resampling_takes_the_whole_state_along():
  log_weights = jnp.log(jnp.array([[1.0, 1.0], [1e-30, 1.0], [1e-30, 1.0]]))
  state = {'a': jnp.arange(6.0).reshape(3, 2), 'b': jnp.arange(12).reshape(3, 2, 2)}
  due = jnp.array([True, False])
  found = fivo._resample(jax.random.key(0), state, log_weights, due)
  np.testing.assert_array_equal(found['a'], [[0, 1], [0, 3], [0, 5]])
  np.testing.assert_array_equal(found['b'][:, 0], [[0, 1]] * 3)
  np.testing.assert_array_equal(found['b'][:, 1], state['b'][:, 1])


@pytest.mark.parametrize('flow', [False, True])
def test_given_steps_weigh_nothing_in_any_bound(flow):
  """With one particle the bound is that of one sample, on the same noise, of the same steps."""
  model = constructors.srnn(given=2)
  if flow:
    model = constructors.flows(1, constructors.dense(), base=model)
  x = constructors.data(model, steps=7)
  mask = jnp.ones(x.shape[:2], bool).at[0, 5:].set(False)
  variables = constructors.randomized(model, x)
  # Noise of one step, and the same for all.
  given = {**variables, **constructors.given_noise(model, 0.4)}
  filtered = fivo.ParticleFilter(model, 1)(given, x, mask, jax.random.key(0))
  expected = constructors.apply(model, given, x, mask)
  np.testing.assert_array_equal(filtered.terms.scored[:, -5:], expected.scored[:, -5:])
  np.testing.assert_allclose(filtered.bound, expected.log_weight.sum(axis=1), rtol=1e-4)
