"""A batch gone through in parts, or with less memory, has the gradient it has at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afslvm.errors import ConfigError
from afslvm.objectives.objective import Carried, ObjectiveSettings, make_loss
from afslvm.training.gradients import make_gradient
from afslvm.training.settings import TrainSettings
from tests import constructors
from tests.thorough import some_of

# A latent variable model under a flow, and one whose inference differentiates by itself.
MODELS = {
  'flow': constructors.flows(1, constructors.dense(), constructors.slvm()),
  'avf': constructors.srnn(inference=constructors.avf()),
  'frames': constructors.flows(1, constructors.conv(encoder_depth=3, normalization='group')),
}


ARGUMENTS = Carried({}), jax.random.key(5), jnp.int32(3)


def case(model, steps=6):
  x = (255 * constructors.data(model, batch=4, steps=steps)).astype(jnp.uint8)
  # Sequences that end early, so that parts don't count alike.
  mask = jnp.arange(steps) < jnp.array([6, 4, 5, 3])[:, None] * steps // 6
  params = constructors.randomized(model, x / 255)['params']
  return params, {'x': x, 'mask': mask}


def with_remat(model):
  if model.core is model:
    return model.copy(remat=True)
  conditioner = model.flow.conditioner.copy(remat=True)
  return model.copy(flow=model.flow.copy(conditioner=conditioner))


def compiled_and_run(model, params, batch, gradients='bptt', **options):
  """The program of the gradient, and what it gives."""
  state, *others = ARGUMENTS
  loss = make_loss(ObjectiveSettings(gradients=gradients), model, 'gauss256')
  gradient = jax.jit(make_gradient(loss, 'gauss256', **options))
  program = gradient.lower(params, state, batch, *others).compile()
  return program, program(params, state, batch, *others)


def assert_same(found, expected, tolerance=1e-4):
  (metrics, *_), grads = found
  (expected_metrics, *_), expected_grads = expected
  assert metrics.keys() == expected_metrics.keys()
  for key, value in metrics.items():
    np.testing.assert_allclose(value, expected_metrics[key], rtol=1e-4, atol=1e-6, err_msg=key)
  for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(expected_grads), strict=True):
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * np.abs(b).max())


@pytest.mark.parametrize(
  ('name', 'gradients'),
  some_of([('flow', 'bptt'), ('avf', 'bptt'), ('avf', 'em')], [('flow', 'bptt'), ('avf', 'em')]),
)
def test_going_through_in_parts_changes_nothing(name, gradients):
  params, batch = case(MODELS[name])
  _, expected = compiled_and_run(MODELS[name], params, batch, gradients)
  _, found = compiled_and_run(MODELS[name], params, batch, gradients, accumulate=2)
  # Through time and iterations, rounding grows.
  assert_same(found, expected, 1e-3 if (name, gradients) == ('avf', 'bptt') else 1e-4)


@pytest.mark.parametrize('name', ['avf', 'frames'])
def test_computing_again_takes_less_memory_and_changes_nothing(name):
  """By XLA's own account, for long sequences."""
  model = MODELS[name]
  params, batch = case(model, steps=64)
  kept, expected = compiled_and_run(model, params, batch)
  again, found = compiled_and_run(with_remat(model), params, batch)
  # Of so many steps a ReLU may be on the other side of zero by rounding.
  assert_same(found, expected, tolerance=1e-3)
  bytes_kept, bytes_again = (p.memory_analysis().temp_size_in_bytes for p in (kept, again))
  assert bytes_again < 0.7 * bytes_kept


def test_streams_can_not_be_gone_through_in_parts():
  with pytest.raises(ConfigError, match='train.accumulate=2 needs data.stateful=False'):
    TrainSettings(accumulate=2).check(stateful=True)
