"""Variational EM: two objectives with a group of parameters each, per batch and online."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from afslvm.distributions.normal import Normal
from afslvm.inference.base import Inference, Inferred
from afslvm.objectives import variational_em
from afslvm.objectives.variational_em import OnlineUpdates
from tests import constructors
from tests import linear_gaussian as lg
from tests.thorough import some_of

KEY = jax.random.key(0)
NAMES = ['srnn', 'srnn avf from residual', 'conv srnn avf', 'slvm dcgan batch avf', 'svg vgg avf']
FAST = NAMES[1:3]


class Shifted(Inference):
  """The exact posterior, moved by a parameter: one of each step, or one for all of them."""

  steps: int = 4

  def setup(self):
    self.shift = self.param('shift', jax.nn.initializers.constant(0.1), (self.steps, 2))

  def initial_state(self, batch_size):
    return jnp.zeros((batch_size, 1), jnp.int32)

  def infer(self, state, encoded, history, prior, free_energy=None):
    emission, observed = jnp.array(lg.EMISSION), jnp.array(lg.OBSERVED)
    before = jnp.exp(-2 * prior.log_scale)
    precision = before + jnp.square(emission / observed)
    loc = (prior.loc * before + encoded * emission / observed**2) / precision
    now = jax.nn.one_hot(jnp.minimum(state[:, 0], self.steps - 1), self.steps) @ self.shift
    return Inferred(state + 1, Normal(loc + now, -0.5 * jnp.log(precision)))


def precisions():
  """Returns the precisions of p(z_t | z_{t-1}, x_t), for each of four steps."""
  scale = np.array([lg.FIRST, lg.NOISE, lg.NOISE, lg.NOISE])
  return scale**-2.0 + (np.array(lg.EMISSION) / np.array(lg.OBSERVED)) ** 2


NOISE = {
  'latent': jax.random.normal(KEY, (5, 4, 2)),
  'judged': jnp.zeros(2),  # F_t at the mean of q: c + ½ precision shift², exactly
}


def run(shift, function, **options):
  """A function of variational EM on sequences of the linear-Gaussian model."""
  x = jnp.array(lg.sequences(5, 4), jnp.float32)
  model = lg.make(Shifted(2, steps=len(shift)))
  variables = {'noise': NOISE, 'params': {'inference': {'shift': shift}}}
  return model.apply(variables, x, jnp.ones((5, 4), bool), method=function, **options)


def test_em_gradients_are_local():
  """Each step's objective knows its own inference parameters only; the bound knows none of them."""
  shift = jnp.full((4, 2), 0.1)
  local = jax.jacobian(lambda s: run(s, variational_em.em).free_energy.sum(axis=0))(shift)
  elsewhere = np.asarray(local).copy()  # [T, T, Z]
  elsewhere[np.arange(4), np.arange(4)] = 0.0
  np.testing.assert_array_equal(elsewhere, 0.0)
  own = np.asarray(local)[np.arange(4), np.arange(4)]
  np.testing.assert_allclose(own, 5 * precisions() * 0.1, rtol=1e-4)
  bound = jax.jacobian(lambda s: run(s, variational_em.em).terms.elbo.sum(axis=0))(shift)
  np.testing.assert_array_equal(bound, 0.0)
  through_time = jax.jacobian(lambda s: run(s, '__call__').elbo.sum(axis=0))(shift)
  assert np.all(np.asarray(through_time)[-1, :-1].any(axis=-1))
  np.testing.assert_allclose(
    run(shift, variational_em.em).terms.elbo, run(shift, '__call__').elbo, rtol=1e-6
  )


def made(name, steps=4):
  model = constructors.MODELS[name]()
  x = constructors.data(model, steps=steps)
  variables = {**constructors.randomized(model, x), **constructors.given_noise(model, 0.4)}
  return model, variables, x, jnp.ones(x.shape[:2], bool)


@functools.partial(jax.jit, static_argnums=(0, 4))
def em_of(model, variables, x, mask, function=variational_em.em):
  return model.apply(
    variables, x, mask, method=function, mutable=['batch_stats'], rngs={'sample': KEY}
  )[0]


@pytest.mark.parametrize('name', some_of(NAMES, FAST))
def test_each_objective_has_its_group_of_parameters(name):
  model, variables, x, mask = made(name)

  @functools.partial(jax.jit, static_argnums=1)
  def grads(params, part):
    def total(params):
      found = em_of(model, {**variables, 'params': params}, x, mask)
      return found.free_energy.sum() if part == 'local' else found.terms.elbo.sum()

    return jax.grad(total)(params)

  for part in ('local', 'elbo'):
    for path, leaf in jax.tree_util.tree_leaves_with_path(grads(variables['params'], part)):
      inference = "['inference']" in jax.tree_util.keystr(path)
      if inference != (part == 'local'):
        np.testing.assert_array_equal(leaf, 0.0, err_msg=f'{part} {path}')
      elif "['bias']" not in jax.tree_util.keystr(path):  # BatchNorm cancels some
        assert np.any(np.asarray(leaf) != 0), f'{part} {path}'


@pytest.mark.parametrize('name', some_of(NAMES, FAST))
def test_the_bound_is_that_of_the_filter(name):
  """The M-step scores given draws as the filter that drew them."""
  model, variables, x, mask = made(name)
  if 'batch' in name:
    variables = jax.tree.map(lambda v: v, variables)
    found = model.apply(variables, x, mask, method=variational_em.em, rngs={'sample': KEY})
  else:
    found = em_of(model, variables, x, mask)
  expected = constructors.apply(model, variables, x)
  for term in ('log_likelihood', 'kl', 'log_det'):
    np.testing.assert_allclose(
      getattr(found.terms, term), getattr(expected, term), rtol=1e-4, atol=1e-4
    )


def test_the_noise_that_judges_moves_no_posterior():
  """Another one moves both: the posterior is never judged by noise that it has seen."""
  model, variables, x, mask = made('srnn avf from residual')

  def moved(name):
    noise = {**variables['noise'], name: variables['noise'][name] + 1.0}
    return em_of(model, {**variables, 'noise': noise}, x, mask)

  before, judged, seen = em_of(model, variables, x, mask), moved('judged'), moved('free_energy')
  q, p = (found.terms.latents.posterior.loc for found in (before, judged))
  np.testing.assert_array_equal(q, p)
  assert np.all(np.asarray(judged.free_energy != before.free_energy))
  assert np.all(np.asarray(seen.terms.latents.posterior.loc != q))


def test_flows_around_the_model_and_given_steps_are_left_out():
  """F_t is that of the steps that are scored."""
  model, variables, x, mask = made('flow around conv srnn avf from residual', 6)
  mask = mask.at[0, 4:].set(False)
  found = em_of(model, variables, x, mask)
  scored = np.asarray(found.terms.scored)
  np.testing.assert_array_equal(scored, (np.arange(6) >= model.min_context) & np.asarray(mask))
  assert np.all((np.asarray(found.free_energy) != 0) == scored)


# ---- online --------------------------------------------------------------------------------------


def online(params, rate, optimizer=None, **options):
  optimizer = optimizer or optax.identity()
  updates = OnlineUpdates(optimizer, optimizer.init(params), jnp.float32(rate))
  return {'updates': updates, **options}


def test_online_updates_by_hand():
  """One parameter, by hand: s moves by its slope in a step before the next one sees it.

  The slope of F_t is precision_t s.
  """
  shift, rate = jnp.full((1, 2), 0.1), 0.05
  found = run(shift, variational_em.em_online, **online({'shift': shift}, rate))
  exact = run(jnp.zeros((1, 2)), variational_em.em)  # whose draws differ, so compare first moments
  s, values = np.full(2, 0.1), []
  for precision in precisions():
    values.append(s)
    s = s - rate * precision * s
  np.testing.assert_allclose(found.inference['shift'][0], s, rtol=1e-4)
  # In every step q is the exact posterior given z_{t-1}, moved by the parameter of that moment.
  posterior, prior = found.terms.latents.posterior, found.terms.latents.prior
  x = np.array(lg.sequences(5, 4), np.float32)
  emission, observed = np.array(lg.EMISSION), np.array(lg.OBSERVED)
  before = np.exp(-2 * np.asarray(prior.log_scale))
  loc = (prior.loc * before + x * emission / observed**2) / precisions()
  np.testing.assert_allclose(posterior.loc - loc, np.broadcast_to(values, loc.shape), atol=1e-5)
  assert exact.inference is None


@pytest.mark.parametrize('name', some_of(NAMES, FAST))
def test_with_rate_zero_inference_never_moves(name):
  """And what the generative model is trained by is that of `em`."""
  model, variables, x, mask = made(name)
  params = variables['params']['inference']
  function = functools.partial(
    variational_em.em_online, **online(params, 0.0, optax.scale_by_adam())
  )
  found, expected = em_of(model, variables, x, mask, function), em_of(model, variables, x, mask)
  jax.tree.map(np.testing.assert_array_equal, found.inference, params)
  np.testing.assert_allclose(found.terms.elbo, expected.terms.elbo, rtol=1e-4, atol=1e-4)
  if 'batch' not in name:  # whose statistics are those of a step here, and of all steps in `em`
    np.testing.assert_allclose(found.free_energy, expected.free_energy, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('name', some_of(NAMES, FAST))
def test_with_one_step_per_sequence_online_is_em(name):
  """They have the same gradient, and so take the same step of Adam."""
  model, variables, x, mask = made(name, steps=1)
  params, optimizer, rate = variables['params']['inference'], optax.scale_by_adam(), 1e-2
  function = functools.partial(variational_em.em_online, **online(params, rate, optimizer))
  found = em_of(model, variables, x, mask, function)

  def local(params):
    given = {**variables, 'params': {**variables['params'], 'inference': params}}
    return em_of(model, given, x, mask).free_energy.mean()

  grads = jax.grad(local)(params)
  directions, state = optimizer.update(grads, optimizer.init(params))
  expected = jax.tree.map(lambda p, d: p - rate * d, params, directions)
  moments = [state.mu, found.optimizer.mu]
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6), *moments)
  large = jax.tree.map(lambda g: np.abs(g) > 1e-5, grads)  # Adam's step of the others is noise

  def assert_same(a, b, where):
    np.testing.assert_allclose(np.asarray(a)[where], np.asarray(b)[where], rtol=1e-3, atol=1e-4)

  jax.tree.map(assert_same, found.inference, expected, large)


def test_steps_that_nobody_is_scored_at_move_nothing():
  """Neither padding that all sequences have reached, nor steps that are given."""
  model, variables, x, mask = made('srnn avf from residual')
  params = variables['params']['inference']

  def moved(mask, first=0):
    options = online(params, 1e-2, optax.scale_by_adam(), first=first)
    found = em_of(model, variables, x, mask, functools.partial(variational_em.em_online, **options))
    return int(found.optimizer.count)

  assert moved(mask) == 4
  assert moved(mask, first=1) == 3
  assert moved(mask.at[:, 2:].set(False)) == 2


def test_dropout_of_the_inference_is_another_one_at_every_step():
  """Where all steps of a sequence are the same, its posteriors differ by dropout alone."""
  model = constructors.srnn(inference=constructors.direct(dropout=0.5, activation='tanh'))
  x = jnp.broadcast_to(constructors.data(model, steps=1), (3, 6, 3))
  variables = constructors.randomized(model, x)
  zeros = jax.tree.map(jnp.zeros_like, variables['params']['recurrence'])  # h is always the same
  params = {**variables['params'], 'recurrence': zeros}
  given = {'params': params, **constructors.given_noise(model, 0.0)}
  options = online(params['inference'], 0.0)
  rngs = {'sample': KEY, 'dropout': jax.random.key(1)}

  def run(module, x, mask):
    return variational_em.em_online(module, x, mask, **options)

  mask = jnp.ones(x.shape[:2], bool)
  posterior = model.apply(given, x, mask, method=run, rngs=rngs).terms.latents.posterior.loc
  steps = {tuple(np.asarray(posterior[:, t]).ravel().round(6)) for t in range(6)}
  assert len(steps) == 6


@pytest.mark.parametrize('inference', ['smoothing', 'without parameters'])
def test_online_updates_need_something_to_move(inference):
  own = constructors.avf(update_rule='sgd')
  if inference == 'smoothing':
    own = constructors.MODELS['srnn smoothing']().inference.copy()
  model = constructors.srnn(inference=own)
  x = constructors.data(model, steps=3)
  variables = {**constructors.randomized(model, x), **constructors.given_noise(model, 0.4)}
  with pytest.raises(ValueError, match='this one smooths, or has none'):
    model.apply(
      variables,
      x,
      jnp.ones(x.shape[:2], bool),
      method=variational_em.em_online,
      **online(variables['params'].get('inference', {}), 0.1),
    )
