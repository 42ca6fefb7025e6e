"""The gradient of a batch's loss: at once, or part by part."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from afslvm import fast_cpu
from afslvm.objectives.objective import Carried, Loss, Outcome
from afslvm.transforms import preprocessing
from afslvm.types import Array, PyTree

# (params, carried, batch, key, step) -> (outcome, gradient of the params)
Gradient = Callable[[PyTree, Carried, dict[str, Array], Array, Array], tuple[Outcome, PyTree]]


def make_gradient(loss: Loss, dequantisation: str = 'none', accumulate: int = 1) -> Gradient:
  """Returns the gradient of a batch as it is stored.

  Args:
    loss: from `make_loss`.
    dequantisation: one of `preprocessing.DEQUANTISATIONS`, of the whole batch at once.
    accumulate: parts that the batch is gone through in; it must divide the batch.
  """
  differentiated = jax.value_and_grad(loss, has_aux=True)

  def whole(params, carried, batch, key, step):
    (_, outcome), grads = differentiated(params, carried, batch, key, step)
    return outcome, grads

  of_batch = whole if accumulate == 1 else _by_parts(whole, accumulate)

  def gradient(params, carried, batch, key, step):
    noise_key, sample_key = jax.random.split(key)
    if dequantisation != 'none':
      batch = {**batch, 'x': preprocessing.dequantise(noise_key, batch['x'], dequantisation)}
    outcome, grads = of_batch(params, carried, batch, sample_key, step)
    metrics = {name: value for name, value in outcome.metrics.items() if name != 'scored'}
    return outcome._replace(metrics=metrics), grads

  return gradient


def _by_parts(whole: Gradient, parts: int) -> Gradient:
  """`whole` of a batch by going through parts of it, one after another.

  Each counts by its scored steps, so that the sum is that of a mean over all of them.
  """

  def gradient(params, carried, batch, key, step):
    size = len(batch['mask'])
    # Rows of a part lie as far apart as can be, so that each device has some of every part.
    rows = jnp.arange(size).reshape(-1, parts).T
    split = jax.tree.map(lambda v: jnp.swapaxes(v.reshape(-1, parts, *v.shape[1:]), 0, 1), batch)

    def of_part(carried, part, index):
      about = {'rows': rows, 'part': index}
      outcome, grads = whole(params, carried, {**part, **about}, key, step)
      return outcome.carried, (outcome.metrics, grads)

    def add(carry, inputs):
      carried, sums, count = carry
      carried, values = of_part(carried, *inputs)
      scored = values[0]['scored']
      sums = jax.tree.map(lambda total, value: total + scored * value, sums, values)
      return (carried, sums, count + scored), None

    first = jax.tree.map(lambda v: v[0], split)
    _, shapes = jax.eval_shape(of_part, carried, first, jnp.int32(0))
    zeros = jax.tree.map(lambda v: jnp.zeros(v.shape, v.dtype), shapes)
    start = carried, zeros, jnp.zeros(())
    with fast_cpu.in_loop():
      (carried, sums, count), _ = jax.lax.scan(add, start, (split, jnp.arange(parts)))
    metrics, grads = jax.tree.map(lambda total: total / jnp.maximum(count, 1.0), sums)
    return Outcome(metrics, carried), grads

  return gradient
