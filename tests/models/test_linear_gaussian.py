"""Bounds on a linear-Gaussian state space model, where the Kalman filter knows the answer."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import linear_gaussian as lg
from tests import oracles

STEPS, DRAWS = 7, 4000
POSTERIORS = {
  'smoothing': {'future': True},
  'smoothing, too wide': {'future': True, 'log_stretch': 0.3},
  'smoothing, moved': {'future': True, 'shift': 0.2},
  'filtering': {},
  'filtering, too wide': {'log_stretch': 0.3},
  'filtering, too narrow': {'log_stretch': -0.6},
  'filtering, moved': {'shift': 0.3},
}
every_posterior = pytest.mark.parametrize('name', POSTERIORS)


@functools.cache
def sequence():
  return lg.sequences(1, STEPS)[0]


@functools.cache
def draws(name):
  """Terms of many draws for one sequence."""
  x = jnp.broadcast_to(jnp.array(sequence(), jnp.float32), (DRAWS, STEPS, lg.SIZE))
  model = lg.make(**POSTERIORS[name])
  return jax.jit(lambda x: model.apply({}, x, rngs={'sample': jax.random.key(0)}))(x)


def exact():
  return oracles.kalman_log_likelihood(sequence(), *lg.PARAMETERS)


def closed_form(name):
  posterior = oracles.affine_posterior(sequence(), lg.PARAMETERS, **POSTERIORS[name])
  return oracles.affine_elbo(sequence(), lg.PARAMETERS, posterior)


def within_errors(values, expected, errors=4.5):
  values = np.asarray(values, np.float64)
  error = values.std(ddof=1) / np.sqrt(len(values))
  assert abs(values.mean() - expected) < errors * error + 1e-4, (values.mean(), expected, error)


# ---- the oracles themselves ----------------------------------------------------------------------


@pytest.mark.parametrize('seed', range(3))
def test_two_ways_to_the_likelihood_agree(seed):
  x = lg.sequences(1, 9, seed)[0]
  kalman = oracles.kalman_log_likelihood(x, *lg.PARAMETERS)
  np.testing.assert_allclose(kalman, oracles.dense_log_likelihood(x, *lg.PARAMETERS), rtol=1e-10)


def test_closed_form_bound_of_the_smoothing_posterior_is_the_likelihood():
  np.testing.assert_allclose(closed_form('smoothing')[0], exact(), rtol=1e-10)


# ---- the model -----------------------------------------------------------------------------------


def test_elbo_equals_log_likelihood_at_the_smoothing_posterior():
  """Every single draw has the same weight; the bound with the closed-form divergence agrees."""
  terms = draws('smoothing')
  np.testing.assert_allclose(terms.log_weight.sum(axis=1), exact(), rtol=1e-5)
  within_errors(terms.elbo.sum(axis=1), exact())
  assert float(terms.elbo.sum(axis=1).std()) > 0.1


@every_posterior
def test_bounds_are_as_in_closed_form(name):
  """Both forms of the per-draw bound have the expectation that moments give."""
  terms, (expected, _) = draws(name), closed_form(name)
  within_errors(terms.elbo.sum(axis=1), expected)
  within_errors(terms.log_weight.sum(axis=1), expected)
  within_errors(jnp.sum(terms.latents.log_ratio - terms.kl, axis=1), 0.0)


@pytest.mark.parametrize('name', [name for name in POSTERIORS if name != 'smoothing'])
def test_elbo_is_below_the_log_likelihood_elsewhere(name):
  values = np.asarray(draws(name).elbo.sum(axis=1), np.float64)
  assert values.mean() + 4.5 * values.std() / np.sqrt(DRAWS) < exact()


def test_bound_of_the_filtering_posterior():
  """Its bound is Σ E[log p(x_t | z_{t-1})], and each step's weight is that density, at any draw."""
  terms, (bound, predictive) = draws('filtering'), closed_form('filtering')
  np.testing.assert_allclose(bound, predictive, rtol=1e-10)
  transition, emission, noise, observed, first = lg.PARAMETERS
  z = np.asarray(terms.latents.z, np.float64)
  before = np.concatenate([np.zeros_like(z[:, :1]), z[:, :-1]], axis=1)
  spread = np.where(np.arange(STEPS)[:, None] == 0, first, noise)
  variance = (emission * spread) ** 2 + observed**2
  error = sequence() - emission * transition * before
  expected = -0.5 * np.sum(error**2 / variance + np.log(2 * np.pi * variance), axis=-1)
  np.testing.assert_allclose(terms.log_weight, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
  'wrong', [{'log_stretch': 0.1}, {'log_stretch': -0.1}, {'shift': 0.1}, {'shift': -0.1}]
)
def test_the_filtering_posterior_is_best_for_each_step_given_the_past(wrong):
  """E_q[log p(x_t, z_t | z_{t-1}) - log q] is log p(x_t | z_{t-1}) there, and less elsewhere."""
  x = jnp.array(lg.sequences(200, 1), jnp.float32)
  values = {}
  for name, options in (('exact', {}), ('wrong', wrong)):
    closed = [
      oracles.affine_elbo(
        row, lg.PARAMETERS, oracles.affine_posterior(row, lg.PARAMETERS, **options)
      )[0]
      for row in np.asarray(x, np.float64)
    ]
    model = lg.make(**options)
    terms = model.apply({}, x, rngs={'sample': jax.random.key(1)})
    within_errors(terms.elbo[:, 0] - np.array(closed), 0.0)
    values[name] = np.array(closed)
  assert np.all(values['wrong'] < values['exact'] - 1e-3)


def test_later_steps_can_gain_from_a_narrower_filtering_posterior():
  """p(z_t | z_{t-1}, x_t) is best step by step, not for the sum over steps.

  The bound of the sum is the log-likelihood less the divergence from the smoothing posteriors,
  which are narrower. So Σ E[log p(x_t | z_{t-1})] is not the greatest value of filtering; nothing
  of the kind reaches the log-likelihood, though.
  """
  bounds = {}
  for log_stretch in (-0.4, -0.02, 0.0, 0.02):
    each = []
    for x in lg.sequences(300, STEPS, seed=3):
      posterior = oracles.affine_posterior(x, lg.PARAMETERS, log_stretch=log_stretch)
      gap = oracles.kalman_log_likelihood(x, *lg.PARAMETERS)
      each.append(oracles.affine_elbo(x, lg.PARAMETERS, posterior)[0] - gap)
    bounds[log_stretch] = np.mean(each)
  assert bounds[-0.02] > bounds[0.0] > bounds[0.02]
  assert bounds[-0.4] < bounds[0.0] < 0
  assert bounds[-0.02] < 0


def test_a_blind_posterior_is_the_prior():
  x = jnp.array(lg.sequences(5, 4), jnp.float32)
  terms = lg.make(blind=True).apply({}, x, rngs={'sample': jax.random.key(0)})
  np.testing.assert_allclose(terms.kl, 0.0, atol=1e-6)
  np.testing.assert_allclose(terms.log_weight, terms.log_likelihood, atol=1e-5)


def test_draws_past_the_end_of_a_sequence_do_not_count():
  x = lg.sequences(1, STEPS)[0][:, None].swapaxes(0, 1)
  padded = np.concatenate([x, np.full((1, 2, lg.SIZE), np.nan)], axis=1)
  mask = jnp.arange(STEPS + 2)[None] < STEPS
  terms = lg.make(future=True).apply(
    {}, jnp.array(padded, jnp.float32), mask, rngs={'sample': jax.random.key(0)}
  )
  np.testing.assert_allclose(terms.log_weight.sum(), exact(), rtol=1e-5)
  np.testing.assert_array_equal(terms.scored, mask)


# ---- generation ----------------------------------------------------------------------------------


def context_and_latent(draws_of_it):
  """A context whose last z is known, for its noise is given."""
  x = jnp.array(lg.sequences(1, 4, seed=5), jnp.float32)
  noise = {'noise': {'latent': jnp.array([0.3, -0.8])}}
  z = lg.make().apply(noise, x).latents.z[0, -1]
  return jnp.repeat(x, draws_of_it, axis=0), noise, np.asarray(z, np.float64)


def test_the_mean_path_continues_from_the_filtered_state():
  context, noise, z = context_and_latent(1)
  drawn = lg.make().apply(
    noise, context, 5, 0.0, method='generate', rngs={'sample': jax.random.key(0)}
  )
  transition, emission = lg.PARAMETERS[:2]
  expected = emission * transition ** np.arange(1, 6)[:, None] * z
  np.testing.assert_allclose(drawn[0], expected, rtol=1e-4, atol=1e-6)


def test_continuations_have_the_moments_of_the_predictive_distribution():
  """Those of p(x_{t+1:t+k} | z_t), by hand: a mean path, and a covariance that grows."""
  context, noise, z = context_and_latent(DRAWS)
  drawn = jax.jit(
    lambda x: lg.make().apply(noise, x, 3, method='generate', rngs={'sample': jax.random.key(0)})
  )(context)
  transition, emission, q, observed, _ = lg.PARAMETERS
  steps = np.arange(1, 4)[:, None]
  mean = emission * transition**steps * z
  variance = observed**2 + (emission * q) ** 2 * np.cumsum(transition ** (2 * (steps - 1)), axis=0)
  error = np.sqrt(variance / DRAWS)
  assert np.all(np.abs(drawn.mean(axis=0) - mean) < 4.5 * error)
  assert np.all(np.abs(drawn.var(axis=0) / variance - 1) < 4.5 * np.sqrt(2 / DRAWS))
  joint = np.mean((drawn[:, 0] - mean[0]) * (drawn[:, 1] - mean[1]), axis=0)
  np.testing.assert_allclose(joint, (emission * q) ** 2 * transition, atol=0.08)
