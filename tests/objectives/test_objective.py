"""Training objectives of a latent variable model, by config."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afslvm.errors import ConfigError
from afslvm.objectives import objective
from afslvm.objectives.objective import Carried, ObjectiveSettings
from tests import constructors

SETTINGS = {
  'elbo': ObjectiveSettings(free_nats=0.01, kl_balance=0.8),
  'iwae': ObjectiveSettings(bound='iwae', num_samples=3),
  'fivo': ObjectiveSettings(bound='fivo', num_samples=3, resample_threshold=0.9),
}


def slvm_of_frames():
  """With BatchNorm, in its encoder and decoder."""
  return constructors.slvm(constructors.FRAME)


@functools.cache
def case(make=slvm_of_frames, scale=0.1):
  model = make()
  x = constructors.data(model, batch=2, steps=4 + model.min_context)
  variables = constructors.randomized(model, x, scale=scale)
  params = variables.pop('params')
  return model, params, Carried(variables), {'x': x, 'mask': jnp.ones(x.shape[:2], bool)}


def small_case():
  """With weights so large that the divergence shows."""
  return case(constructors.slvm, scale=0.5)


def loss_and_gradient(settings, make=slvm_of_frames):
  model, params, state, batch = case(make)
  loss = objective.make_loss(settings, model, 'none')
  gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))
  return gradient(params, state, batch, jax.random.key(0), jnp.int32(5))


def losses(settings, *steps):
  """Loss and metrics at steps of training."""
  model, params, state, batch = small_case()
  loss = jax.jit(objective.make_loss(settings, model, 'none'))
  found = [loss(params, state, batch, jax.random.key(0), jnp.int32(step)) for step in steps]
  return [(float(value), outcome.metrics) for value, outcome in found]


@pytest.mark.parametrize('bound', objective.BOUNDS)
def test_every_bound_trains_every_parameter(bound):
  _, params, state, _ = case()
  (loss, outcome), grads = loss_and_gradient(SETTINGS[bound])
  metrics, new_state = outcome.metrics, outcome.carried
  assert np.isfinite(loss)
  parts = {'log_likelihood', 'kl', 'log_det'}
  assert {'loss', 'nats_per_dim', 'kl_weight', 'scored', *parts} == set(metrics)
  assert all(np.isfinite(list(metrics.values())))
  for path, leaf in jax.tree_util.tree_leaves_with_path(grads):
    name = jax.tree_util.keystr(path)
    assert np.all(np.isfinite(leaf)), name
    if "['conv']['bias']" in name and 'likelihood' not in name:
      continue  # before BatchNorm, which takes it out again
    assert np.any(np.asarray(leaf) != 0), f'{name} gets no gradient'
  assert jax.tree.structure(new_state) == jax.tree.structure(state)
  assert jax.tree.structure(grads) == jax.tree.structure(params)
  moved = jax.tree.map(lambda a, b: a.shape == b.shape and bool(jnp.any(a != b)), state, new_state)
  assert all(jax.tree.leaves(moved)), 'batch statistics stand still'


def test_a_flow_outside_trains_with_particles():
  """It is undone once for all particles; its parameters get gradient through y and log-det."""
  make = constructors.MODELS['flow around slvm with a flow in its prior']
  (loss, _), grads = loss_and_gradient(SETTINGS['fivo'], make)
  assert np.isfinite(loss)
  for path, leaf in jax.tree_util.tree_leaves_with_path(grads):
    assert np.any(np.asarray(leaf) != 0), jax.tree_util.keystr(path)


def test_one_importance_sample_is_the_negative_weight():
  model, params, state, batch = small_case()
  settings = ObjectiveSettings(bound='iwae', num_samples=1)
  ((loss, _),) = losses(settings, 0)
  key = jax.random.split(jax.random.key(0), 1)[0]
  terms = constructors.apply(
    model, {'params': params, **state.collections}, batch['x'], rngs={'sample': key}
  )
  np.testing.assert_allclose(loss, -terms.log_weight.mean(), rtol=1e-5)


def test_more_samples_lower_the_loss():
  one, many = (losses(ObjectiveSettings(bound='iwae', num_samples=k), 0)[0] for k in (1, 200))
  assert many[0] < one[0]


@pytest.mark.parametrize('bound', objective.BOUNDS)
def test_warm_up_of_every_bound(bound):
  """At weight 0 nothing but the likelihood is charged."""
  settings = ObjectiveSettings(bound=bound, kl_initial_weight=0.0, kl_warmup_steps=10)
  found = losses(settings, 0, 5, 10)
  (start, metrics), (middle, _), (end, _) = found
  np.testing.assert_allclose([m['kl_weight'] for _, m in found], [0.0, 0.5, 1.0], rtol=1e-6)
  if bound != 'fivo':  # whose logged terms are of other draws
    assert start == pytest.approx(-float(metrics['log_likelihood']), rel=1e-5)
  assert middle - start == pytest.approx(end - middle, rel=1e-3)
  assert middle != start


def test_options_that_a_bound_does_not_have():
  for settings, words in (
    (ObjectiveSettings(num_samples=2), 'objective.num_samples=2 needs objective.bound=iwae'),
    (ObjectiveSettings(bound='iwae', free_nats=0.1), 'free_nats must be 0.0'),
    (ObjectiveSettings(bound='fivo', kl_balance=0.8), 'kl_balance 0.5'),
  ):
    with pytest.raises(ConfigError) as error:
      settings.check()
    assert words in str(error.value)
    assert len(str(error.value).splitlines()) == 1
  for settings in SETTINGS.values():
    settings.check()


@pytest.mark.parametrize('bound', ['iwae', 'fivo'])
def test_dropout_and_annealing_reach_bounds_of_draws(bound):
  """Dropout changes the loss, and the divergence that inference minimises is the weighted one."""

  def run(model, *steps, **settings):
    settings = ObjectiveSettings(bound=bound, num_samples=2, **settings)
    x = constructors.data(model, steps=3)
    variables = constructors.randomized(model, x)
    batch = {'x': x, 'mask': jnp.ones(x.shape[:2], bool)}
    loss = jax.jit(objective.make_loss(settings, model, 'none'))
    values = [
      loss(variables['params'], Carried({}), batch, jax.random.key(0), step) for step in steps
    ]
    return [(float(value), float(outcome.metrics['kl'])) for value, outcome in values]

  srnn = constructors.srnn()
  assert run(srnn.copy(dropout=0.5), 0)[0][0] != run(srnn, 0)[0][0]
  descent = constructors.avf(update_rule='sgd', step_size=0.3, num_iterations=3)
  avf = constructors.slvm(inference=descent)
  (_, light), (_, full) = run(avf, 0, 10, kl_initial_weight=0.0, kl_warmup_steps=10)
  assert abs(light - full) > 1e-4
