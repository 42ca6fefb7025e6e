"""Priors of z: the first step, and temporal flows on z (AF paper Eq. 15)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afslvm.models import priors
from afslvm.models.base import SequenceModel, StepTerms
from afslvm.models.temporal_flow import TemporalFlow
from tests import constructors

STEPS = 6


class AsModel(SequenceModel):
  """A prior of z as a sequence model of z."""

  prior: priors.LatentPrior

  def initial_state(self, batch_size):
    return self.prior.initial_state(batch_size)

  def step(self, state, x_t, mask_t=None):
    log_prob = self.prior.distribution(state).log_prob(x_t).sum(axis=-1)
    zeros = jnp.zeros_like(log_prob)
    return self.prior.advance(state, x_t), StepTerms(log_prob, zeros, zeros, zeros == 0)

  def predict(self, state, temperature=1.0, limit=None):
    normal = self.prior.distribution(state)
    z_t = normal.sample(jax.random.normal(self.make_rng('sample'), normal.loc.shape), temperature)
    return self.prior.advance(state, z_t), z_t


def as_model(prior, scale=0.4):
  model = AsModel((constructors.LATENT,), prior=prior)
  z = jax.random.normal(jax.random.key(1), (3, STEPS, constructors.LATENT))
  return model, constructors.randomized(model, z, scale=scale), z


@pytest.fixture(scope='module')
def two_forms():
  """A prior with a flow in it, and a temporal flow around the prior inside, same parameters."""
  model, variables, z = as_model(constructors.flow_prior())
  own = variables['params']['prior']
  inner = AsModel(model.event_shape, prior=model.prior.base)
  other = TemporalFlow(model.event_shape, base=inner, flow=model.prior.flow)
  same = {'params': {'base': {'prior': own['base']}, 'flow': own['flow']}}
  return (model, variables), (other, same), z


def test_a_flow_in_the_prior_is_a_flow_around_it(two_forms):
  (model, variables), (other, same), z = two_forms
  found, expected = constructors.apply(model, variables, z), constructors.apply(other, same, z)
  np.testing.assert_allclose(found.elbo, expected.elbo, rtol=1e-4, atol=1e-4)
  assert float(jnp.abs(expected.log_det).min()) > 1e-3


def test_draws_agree_for_the_same_noise(two_forms):
  """z_t = shift + scale u_t, with u_t of the inner prior."""
  (model, variables), (other, same), _ = two_forms
  noise = np.asarray(jax.random.normal(jax.random.key(4), (3, STEPS, constructors.LATENT)))

  def through_prior(model):
    state, drawn = model.initial_state(3), []
    for t in range(STEPS):
      z_t = model.prior.distribution(state).sample(noise[:, t])
      state = model.prior.advance(state, z_t)
      drawn.append(z_t)
    return jnp.stack(drawn, axis=1)

  def through_flow(model):
    state, drawn = model.initial_state(3), []
    for t in range(STEPS):
      shift, log_scale, _ = model.flow.step_parameters(state.past)
      u_t = model.base.prior.distribution(state.base).sample(noise[:, t])
      z_t = shift + jnp.exp(log_scale) * u_t
      inner = model.base.prior.advance(state.base, u_t)
      state = state._replace(past=model.flow.push(state.past, z_t), base=inner)
      drawn.append(z_t)
    return jnp.stack(drawn, axis=1)

  found = constructors.apply(model, variables, method=through_prior)
  np.testing.assert_allclose(
    found, constructors.apply(other, same, method=through_flow), rtol=1e-4, atol=1e-4
  )


def test_density_is_that_of_u_less_the_log_scales(two_forms):
  """By hand, from what the temporal flow shows."""
  (model, variables), (other, same), z = two_forms
  _, shown = other.apply(same, z, mutable=['visuals'])
  u = (np.asarray(z) - shown['visuals']['shift'][0]) / shown['visuals']['scale'][0]
  inner = AsModel(model.event_shape, prior=model.prior.base)
  of_u = constructors.apply(
    inner, {'params': {'prior': variables['params']['prior']['base']}}, jnp.array(u)
  )
  log_scales = np.log(shown['visuals']['scale'][0]).sum(axis=-1)
  found = constructors.apply(model, variables, z).elbo
  np.testing.assert_allclose(found, of_u.elbo - log_scales, rtol=1e-4, atol=1e-4)


def test_an_identity_flow_in_the_prior_changes_nothing():
  model, variables, z = as_model(constructors.flow_prior())
  params = variables['params']['prior']
  flat = {**params, 'flow': jax.tree.map(jnp.zeros_like, params['flow'])}
  found = constructors.apply(model, {'params': {'prior': flat}}, z)
  inner = AsModel(model.event_shape, prior=model.prior.base)
  expected = constructors.apply(inner, {'params': {'prior': params['base']}}, z)
  np.testing.assert_allclose(found.elbo, expected.elbo, rtol=1e-5)


def test_a_flow_in_the_prior_of_a_flow_in_the_prior():
  twice = constructors.flow_prior(constructors.flow_prior())
  model, variables, z = as_model(twice, scale=0.2)
  inner = AsModel(model.event_shape, prior=twice.base.base)
  middle = TemporalFlow(model.event_shape, base=inner, flow=twice.base.flow)
  outer = TemporalFlow(model.event_shape, base=middle, flow=twice.flow)
  own = variables['params']['prior']
  middle_params = {'base': {'prior': own['base']['base']}, 'flow': own['base']['flow']}
  same = {'params': {'base': middle_params, 'flow': own['flow']}}
  found, expected = (
    constructors.apply(model, variables, z).elbo,
    constructors.apply(outer, same, z).elbo,
  )
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('first_step', priors.FIRST_STEPS)
def test_the_first_step(first_step):
  model, variables, z = as_model(constructors.lstm_prior(first_step=first_step))
  params = variables['params']['prior']

  def distributions(model, z):
    state = model.initial_state(3)
    first = model.prior.distribution(state)
    return first, model.prior.distribution(model.prior.advance(state, z[:, 0]))

  first, second = constructors.apply(model, variables, z, method=distributions)
  assert first.loc.shape == (3, constructors.LATENT)
  if first_step == 'standard':
    np.testing.assert_array_equal(first.loc, 0.0)
    np.testing.assert_array_equal(first.log_scale, 0.0)
  elif first_step == 'learned':
    np.testing.assert_array_equal(first.loc[0], params['first_loc'])
    np.testing.assert_array_equal(first.log_scale[0], params['first_log_scale'])
  else:
    # As if after z_0 = 0: the same network with its own first states.
    other = AsModel(model.event_shape, prior=constructors.lstm_prior(first_step='standard'))
    _, expected = constructors.apply(other, variables, jnp.zeros_like(z), method=distributions)
    np.testing.assert_allclose(first.loc, expected.loc, rtol=1e-5)
  assert float(second.loc.std(axis=0).min()) > 0
  grads = jax.grad(lambda p: model.apply({'params': p}, z).elbo.sum())(variables['params'])
  for path, leaf in jax.tree_util.tree_leaves_with_path(grads):
    assert np.any(np.asarray(leaf) != 0), jax.tree_util.keystr(path)


def test_log_scales_are_clipped():
  """At -15 and 5, as in the paper's code (for exploded weights)."""
  model, variables, z = as_model(constructors.lstm_prior(), scale=100.0)
  state = model.apply(variables, 3, method='initial_state')
  log_scale = np.asarray(state.prior.log_scale)
  assert set(log_scale.ravel()) <= {-15.0, 5.0}
