"""Everything that training changes, as one tree; what is checkpointed is exactly this."""

import jax
import jax.numpy as jnp
import optax
from flax import struct

from afslvm.models.base import SOWN, SequenceModel
from afslvm.objectives.objective import Carried, OnlineSettings
from afslvm.training import randomness
from afslvm.training.optimizer import make_optimizers
from afslvm.training.settings import OptimizerSettings, TrainSettings
from afslvm.types import Array, PyTree


class TrainState(struct.PyTreeNode):
  """The parameter tree, the optimiser's and the checkpoint's are the same tree."""

  step: Array  # int32 [], batches consumed, the skipped ones included
  params: PyTree
  carried: Carried  # what else goes on from batch to batch, such as `batch_stats`
  opt_state: PyTree
  ema: PyTree  # moving average of (params, collections), or () without one
  skipped: Array  # int32 [], non-finite steps so far
  skipped_in_row: Array  # int32 [], since the last finite one

  @property
  def evaluated(self) -> PyTree:
    """The variables to evaluate: the moving average where there is one."""
    params, collections = self.ema or (self.params, self.carried.collections)
    return {'params': params, **collections}


def create_state(
  model: SequenceModel,
  optimizer: optax.GradientTransformation,
  x: Array,
  seed: int,
  use_ema: bool = False,
  stream_rows: int = 0,
  online: OnlineSettings | None = None,
  mask: Array | None = None,
) -> TrainState:
  """Returns the state before the first step.

  Args:
    model: any sequence model.
    optimizer: of the parameters.
    x: [B, T, *event], dequantised data for data-dependent initialisation.
    seed: of the parameters.
    use_ema: whether a moving average is kept.
    stream_rows: rows of a batch whose model state goes on in the next one; 0 if none does.
    online: of `em_online`, whose optimiser's state is part of it.
    mask: bool [B, T], False at padding of x.
  """
  params_key, sample_key = jax.random.split(randomness.stream(seed, 'initialisation'))
  variables = model.init({'params': params_key, 'sample': sample_key}, x, mask, method='initialize')
  params = variables.pop('params', {})
  collections = {name: variables[name] for name in variables if name not in SOWN}
  carried = Carried(collections)
  if stream_rows:
    stream = model.apply({'params': params}, stream_rows, method='initial_state')
    carried = carried._replace(stream=jax.tree.map(jnp.zeros_like, stream))
  if online is not None:
    carried = carried._replace(optimizer=online.optimizer.init(inference_of(model, params)))
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=params,
    carried=carried,
    opt_state=optimizer.init(params),
    ema=jax.tree.map(jnp.copy, (params, collections)) if use_ema else (),
    skipped=jnp.zeros((), jnp.int32),
    skipped_in_row=jnp.zeros((), jnp.int32),
  )


def inference_of(model: SequenceModel, params: PyTree) -> PyTree:
  """Returns the inference's part of a model's parameters."""
  for name in model.core_path:
    params = params[name]
  return params['inference']


def with_inference(model: SequenceModel, params: PyTree, inference: PyTree) -> PyTree:
  """Returns a model's parameters with another part for the inference."""

  def put(params: PyTree, path: tuple[str, ...]) -> PyTree:
    inner = put(params[path[0]], path[1:]) if len(path) > 1 else inference
    return {**params, path[0]: inner}

  return put(params, (*model.core_path, 'inference'))


def abstract_state(
  model: SequenceModel,
  train: TrainSettings,
  settings: OptimizerSettings,
  length: int,
  sharding: jax.sharding.Sharding,
  stream_rows: int = 0,
  is_online: bool = False,
) -> TrainState:
  """Returns shapes, dtypes and shardings of the state, without computing anything."""
  optimizer, online = make_optimizers(settings, train.num_steps, is_online)
  x = jax.ShapeDtypeStruct((1, length, *model.event_shape), jnp.float32)
  state = jax.eval_shape(
    lambda x: create_state(model, optimizer, x, 0, settings.ema_decay > 0, stream_rows, online), x
  )
  return jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), state
  )
