"""The gradient of a batch's loss: at once, or part by part."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from afslvm import fast_cpu
from afslvm.objectives.objective import Loss
from afslvm.transforms import preprocessing
from afslvm.types import Array, PyTree

# (params, model_state, batch, key, step) -> ((metrics, new model_state), gradient of the params)
Gradient = Callable[[PyTree, PyTree, dict[str, Array], Array, Array], tuple[Any, PyTree]]


def make_gradient(loss: Loss, dequantisation: str = 'none', accumulate: int = 1) -> Gradient:
  """Builds the gradient of a batch as it is stored.

  Args:
    loss: from `make_loss`.
    dequantisation: one of `preprocessing.DEQUANTISATIONS`, of the whole batch at once.
    accumulate: parts that the batch is gone through in; it must divide the batch.
  """
  differentiated = jax.value_and_grad(loss, has_aux=True)

  def whole(params, model_state, batch, key, step):
    (_, auxiliary), grads = differentiated(params, model_state, batch, key, step)
    return auxiliary, grads

  of_batch = whole if accumulate == 1 else _by_parts(whole, accumulate)

  def gradient(params, model_state, batch, key, step):
    noise_key, sample_key = jax.random.split(key)
    if dequantisation != 'none':
      batch = {**batch, 'x': preprocessing.dequantise(noise_key, batch['x'], dequantisation)}
    (metrics, model_state), grads = of_batch(params, model_state, batch, sample_key, step)
    metrics = {name: value for name, value in metrics.items() if name != 'scored'}
    return (metrics, model_state), grads

  return gradient


def _by_parts(whole: Gradient, parts: int) -> Gradient:
  """`whole` of a batch by going through parts of it, one after another.

  Each counts by its scored steps, so that the sum is that of a mean over all of them.
  """

  def gradient(params, model_state, batch, key, step):
    size = len(batch['mask'])
    # Rows of a part lie as far apart as can be, so that each device has some of every part.
    rows = jnp.arange(size).reshape(-1, parts).T
    split = jax.tree.map(lambda v: jnp.swapaxes(v.reshape(-1, parts, *v.shape[1:]), 0, 1), batch)

    def of_part(model_state, part, index):
      about = {'rows': rows, 'part': index}
      (metrics, model_state), grads = whole(params, model_state, {**part, **about}, key, step)
      return model_state, (metrics, grads)

    def add(carry, inputs):
      model_state, sums, count = carry
      model_state, values = of_part(model_state, *inputs)
      scored = values[0]['scored']
      sums = jax.tree.map(lambda total, value: total + scored * value, sums, values)
      return (model_state, sums, count + scored), None

    first = jax.tree.map(lambda v: v[0], split)
    _, shapes = jax.eval_shape(of_part, model_state, first, jnp.int32(0))
    zeros = jax.tree.map(lambda v: jnp.zeros(v.shape, v.dtype), shapes)
    start = model_state, zeros, jnp.zeros(())
    with fast_cpu.in_loop():
      (model_state, sums, count), _ = jax.lax.scan(add, start, (split, jnp.arange(parts)))
    metrics, grads = jax.tree.map(lambda total: total / jnp.maximum(count, 1.0), sums)
    return (metrics, model_state), grads

  return gradient
