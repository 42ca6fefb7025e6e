"""Training by `em_online`: what moves, what is saved, and that devices do not matter."""

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np

from afslvm.objectives.objective import ObjectiveSettings, make_loss
from afslvm.training import checkpoint, distributed, gradients, loop, optimizer, state, step
from afslvm.training.settings import OptimizerSettings
from afslvm.training.workdir import Workdir
from tests import constructors
from tests.training.test_step import experiment, on_devices

ONLINE = ObjectiveSettings(gradients='em_online')


def model():
  return constructors.flows(
    1, constructors.dense(), base=constructors.srnn(inference=constructors.avf())
  )


def online_experiment(x, **train):
  return dataclasses.replace(experiment(x, model(), **train), objective=ONLINE)


def made(rate=1e-2, **settings):
  """A train step on a batch of eight sequences."""
  settings = OptimizerSettings(inference_learning_rate=rate, learning_rate=1e-2, **settings)
  adam, online = optimizer.make_optimizers(settings, 10, is_online=True)
  x = jax.random.normal(jax.random.key(0), (8, 5, 3))
  first = state.create_state(model(), adam, x, 0, use_ema=True, online=online)
  gradient = gradients.make_gradient(make_loss(ONLINE, model(), 'none', online))
  train_step = jax.jit(step.make_train_step(model(), gradient, adam, 0, 0.9))
  return train_step, first, {'x': x, 'mask': jnp.ones(x.shape[:2], bool)}


def moved(before, after):
  """The groups of parameters of which any moved."""
  groups = optimizer.parameter_groups(before)
  changed = jax.tree.map(lambda g, a, b: g if np.any(a != b) else '', groups, before, after)
  return set(jax.tree.leaves(changed)) - {''}


def test_both_groups_move_and_the_average_follows():
  train_step, first, batch = made()
  after, metrics = train_step(first, batch)
  assert moved(first.params, after.params) == {'generative', 'inference'}
  assert moved(first.ema[0], after.ema[0]) == {'generative', 'inference'}
  # Three of five steps come after the flow's window, and each of them is an update.
  assert int(after.carried.optimizer[1].count) == 3
  assert np.isfinite(float(metrics['loss']))


def test_a_batch_that_is_not_finite_moves_neither():
  train_step, first, batch = made()
  after, metrics = train_step(first, {**batch, 'x': batch['x'].at[0, 3, 0].set(jnp.nan)})
  assert int(metrics['skipped']) == 1
  for name in ('params', 'carried', 'opt_state', 'ema'):
    jax.tree.map(np.testing.assert_array_equal, getattr(after, name), getattr(first, name))


def test_an_abstract_state_is_that_of_training():
  """A run is restored into it."""
  settings = OptimizerSettings(ema_decay=0.9)
  given = online_experiment(np.zeros((1, 8, 5, 3), np.float32))
  sharding = distributed.replicated(distributed.make_mesh())
  abstract = state.abstract_state(given.model, given.train, settings, 5, sharding, is_online=True)
  adam, online = optimizer.make_optimizers(settings, given.train.num_steps, is_online=True)
  x = jnp.zeros((2, 5, 3))
  real = jax.eval_shape(lambda x: state.create_state(given.model, adam, x, 0, True, 0, online), x)
  same = jax.tree.map(lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype), abstract, real)
  assert all(jax.tree.leaves(same))


def test_resuming_is_bit_exact(tmp_path):
  """The inference's optimiser is in the checkpoint, like everything else."""
  x = np.random.default_rng(0).normal(size=(4, 8, 5, 3)).astype(np.float32)
  given = online_experiment(x, num_steps=4, checkpoint_every=2, batch_size=8)
  sharding = distributed.replicated(distributed.make_mesh())
  target = state.abstract_state(
    given.model, given.train, given.optimizer, 5, sharding, is_online=True
  )

  def train():
    with Workdir(tmp_path) as workdir:
      loop.train(workdir, given)
    return checkpoint.restore_step(tmp_path / 'checkpoints', 4, target)[0]

  straight = train()
  shutil.rmtree(tmp_path / 'checkpoints' / '4')
  jax.tree.map(np.testing.assert_array_equal, train(), straight)


SCRIPT = """
import jax, numpy as np
from afslvm.training import distributed, program
from tests.training.test_online import online_experiment
from tests.training.test_step import Batches
x = np.random.default_rng(0).normal(size=(1, 8, 5, 3)).astype(np.float32)
given = online_experiment(x, batch_size=8)
for count in (1, 8):
  mesh = distributed.make_mesh(jax.devices()[:count])
  batch = distributed.to_devices(next(Batches(x)), mesh)
  state, step = program.first_state(given, batch, mesh), program.compiled_step(given, mesh)
  for _ in range(3):
    state, metrics = step(state, batch)
  leaves = jax.tree.leaves(state.params['base']['inference'])
  print(float(metrics['loss']), *(float(np.sum(np.square(leaf))) for leaf in leaves))
"""


def test_eight_devices_move_the_inference_as_one(environment):
  """Its gradients are averaged over the mesh in every step of a sequence."""
  done = on_devices(8, environment, '-c', SCRIPT)
  assert done.returncode == 0, done.stderr
  one, eight = (list(map(float, line.split())) for line in done.stdout.splitlines())
  np.testing.assert_allclose(eight, one, rtol=1e-3, atol=1e-5)
