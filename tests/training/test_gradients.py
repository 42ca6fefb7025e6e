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
}


def case(model):
  x = (255 * constructors.data(model, batch=4, steps=6)).astype(jnp.uint8)
  # Sequences that end early, so that parts don't count alike.
  mask = jnp.arange(6) < jnp.array([6, 4, 5, 3])[:, None]
  params = constructors.randomized(model, x / 255)['params']
  return params, {'x': x, 'mask': mask}


def compiled(model, params, batch, **options):
  loss = make_loss(ObjectiveSettings(), model, 'gauss256')
  gradient = jax.jit(make_gradient(loss, 'gauss256', **options))
  return gradient.lower(params, {}, batch, jax.random.key(5), jnp.int32(3)).compile()


@functools.cache
def gradient_of(name, remat=False, **options):
  model = MODELS[name]
  params, batch = case(model)
  model = model.copy(remat=True) if remat is True else model
  options = {**options, 'remat': remat} if isinstance(remat, str) else options
  return compiled(model, params, batch, **options)(
    params, {}, batch, jax.random.key(5), jnp.int32(3)
  )


@pytest.mark.parametrize(
  ('name', 'options'),
  [
    ('flow', {'accumulate': 2}),
    ('flow', {'remat': 'products'}),
    ('avf', {'accumulate': 4}),
    ('avf', {'remat': 'products'}),
    ('avf', {'remat': True}),
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


def test_steps_that_are_computed_again_take_less_memory():
  """By XLA's own account, for long sequences."""
  model = MODELS['avf']
  params, _ = case(model)
  shapes = jax.ShapeDtypeStruct((4, 64, 3), jnp.uint8), jax.ShapeDtypeStruct((4, 64), bool)
  batch = dict(zip(('x', 'mask'), shapes, strict=True))
  kept, again = (
    compiled(model.copy(remat=remat), params, batch).memory_analysis().temp_size_in_bytes
    for remat in (False, True)
  )
  assert again < 0.7 * kept


def test_streams_can_not_be_gone_through_in_parts():
  with pytest.raises(ConfigError, match='train.accumulate=2 needs data.stateful=False'):
    TrainSettings(accumulate=2).check(stateful=True)
