"""What is drawn to zero, how fast parameters move, and which data their first values see."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afslvm.likelihoods.nade import Nade
from afslvm.training import distributed, optimizer, program
from afslvm.training.settings import OptimizerSettings
from tests import constructors, modules
from tests.training.test_step import Batches, experiment

# Every name that a parameter has, and whether it is a factor of a product with features.
NAMES = {
  **dict.fromkeys(('kernel', 'inputs', 'outputs'), True),
  **dict.fromkeys(('bias', 'scale', 'shift', 'log_scale', 'gain', 'factors'), False),
  **dict.fromkeys(('bound_gain', 'bound_offset', 'initial_shift', 'initial_log_scale'), False),
  **dict.fromkeys(('candidate_bias', 'first_loc', 'first_log_scale', 'h_0', 'z_0'), False),
  **{f'initial_{cell}{layer}': False for cell in 'ch' for layer in ('', '_0', '_1')},
}
MODELS = [
  *('videoflow with flows inside', 'videoflow conv3d learned', '2-AF dense learned'),
  *('flow around slvm with a flow in its prior', 'srnn gru residual bernoulli', 'conv srnn'),
  *('svg dcgan batch', 'svg vgg avf', 'vrnn', 'srnn avf from residual'),
]


def params_of(name):
  model = constructors.MODELS[name]()
  return constructors.randomized(model, constructors.data(model))['params']


def by_path(tree):
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): leaf
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


@pytest.mark.parametrize('name', MODELS)
def test_only_factors_of_products_are_weights(name):
  """A name that is not in the table fails here: say whether zero means anything for it."""
  for path, found in by_path(optimizer.are_weights(params_of(name))).items():
    assert found == NAMES[path.rpartition('/')[2]], path


def test_the_weights_of_other_parts():
  """NADE's matrices, and the gains of couplings."""
  nade = modules.randomized(
    Nade((5,), hidden=3), jnp.zeros((2, 4)), jnp.zeros((2, 5)), method='log_prob'
  )
  coupling = constructors.videoflow(map_=constructors.glow(bound='realnvp'))
  variables = constructors.randomized(coupling, constructors.data(coupling))
  for params in (nade['params'], variables['params']):
    found = by_path(optimizer.are_weights(params))
    assert all(value == NAMES[path.rpartition('/')[2]] for path, value in found.items())
  assert sum(by_path(optimizer.are_weights(nade['params'])).values()) >= 2


def moved(params, transform, gradient=0.0):
  """Differences that one update makes."""
  gradients = jax.tree.map(lambda leaf: jnp.full_like(leaf, gradient), params)
  updates, _ = jax.jit(transform.update)(gradients, transform.init(params), params)
  return updates


@pytest.mark.parametrize('groups', ['one', 'two', 'online'])
def test_decay_moves_weights_and_nothing_else(groups):
  """Decoupled from gradients, which are zero here, in every optimiser that there is."""
  params = params_of('srnn avf from residual')
  rate = {'inference_learning_rate': 0.02} if groups == 'two' else {}
  settings = OptimizerSettings(learning_rate=0.01, weight_decay=0.5, **rate)
  transform, online = optimizer.make_optimizers(settings, 10, is_online=groups == 'online')
  updates = by_path(moved(params, transform))
  kinds = by_path(optimizer.parameter_groups(params))
  for path, before in by_path(params).items():
    of_inference = kinds[path] == 'inference'
    own = {'one': 0.01, 'two': 0.02, 'online': 0.0}[groups] if of_inference else 0.01
    share = own * 0.5 if NAMES[path.rpartition('/')[2]] else 0.0
    np.testing.assert_allclose(updates[path], -share * before, rtol=1e-4, atol=1e-8, err_msg=path)
  assert {'inference', 'generative'} == set(kinds.values())
  if groups == 'online':  # its own rate is applied by the objective, so the decay is as it is
    inference = {'inference': params['inference']}
    for path, update in by_path(moved(inference, online.optimizer)).items():
      share = 0.5 if NAMES[path.rpartition('/')[2]] else 0.0
      np.testing.assert_allclose(update, share * by_path(inference)[path], rtol=1e-4, err_msg=path)


@pytest.mark.parametrize('eps', [1e-8, 0.1])
def test_epsilon_is_added_to_the_root(eps):
  """The first step of Adam goes by rate g / (|g| + ε)."""
  settings = OptimizerSettings(learning_rate=0.01, clip_norm=0.0, eps=eps)
  transform, _ = optimizer.make_optimizers(settings, 10)
  update = moved({'kernel': jnp.ones(3)}, transform, 0.3)['kernel']
  np.testing.assert_allclose(update, np.full(3, -0.01 * 0.3 / (0.3 + eps)), rtol=1e-4)


def test_epsilon_is_that_of_the_inference_too():
  settings = OptimizerSettings(learning_rate=0.01, clip_norm=0.0, eps=0.1)
  online = optimizer.make_online(settings, 10)
  (update,) = jax.tree.leaves(moved({'kernel': jnp.ones(3)}, online.optimizer, 0.3))
  np.testing.assert_allclose(update, np.full(3, 0.3 / 0.4), rtol=1e-4)


# ---- train.init_batches --------------------------------------------------------------------------


@pytest.fixture(scope='module')
def sequences():
  """Batches of frames, each of another brightness."""
  rng = np.random.default_rng(0)
  x = rng.uniform(size=(4, 2, 4, *constructors.VIDEO)).astype(np.float32)
  return x + 2 * np.arange(4, dtype=np.float32).reshape(4, 1, 1, 1, 1, 1)


def given(sequences, **train):
  model = constructors.videoflow(map_=constructors.glow(levels=1))
  return experiment(sequences, model, **train)


@pytest.mark.parametrize('count', [1, 3])
def test_the_first_values_see_the_first_batches(count, sequences):
  """All of them at once, and of no others; training itself begins with the first."""
  made, mesh = given(sequences, init_batches=count), distributed.make_mesh(jax.devices()[:1])
  batch = program.initial_batch(made, mesh)
  np.testing.assert_array_equal(batch['x'], sequences[:count].reshape(-1, *sequences.shape[2:]))
  assert batch['mask'].shape == (2 * count, 4)
  assert np.all(batch['mask'])
  shift = program.first_state(made, batch, mesh).params['glow']['level_0']['norm']['shift'][0]
  folded = sequences[:count].reshape(-1, 2, 2, 4, 2)  # the order of channels of a squeeze
  expected = folded.mean(axis=(0, 1, 3)).reshape(-1)
  np.testing.assert_allclose(shift, expected, rtol=1e-4)
  np.testing.assert_array_equal(next(made.training_batches())['x'], sequences[0])


def test_padding_of_the_first_batches_is_known():
  """Their masks are put together, too."""

  class Padded(Batches):
    def __next__(self):
      batch = super().__next__()
      batch['mask'][:, -self.next_index :] = False
      return batch

  x = np.ones((3, 2, 4, *constructors.VIDEO), np.float32)
  made = given(x, init_batches=2)
  made = made.__class__(**{**vars(made), 'training_batches': lambda: Padded(x)})
  batch = program.initial_batch(made, distributed.make_mesh(jax.devices()[:1]))
  np.testing.assert_array_equal(np.sum(batch['mask'], axis=1), [3, 3, 2, 2])
