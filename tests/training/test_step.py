"""The train step: non-finite batches, devices, schedules, moving averages."""

import dataclasses
import json
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from afslvm import runs
from afslvm.errors import NumericsError
from afslvm.objectives import elbo
from afslvm.objectives.objective import Carried, ObjectiveSettings, Outcome, make_loss
from afslvm.training import distributed, gradients, loop, optimizer, randomness, state, step
from afslvm.training.experiment import Experiment
from afslvm.training.settings import OptimizerSettings, TrainSettings
from afslvm.training.validation import make_validation
from afslvm.training.workdir import Workdir
from tests import constructors

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Batches:
  """An endless iterator over given sequences, with the state of a Grain iterator."""

  def __init__(self, x):
    self.x, self.next_index = x, 0

  def __next__(self):
    x = self.x[self.next_index % len(self.x)]
    self.next_index += 1
    return {'x': x, 'mask': np.ones(x.shape[:2], bool)}

  def get_state(self):
    return {'next_index': self.next_index}

  def set_state(self, value):
    self.next_index = value['next_index']


def experiment(x, model=None, **train):
  """A dense 1-AF, or `model`, on the batches x [N, B, T, 3]."""
  return Experiment(
    model=model or constructors.flows(1, constructors.dense()),
    dequantisation='none',
    length=x.shape[2],
    seed=0,
    train=TrainSettings(**{'num_steps': 6, 'batch_size': 2, 'log_every': 1, **train}),
    optimizer=OptimizerSettings(learning_rate=1e-2, ema_decay=0.9),
    training_batches=lambda: Batches(x),
    validation_batches=lambda: iter([next(Batches(np.nan_to_num(x)))]),
    fingerprint='0' * 16,
    config={'train': {'num_steps': train.get('num_steps', 6)}},
  )


@pytest.fixture
def sequences():
  return np.random.default_rng(0).normal(size=(8, 2, 6, 3)).astype(np.float32)


def make_step(make_state=True, **settings):
  model = constructors.flows(1, constructors.dense())
  adam, _ = optimizer.make_optimizers(OptimizerSettings(learning_rate=1e-2, **settings), 10)
  loss = make_loss(ObjectiveSettings(), model, 'none')
  x = constructors.data(model)
  first = state.create_state(model, adam, x, seed=0, use_ema=True)
  train_step = jax.jit(
    step.make_train_step(model, gradients.make_gradient(loss), adam, seed=0, ema_decay=0.9)
  )
  return train_step, first, {'x': x, 'mask': jnp.ones(x.shape[:2], bool)}


NO_MODEL = constructors.StandardNormal((1,))  # a step asks for a model in `em_online` only


def state_of(params, optimizer):
  """A state before the first step, of parameters alone."""
  zero = jnp.int32(0)
  return state.TrainState(zero, params, Carried({}), optimizer.init(params), (), zero, zero)


@pytest.mark.parametrize('bad', [jnp.nan, jnp.inf])
def test_a_non_finite_batch_changes_nothing_but_counters(bad):
  train_step, first, batch = make_step()
  good, _ = train_step(first, batch)
  poisoned = {**batch, 'x': batch['x'].at[0, 4, 1].set(bad)}
  after, metrics = train_step(good, poisoned)
  for name in ('params', 'carried', 'opt_state', 'ema'):
    jax.tree.map(np.testing.assert_array_equal, getattr(after, name), getattr(good, name))
  assert (int(after.step), int(after.skipped), int(after.skipped_in_row)) == (2, 1, 1)
  assert int(metrics['skipped_in_row']) == 1
  later, _ = train_step(after, batch)
  assert (int(later.step), int(later.skipped), int(later.skipped_in_row)) == (3, 1, 0)
  changed = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), later.params, after.params)
  assert all(jax.tree.leaves(changed))


def test_a_non_finite_gradient_with_a_finite_loss_is_skipped():
  """sqrt(0): the double-where trap gives such gradients."""
  params = {'w': jnp.zeros(())}
  adam = optax.adam(0.1)

  def loss(params, carried, batch, key, step):
    value = jnp.sqrt(params['w'])
    return value, Outcome({'loss': value}, carried)

  first = state_of(params, adam)
  after, metrics = step.make_train_step(NO_MODEL, gradients.make_gradient(loss), adam, seed=0)(
    first, {}
  )
  assert np.isfinite(metrics['loss'])
  assert not np.isfinite(metrics['grad_norm'])
  assert int(after.skipped) == 1
  np.testing.assert_array_equal(after.params['w'], 0.0)


def test_training_goes_on_after_a_bad_batch(sequences, tmp_path, caplog):
  sequences[2, 0, 1, 1] = np.nan
  with Workdir(tmp_path) as workdir:
    assert loop.train(workdir, experiment(sequences)) == 0
  lines = [json.loads(line) for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()]
  assert [line['skipped'] for line in lines if 'skipped' in line] == [0, 0, 1, 1, 1, 1]
  assert lines[2]['loss'] is None
  assert json.loads((tmp_path / 'receipt.json').read_text())['skipped_steps'] == 1


def test_validations_hold_the_bound_and_the_health_of_its_parts(sequences, tmp_path):
  """On the same noise every time: a model that doesn't change scores the same."""
  model = constructors.flows(1, constructors.dense(), base=constructors.slvm())
  still = experiment(sequences, model, num_steps=4, eval_every=2)
  still = dataclasses.replace(still, optimizer=OptimizerSettings(learning_rate=0.0))
  with Workdir(tmp_path) as workdir:
    assert loop.train(workdir, still) == 0
  lines = [json.loads(line) for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()]
  first, second = (line for line in lines if 'validation_nats_per_dim' in line)
  assert (first.pop('step'), second.pop('step')) == (2, 4)
  assert first == second
  assert set(first) == {
    *('validation_nats_per_dim', 'kl', 'kl_per_step', 'active_units', 'latent_size'),
    *('predictive_gap', 'residual_correlation', 'saturation/flow 1', 'saturation/likelihood'),
    *('saturation/prior', 'saturation/posterior'),
  }
  assert len(first['kl_per_step']) == 6 - model.min_context
  losses = [line for line in lines if 'loss' in line]
  assert all(line['kl_weight'] == 1.0 for line in losses)
  assert first['validation_nats_per_dim'] == pytest.approx(losses[0]['nats_per_dim'], abs=1.0)


def test_a_gradient_whose_square_is_not_finite_is_skipped():
  """Adam's second moment would be infinite, and the parameter would never move again."""
  params = {'w': jnp.ones(())}
  adam = optax.adam(0.1)

  def loss(params, carried, batch, key, step):
    value = 1e25 * params['w']
    return value, Outcome({'loss': value}, carried)

  first = state_of(params, adam)
  after, metrics = jax.jit(
    step.make_train_step(NO_MODEL, gradients.make_gradient(loss), adam, seed=0)
  )(first, {})
  assert np.isfinite(metrics['loss'])
  assert int(after.skipped) == 1
  jax.tree.map(np.testing.assert_array_equal, after.opt_state, first.opt_state)


def test_too_many_bad_batches_stop_with_the_batch_saved(sequences, tmp_path):
  sequences[3:] = np.nan
  caught = pytest.raises(NumericsError, match='3 steps in a row')
  with Workdir(tmp_path) as workdir, caught as error:
    loop.train(workdir, experiment(sequences, num_steps=20, max_skipped=3))
  assert error.value.exit_code == 5
  assert len(str(error.value).splitlines()) == 1
  (saved,) = (tmp_path / 'debug').glob('*.npz')
  with np.load(saved, allow_pickle=False) as batch:
    assert np.isnan(batch['x']).all()
    assert batch['mask'].all()
    assert int(batch['step']) == 6


def test_moving_average_and_schedule():
  train_step, first, batch = make_step(schedule='cosine', warmup_steps=2)
  second, _ = train_step(first, batch)
  # The learning rate starts at zero, so the first step of a warm-up moves nothing.
  jax.tree.map(np.testing.assert_array_equal, second.params, first.params)
  third, _ = train_step(second, batch)
  decay = min(0.9, 2 / 11)
  expected = jax.tree.map(lambda a, b: decay * a + (1 - decay) * b, second.params, third.params)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), third.ema[0], expected
  )
  rates = optimizer.make_schedule(
    OptimizerSettings(learning_rate=1.0, schedule='cosine', warmup_steps=2, final_fraction=0.1), 12
  )
  np.testing.assert_allclose([rates(n) for n in (0, 1, 2, 12)], [0.0, 0.5, 1.0, 0.1], atol=1e-6)


def test_the_key_of_a_step_depends_on_seed_and_step_only():
  """Training noise differs from step to step, and is the same when a step is repeated."""
  model = constructors.flows(1, constructors.conv(normalization='none'))
  x = (255 * constructors.data(model)).astype(jnp.uint8)
  batch = {'x': x, 'mask': jnp.ones(x.shape[:2], bool)}
  adam = optax.sgd(0.0)
  first = state.create_state(model, adam, x / 255, seed=0)
  losses = {}
  for seed in (0, 1):
    loss = make_loss(ObjectiveSettings(), model, 'gauss256')
    gradient = gradients.make_gradient(loss, 'gauss256')
    train_step = jax.jit(step.make_train_step(model, gradient, adam, seed=seed))
    second, metrics = train_step(first, batch)
    _, again = train_step(first, batch)
    _, later = train_step(second, batch)
    losses[seed] = float(metrics['loss'])
    assert losses[seed] == float(again['loss'])
    assert losses[seed] != float(later['loss'])
  assert losses[0] != losses[1]


DEVICES_SCRIPT = """
import json, sys
from afslvm import building, cli, runs
from afslvm.training.loop import train
from afslvm.training.validation import make_validation
from afslvm.training.workdir import Workdir
import jax
config = cli.load_config('configs/smoke.py:' + sys.argv[2])
config.train.num_steps, config.train.log_every = 4, 1
with Workdir(sys.argv[1]) as workdir:
  train(workdir, building.experiment(building.build(config)))
print(jax.device_count())
"""


def on_devices(count, environment, *arguments):
  """Runs Python with `count` host devices."""
  return subprocess.run(
    [sys.executable, *map(str, arguments)],
    cwd=ROOT,
    env={**environment, 'JAX_NUM_CPU_DEVICES': str(count)},
    capture_output=True,
    text=True,
    timeout=600,
  )


STEPS_SCRIPT = """
import jax, numpy as np
from afslvm.training import distributed, program
from tests import constructors
from tests.training.test_step import Batches, experiment
model = constructors.flows(1, constructors.conv(normalization='batch'))
x = np.random.default_rng(0).normal(size=(1, 8, 4, *model.event_shape)).astype(np.float32)
given = experiment(x, model, batch_size=8)
for count in (1, 8):
  mesh = distributed.make_mesh(jax.devices()[:count])
  batch = distributed.to_devices(next(Batches(x)), mesh)
  state, step = program.first_state(given, batch, mesh), program.compiled_step(given, mesh)
  for _ in range(3):
    state, metrics = step(state, batch)
  print(float(metrics['loss']), float(metrics['grad_norm']))
"""


def test_a_step_on_eight_devices_is_that_on_one(environment):
  """BatchNorm's statistics and the mean of the loss are those of the global batch."""
  done = on_devices(8, environment, '-c', STEPS_SCRIPT)
  assert done.returncode == 0, done.stderr
  one, eight = (list(map(float, line.split())) for line in done.stdout.splitlines())
  np.testing.assert_allclose(eight, one, rtol=2e-4)


@pytest.fixture(scope='module')
def trained_on(environment, tmp_path_factory):
  """Runs on one and on eight devices, of a flow around a latent variable model."""
  folder = tmp_path_factory.mktemp('devices')
  for count in (1, 8):
    done = on_devices(count, environment, '-c', DEVICES_SCRIPT, folder / str(count), 'slvm_af1')
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith(str(count))
  return folder


@pytest.mark.slow
@pytest.mark.thorough  # the law of single steps is above
def test_eight_devices_compute_what_one_does(trained_on):
  """Whole runs, with validation and checkpoints."""
  losses = {}
  for count in (1, 8):
    records = trained_on / str(count) / 'metrics.jsonl'
    lines = [json.loads(line) for line in records.read_text().splitlines()]
    losses[count] = [line.get('loss', line.get('validation_nats_per_dim')) for line in lines]
  assert len(losses[1]) == 5
  np.testing.assert_allclose(losses[8], losses[1], rtol=2e-4)


@pytest.mark.slow
@pytest.mark.thorough  # it needs the same runs
def test_a_checkpoint_of_eight_devices_is_restored_on_one(trained_on, environment):
  run = runs.load_run(str(trained_on / '8'), 'latest', environment['TFDS_DATA_DIR'])
  variables = run.variables
  assert run.checkpoint['step'] == 4
  assert run.num_parameters() == sum(leaf.size for leaf in jax.tree.leaves(variables['params']))


def test_a_batch_must_divide_over_the_devices(environment, tmp_path):
  arguments = ('--config=configs/smoke.py', f'--workdir={tmp_path}', '--config.train.batch_size=9')
  done = on_devices(8, environment, 'launch/train.py', *arguments)
  assert done.returncode == 2
  assert 'does not divide over 8 devices; use 8 or 16' in done.stderr
  assert not (tmp_path / 'config.json').exists()


def test_validation_scores_what_training_scores():
  """A step that training is given is no part of the score that selects checkpoints."""
  model = constructors.srnn()
  x = np.array(constructors.data(model, steps=5))
  variables = constructors.randomized(model, jnp.array(x))
  values = {}
  for first in (0, 1):
    settings = ObjectiveSettings(first_scored=first)
    given = dataclasses.replace(experiment(x[None], model), objective=settings)
    values[first], health = make_validation(given, distributed.make_mesh(jax.devices()))(variables)
    assert len(health['kl_per_step']) == 5 - first
  keys = jax.random.split(jax.random.fold_in(randomness.stream(1, 'validation'), 0))
  batch = {'x': jnp.array(x), 'mask': jnp.ones(x.shape[:2], bool)}
  sums = elbo.bound_sums(model, 'none', variables, batch, keys, first=1)
  np.testing.assert_allclose(values[1], -float(sums.elbo.sum()) / (3 * 4 * 3), rtol=1e-5)
  assert values[0] != values[1]
