"""A batch gone through in parts, or with less memory, has the gradient it has at once."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afslvm.errors import ConfigError
from afslvm.objectives.objective import ObjectiveSettings, make_loss
from afslvm.training.gradients import make_gradient
from afslvm.training.settings import TrainSettings
from tests import constructors

# A latent variable model under a flow, and one whose inference differentiates by itself.
MODELS = {
  'flow': constructors.flows(1, constructors.dense(), constructors.slvm()),
  'avf': constructors.srnn(inference=constructors.avf()),
  'frames': constructors.flows(1, constructors.conv(encoder_depth=3, normalization='group')),
}


def case(model):
  x = (255 * constructors.data(model, batch=4, steps=6)).astype(jnp.uint8)
  # Sequences that end early, so that parts don't count alike.
  mask = jnp.arange(6) < jnp.array([6, 4, 5, 3])[:, None]
  params = constructors.randomized(model, x / 255)['params']
  return params, {'x': x, 'mask': mask}


def with_remat(model):
  if model.core is model:
    return model.copy(remat=True)
  conditioner = model.flow.conditioner.copy(remat=True)
  return model.copy(flow=model.flow.copy(conditioner=conditioner))


def compiled(model, params, batch, **options):
  loss = make_loss(ObjectiveSettings(), model, 'gauss256')
  gradient = jax.jit(make_gradient(loss, 'gauss256', **options))
  return gradient.lower(params, {}, batch, jax.random.key(5), jnp.int32(3)).compile()


@functools.cache
def gradient_of(name, remat=False, **options):
  model = MODELS[name]
  params, batch = case(model)
  model = with_remat(model) if remat else model
  return compiled(model, params, batch, **options)(
    params, {}, batch, jax.random.key(5), jnp.int32(3)
  )


@pytest.mark.parametrize(
  ('name', 'options'),
  [
    ('flow', {'accumulate': 2}),
    ('avf', {'accumulate': 4}),
    ('avf', {'remat': True}),
    ('frames', {'remat': True}),
  ],
)
def test_less_memory_changes_nothing(name, options):
  (metrics, _), grads = gradient_of(name, **options)
  (expected_metrics, _), expected = gradient_of(name)
  assert metrics.keys() == expected_metrics.keys()
  for key, value in metrics.items():
    np.testing.assert_allclose(value, expected_metrics[key], rtol=1e-4, atol=1e-6, err_msg=key)
  for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).max())


@pytest.mark.parametrize('name', ['avf', 'frames'])
def test_what_is_computed_again_takes_less_memory(name):
  """By XLA's own account, for long sequences."""
  model = MODELS[name]
  params, _ = case(model)
  shape = (4, 64, *model.event_shape)
  batch = {
    'x': jax.ShapeDtypeStruct(shape, jnp.uint8),
    'mask': jax.ShapeDtypeStruct(shape[:2], bool),
  }
  kept, again = (
    compiled(given, params, batch).memory_analysis().temp_size_in_bytes
    for given in (model, with_remat(model))
  )
  assert again < 0.7 * kept


def test_streams_can_not_be_gone_through_in_parts():
  with pytest.raises(ConfigError, match='train.accumulate=2 needs data.stateful=False'):
    TrainSettings(accumulate=2).check(stateful=True)
