"""Everything that training changes, as one tree; what is checkpointed is exactly this."""

import jax
import jax.numpy as jnp
import optax
from flax import struct

from afslvm.models.base import SequenceModel
from afslvm.training import randomness
from afslvm.training.optimizer import make_optimizer
from afslvm.training.settings import OptimizerSettings, TrainSettings
from afslvm.types import Array, PyTree


class TrainState(struct.PyTreeNode):
  """The parameter tree, the optimiser's and the checkpoint's are the same tree."""

  step: Array  # int32 [], batches consumed, the skipped ones included
  params: PyTree
  model_state: PyTree  # every other collection of the model, `batch_stats`
  opt_state: PyTree
  ema: PyTree  # moving average of (params, model_state), or () without one
  skipped: Array  # int32 [], non-finite steps so far
  skipped_in_row: Array  # int32 [], since the last finite one

  @property
  def evaluated(self) -> PyTree:
    """The variables to evaluate: the moving average where there is one."""
    params, model_state = self.ema or (self.params, self.model_state)
    return {'params': params, **model_state}


def create_state(
  model: SequenceModel,
  optimizer: optax.GradientTransformation,
  x: Array,
  seed: int,
  use_ema: bool = False,
  stream_rows: int = 0,
) -> TrainState:
  """A fresh state; `x` [B, T, *event] is dequantised data for data-dependent initialisation.

  With `stream_rows` the model's own state after each batch is part of it.
  """
  params_key, sample_key = jax.random.split(randomness.stream(seed, 'initialisation'))
  variables = model.init({'params': params_key, 'sample': sample_key}, x, method='initialize')
  params = variables.pop('params', {})
  model_state = {name: variables[name] for name in variables if name != 'visuals'}
  averaged = dict(model_state)
  if stream_rows:
    model_state['carry'] = model.apply({'params': params}, stream_rows, method='empty_carry')
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=params,
    model_state=model_state,
    opt_state=optimizer.init(params),
    ema=jax.tree.map(jnp.copy, (params, averaged)) if use_ema else (),
    skipped=jnp.zeros((), jnp.int32),
    skipped_in_row=jnp.zeros((), jnp.int32),
  )


def abstract_state(
  model: SequenceModel,
  train: TrainSettings,
  settings: OptimizerSettings,
  length: int,
  sharding: jax.sharding.Sharding,
  stream_rows: int = 0,
) -> TrainState:
  """Shapes, dtypes and shardings of the state, without computing anything."""
  optimizer = make_optimizer(settings, train.num_steps)
  x = jax.ShapeDtypeStruct((1, length, *model.event_shape), jnp.float32)
  state = jax.eval_shape(
    lambda x: create_state(model, optimizer, x, 0, settings.ema_decay > 0, stream_rows), x
  )
  return jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), state
  )
