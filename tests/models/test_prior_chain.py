"""Priors that are conditioned on draws of their own: a bound, but of another model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afslvm import build_models, building
from afslvm.errors import ConfigError
from afslvm.inference.base import Inference
from afslvm.inference.iterative import Iterative
from afslvm.models.state_space import StateSpaceModel
from afslvm.objectives import bounds
from afslvm.objectives.objective import Carried, ObjectiveSettings, make_loss
from tests import constructors, oracles
from tests import linear_gaussian as lg

KEY = jax.random.key(0)
STEPS, DRAWS = 6, 4000
CHAIN = {'prior_conditioning': 'prior_chain'}
POSTERIORS = {
  'best for each step': {},
  'moved and too narrow': {'shift': 0.3, 'log_stretch': -0.4},
  'sees the future': {'future': True},
}


def linear(**message):
  return lg.make(**message).copy(**CHAIN)


def noise_for(x, size=lg.SIZE):
  names = ('latent', 'chain')
  keys = jax.random.split(KEY, len(names))
  return {n: jax.random.normal(k, (*x.shape[:2], size)) for n, k in zip(names, keys, strict=True)}


def mean_and_error(values):
  values = np.asarray(values, np.float64)
  return values.mean(), values.std(ddof=1) / np.sqrt(len(values))


# ---- the bound -----------------------------------------------------------------------------------


@pytest.mark.parametrize('name', POSTERIORS)
def test_the_bound_is_as_in_closed_form(name):
  sequence = lg.sequences(1, STEPS)[0]
  x = jnp.broadcast_to(jnp.array(sequence, jnp.float32), (DRAWS, STEPS, lg.SIZE))
  terms = constructors.apply(linear(**POSTERIORS[name]), {}, x, rngs={'sample': KEY})
  posterior = oracles.affine_posterior(sequence, lg.PARAMETERS, **POSTERIORS[name])
  expected = oracles.prior_chain_elbo(sequence, lg.PARAMETERS, posterior)
  for values in (terms.elbo, terms.log_weight):
    mean, error = mean_and_error(values.sum(axis=1))
    assert abs(mean - expected) < 4.5 * error
  # The bound of the stated model is another number.
  assert abs(expected - oracles.affine_elbo(sequence, lg.PARAMETERS, posterior)[0]) > 9 * error


def test_every_step_is_predicted_from_the_chain():
  """log_weight of the best posterior is log p(x_t | c_{t-1}), where noise decides c by hand."""
  x = jnp.array(lg.sequences(3, STEPS), jnp.float32)
  noise = noise_for(x)
  terms = linear().apply({'noise': noise}, x)
  transition, emission, spread, observed, first = lg.PARAMETERS
  mean = np.zeros((3, lg.SIZE))
  for t in range(STEPS):
    scale = spread if t else first
    np.testing.assert_allclose(terms.latents.prior.loc[:, t], mean, rtol=1e-4, atol=1e-5)
    variance = (emission * scale) ** 2 + observed**2
    error = np.asarray(x[:, t]) - emission * mean
    expected = -0.5 * np.sum(error**2 / variance + np.log(2 * np.pi * variance), axis=-1)
    np.testing.assert_allclose(terms.log_weight[:, t], expected, rtol=1e-4, atol=1e-4)
    mean = transition * (mean + scale * np.asarray(noise['chain'][:, t], np.float64))


def test_it_cannot_reach_the_likelihood_of_correlated_latents():
  """No posterior gets above steps apart from each other, which say less than all together.

  The posterior of the stated model that smooths does reach it, on the same sequences.
  """
  x = lg.sequences(400, STEPS, seed=1)
  exact = np.array([oracles.kalman_log_likelihood(row, *lg.PARAMETERS) for row in x])
  apart = np.array([oracles.apart_log_likelihood(row, *lg.PARAMETERS) for row in x])
  lost, error = mean_and_error(exact - apart)
  assert lost > 9 * error
  for options in POSTERIORS.values():
    model, given = linear(**options), jnp.array(x, jnp.float32)
    found = constructors.apply(model, {}, given, rngs={'sample': KEY}).elbo.sum(axis=1)
    gap, error = mean_and_error(apart - np.asarray(found))
    assert gap > 4.5 * error
  stated = lg.make(future=True).apply({}, given, rngs={'sample': KEY}).log_weight.sum(axis=1)
  np.testing.assert_allclose(stated, exact, rtol=1e-4, atol=1e-4)


def test_without_correlation_it_reaches_it(monkeypatch):
  monkeypatch.setattr(lg, 'TRANSITION', (0.0, 0.0))
  x = lg.sequences(3, STEPS)
  parameters = (np.zeros(lg.SIZE), *lg.PARAMETERS[1:])
  exact = [oracles.kalman_log_likelihood(row, *parameters) for row in x]
  terms = linear().apply({}, jnp.array(x, jnp.float32), rngs={'sample': KEY})
  np.testing.assert_allclose(terms.log_weight.sum(axis=1), exact, rtol=1e-5)


class Beside(Inference):
  """p(c_t | c_{t-1}) for the first half of a latent variable, and a posterior for the second."""

  inner: Inference | None = None

  def encode(self, evidence, mask):
    return self.inner.encode(evidence, mask)

  def initial_state(self, batch_size):
    return self.inner.initial_state(batch_size)

  def infer(self, state, encoded, history, prior, free_energy=None):
    half = prior.loc.shape[-1] // 2
    chain, own = (
      jax.tree.map(lambda v, s=s: v[:, s], prior) for s in (slice(half), slice(half, None))
    )
    found = self.inner.infer(state, encoded, history, own)
    return found._replace(posterior=joined(chain, found.posterior))


class Sibling(StateSpaceModel):
  """The model whose plain elbo it is: a hidden chain c_t, and z_t given c_{t-1}; latents (c, z).

  c_t ~ p(c_t | c_<t, x_<t) and z_t ~ p(z_t | c_<t, x_<t) by the one prior; x_t is of z alone.
  """

  base: StateSpaceModel

  def initial(self, batch_size):
    return (self.base.initial(batch_size),) * 2

  def initial_memory(self, batch_size):
    return self.base.initial_memory(batch_size)

  def observe(self, memory, x, mask):
    return self.base.observe(memory, x, mask)

  def evidence(self, seen):
    return self.base.evidence(seen)

  def history(self, state):
    return self.base.history(state[1])

  def prior(self, state, seen_t):
    each = self.base.prior(state[0], seen_t)
    return joined(each, each)

  def emission(self, state, z_t, seen_t, mask_t):
    return self.base.emission(state[1], halves(z_t)[1], seen_t, mask_t)

  def transition(self, state, z_t, seen_t):
    pairs = zip(state, halves(z_t), strict=True)
    return tuple(self.base.transition(s, z, seen_t) for s, z in pairs)


def halves(z):
  return jnp.split(z, 2, axis=-1)


def joined(one, other):
  return jax.tree.map(lambda a, b: jnp.concatenate([a, b], axis=-1), one, other)


@pytest.mark.parametrize('name', ['linear', 'srnn prior chain', 'vrnn'])
def test_it_is_the_elbo_of_a_sibling(name):
  """Term by term: KL(q(c) || p(c)) is 0, and what is left is the divergence from the chain."""
  model = lg.make(shift=0.2) if name == 'linear' else constructors.MODELS[name]()
  x = constructors.data(model, steps=4)
  variables = {} if name == 'linear' else constructors.randomized(model, x, scale=0.5)
  noise = noise_for(x)
  found = constructors.apply(model.copy(**CHAIN), {**variables, 'noise': noise}, x)
  sibling = Sibling(
    model.event_shape,
    latent_shape=(2 * model.latent_size,),
    likelihood=model.likelihood.clone(),
    inference=Beside(2 * model.latent_size, inner=model.inference.clone()),
    base=model.copy(prior_conditioning='posterior'),
  )
  params = variables.get('params', {})
  if params:
    params = {
      'base': params,
      'likelihood': params['likelihood'],
      'inference': {'inner': params['inference']},
    }
  both = jnp.concatenate([noise['chain'], noise['latent']], axis=-1)
  expected = constructors.apply(sibling, {'params': params, 'noise': {'latent': both}}, x)
  assert sibling.bound == 'elbo'
  for term in ('log_likelihood', 'kl', 'elbo'):
    np.testing.assert_allclose(getattr(found, term), getattr(expected, term), rtol=1e-4, atol=1e-5)
  stated = constructors.apply(sibling.base, {**variables, 'noise': noise}, x)
  assert np.all(np.abs(found.kl - stated.kl).max(axis=0)[1:] > 1e-3)


# ---- what the chain decides, and what it doesn't -------------------------------------------------


def test_the_prior_alone_sees_the_chain():
  """Draws and reconstruction are those of the stated model; so is the first divergence."""
  model = constructors.MODELS['srnn prior chain']()
  x = constructors.data(model, steps=5)
  variables = {**constructors.randomized(model, x, scale=0.5), 'noise': noise_for(x)}
  found = constructors.apply(model, variables, x)
  stated = constructors.apply(model.copy(prior_conditioning='posterior'), variables, x)
  np.testing.assert_array_equal(found.latents.z, stated.latents.z)
  np.testing.assert_array_equal(found.log_likelihood, stated.log_likelihood)
  np.testing.assert_array_equal(found.kl[:, 0], stated.kl[:, 0])
  assert np.all(np.asarray(found.kl != stated.kl)[:, 1:])
  moved = {**variables, 'noise': {**variables['noise'], 'chain': noise_for(x)['chain'] + 1.0}}
  again = constructors.apply(model.copy(prior_conditioning='posterior'), moved, x)
  jax.tree.map(np.testing.assert_array_equal, again, stated)


def test_a_posterior_that_is_the_prior_has_the_same_chain():
  x = jnp.array(lg.sequences(3, STEPS), jnp.float32)
  noise = noise_for(x)
  same = {'noise': {**noise, 'chain': noise['latent']}}
  found = linear(blind=True).apply(same, x)
  stated = lg.make(blind=True).apply(same, x)
  np.testing.assert_allclose(found.elbo, stated.elbo, rtol=1e-5)


def test_inference_by_free_energies_sees_the_prior_of_the_divergence():
  """It begins there, and comes to the best posterior that the chain's prior has."""
  x = jnp.array(lg.sequences(50, STEPS), jnp.float32)
  unit = jnp.array([[1.0, 1.0], [-1.0, -1.0]])  # draws that make the quadratic F_t exact
  noise = {'noise': {**noise_for(x), 'free_energy': unit}}
  descent = {'update_rule': 'sgd', 'num_draws': 2, 'step_size': 0.1}
  begun = linear(inference=Iterative(2, num_iterations=0, **descent)).apply(noise, x)
  np.testing.assert_array_equal(begun.kl, 0.0)
  moved = linear(inference=Iterative(2, num_iterations=150, **descent))
  found, best = constructors.apply(moved, noise, x), linear().apply(noise, x)
  np.testing.assert_allclose(found.latents.posterior.loc, best.latents.posterior.loc, atol=2e-3)
  np.testing.assert_allclose(found.elbo, best.elbo, atol=5e-3)


def test_drawn_sequences_go_on_from_the_chain():
  """By hand: the mean path from c_t, which both states follow."""
  context = jnp.array(lg.sequences(2, 3), jnp.float32)
  given = {'noise': {'latent': jnp.array([0.4, 0.1]), 'chain': jnp.array([0.3, -0.8])}}
  drawn = linear().apply(given, context, 3, 0.0, method='generate', rngs={'sample': KEY})
  transition, emission, spread, _, first = lg.PARAMETERS
  c = np.zeros(2)
  for t in range(3):
    c = transition * c + (spread if t else first) * np.array([0.3, -0.8])
  expected = emission * transition ** np.arange(1, 4)[:, None] * c
  np.testing.assert_allclose(drawn, np.stack([expected] * 2), rtol=1e-4, atol=1e-6)


# ---- its name, and what it has not ---------------------------------------------------------------


def test_the_bound_says_what_it_is():
  model, x = linear(), jnp.array(lg.sequences(2, 3), jnp.float32)
  for wrapped in (model, constructors.flows(1, constructors.dense(), base=model)):
    assert wrapped.bound == 'prior-chain-elbo'
  assert lg.make().bound == 'elbo'
  found = bounds.elbo(model, {}, x, KEY)
  assert str(found).startswith('prior-chain-elbo: ≤')
  spec = {'name': 'srnn', **CHAIN}
  assert build_models.label(spec) == 'SRNN + prior chain'
  flow = {'name': 'temporal_flow', 'base': spec}
  assert build_models.label(flow) == 'SRNN + prior chain + 1-AF'
  assert build_models.label({**spec, 'prior_conditioning': 'posterior'}) == 'SRNN'


@pytest.mark.parametrize('weigh', [bounds.iwae, bounds.fivo])
def test_bounds_of_weights_are_refused(weigh):
  x = jnp.array(lg.sequences(2, 3), jnp.float32)
  with pytest.raises(ConfigError, match="needs model.prior_conditioning='posterior'"):
    weigh(linear(), {}, x, KEY)


@pytest.mark.parametrize('settings', [{'gradients': 'em'}, {'overshooting': 2}])
def test_other_objectives_are_refused(settings):
  x = jnp.array(lg.sequences(2, 3), jnp.float32)
  loss = make_loss(ObjectiveSettings(**settings), linear(), 'none')
  with pytest.raises(ConfigError, match="needs model.prior_conditioning='posterior'"):
    loss({}, Carried({}), {'x': x, 'mask': jnp.ones((2, 3), bool)}, KEY, 0)


@pytest.mark.parametrize(
  ('config', 'values', 'expected'),
  [
    ('smoke:srnn', {'model.prior_conditioning': 'chain'}, 'did you mean'),
    ('smoke:svg', {}, "'prior_chain': this model's prior sees observations alone"),
    ('smoke:srnn', {'model.inference.residual': True}, 'use residual=False'),
    (
      'smoke:srnn',
      {'objective.gradients': 'em'},
      'objective.gradients=em needs model.prior_conditioning',
    ),
    (
      'smoke:srnn',
      {'objective.overshooting': 2},
      'objective.overshooting=2 needs model.prior_conditioning',
    ),
    (
      'smoke:srnn',
      {'objective.bound': 'fivo', 'objective.num_samples': 2},
      'objective.bound=fivo needs model.prior_conditioning',
    ),
  ],
)
def test_configs_that_make_no_sense_are_refused(config, values, expected):
  with pytest.raises(ConfigError) as error:
    building.build(config, {'model.prior_conditioning': 'prior_chain', **values})
  assert expected in str(error.value)
  assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize('config', ['smoke:srnn', 'smoke:vrnn', 'smoke:slvm', 'smoke:slvm_avf1'])
def test_a_config_may_ask_for_it(config):
  values = {'model.prior_conditioning': 'prior_chain'}
  assert building.build(config, values).model.bound == 'prior-chain-elbo'
