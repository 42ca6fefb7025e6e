"""Sequences that go on from batch to batch: the state goes with them, gradients do not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afslvm.models.state_space import StateSpaceModel
from afslvm.objectives.objective import GRADIENTS, ObjectiveSettings, make_loss
from afslvm.training import state as state_lib
from afslvm.training.gradients import make_gradient
from afslvm.training.optimizer import make_optimizers
from afslvm.training.settings import OptimizerSettings
from afslvm.training.step import make_train_step
from tests import constructors

NOISE = 0.4
NAMES = ('srnn', 'srnn prior chain', 'vrnn', 'slvm mlp')


def make(name, steps=6):
  model = constructors.MODELS[name]()
  x = constructors.data(model, steps=steps)
  variables = constructors.randomized(model, x, scale=0.3)
  return model, {**variables, **constructors.given_noise(model, NOISE)}, x


def score(model, given, state, x, new):
  mask = jnp.ones(x.shape[:2], bool)
  stream = state, jnp.array(new)
  method = StateSpaceModel.continued_terms
  state, terms = constructors.apply(model, given, x, mask, stream=stream, method=method)
  return terms, state


def nothing(model, given):
  """A state that no row goes on from."""
  return jax.tree.map(jnp.zeros_like, model.apply(given, 3, method='initial_state'))


@pytest.mark.parametrize('name', NAMES)
def test_two_halves_score_as_the_whole(name):
  model, given, x = make(name)
  first, state = score(model, given, nothing(model, given), x[:, :4], [True] * 3)
  second, _ = score(model, given, state, x[:, 4:], [False] * 3)
  found = jnp.concatenate([first.elbo, second.elbo], axis=1)
  np.testing.assert_allclose(found, constructors.apply(model, given, x).elbo, rtol=1e-4)


@pytest.mark.parametrize('name', NAMES)
def test_rows_begin_anew_where_they_are_reset(name):
  model, given, x = make(name)
  _, state = score(model, given, nothing(model, given), x[:, :4], [True] * 3)
  found, _ = score(model, given, state, x[:, 4:], [False, True, False])
  fresh = constructors.apply(model, given, x[:, 4:]).elbo
  np.testing.assert_allclose(found.elbo[1], fresh[1], rtol=1e-5)
  assert not np.allclose(found.elbo[0], fresh[0], rtol=1e-3)


@pytest.mark.parametrize('gradients', GRADIENTS)
def test_training_keeps_the_state_and_evaluates_without_it(gradients):
  """The stream moves with the batches, is part of the state that is saved, and not of averages."""
  model, _, x = make('srnn')
  optimizer, online = make_optimizers(OptimizerSettings(), 10, gradients == 'em_online')
  first = state_lib.create_state(model, optimizer, x, 0, True, 3, online)
  loss = make_loss(ObjectiveSettings(gradients=gradients), model, 'none', online)
  step = jax.jit(make_train_step(model, make_gradient(loss), optimizer, 0, 0.9))
  mask = jnp.ones(x.shape[:2], bool)
  batch = {'x': x, 'mask': mask, 'reset': jnp.array([True] * 3)}
  after, metrics = step(first, batch)
  moved = jax.tree.map(
    lambda a, b: bool(jnp.any(a != b)), first.carried.stream, after.carried.stream
  )
  assert any(jax.tree.leaves(moved))
  assert jax.tree.structure(after.ema[1]) == jax.tree.structure(after.carried.collections)
  assert int(metrics['skipped']) == 0
  going_on, _ = step(after, {**batch, 'reset': jnp.array([False] * 3)})
  begun, _ = step(after, batch)
  assert not np.allclose(
    going_on.params['likelihood']['mean_head']['dense']['bias'],
    begun.params['likelihood']['mean_head']['dense']['bias'],
    rtol=1e-7,
    atol=0,
  )
  constructors.apply(model, after.evaluated, x, mask, rngs={'sample': jax.random.key(0)})
