"""One optimisation step, the same code on one device or many."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from afslvm.models.base import SequenceModel
from afslvm.training import randomness
from afslvm.training.gradients import Gradient
from afslvm.training.state import TrainState, with_inference
from afslvm.types import Array, PyTree


def _all_finite(tree: PyTree) -> Array:
  return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))


def _moving_average(ema: PyTree, new: PyTree, decay: float, step: Array) -> PyTree:
  """Returns the average after `new`; early ones are shorter, and forget the initialisation."""
  decay = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
  return jax.tree.map(lambda a, b: a + (1.0 - decay) * (b - a), ema, new)


def make_train_step(
  model: SequenceModel,
  gradient: Gradient,
  optimizer: optax.GradientTransformation,
  seed: int,
  ema_decay: float = 0.0,
) -> Callable[[TrainState, dict[str, Array]], tuple[TrainState, dict[str, Array]]]:
  """Returns `(state, batch) -> (state, metrics)`.

  The key of step n is fold_in(stream, n), with the seed's stream for training. A step whose loss or
  gradient isn't finite changes nothing but the counters: finiteness is tested before clipping,
  which would turn one Inf into NaN.

  Args:
    model: any sequence model.
    gradient: from `make_gradient`.
    optimizer: from `make_optimizers`.
    seed: of all randomness in training.
    ema_decay: of the moving average; the state must have been created with one if positive.
  """

  def train_step(state: TrainState, batch: dict[str, Array]):
    key = jax.random.fold_in(randomness.stream(seed, 'training'), state.step)
    outcome, grads = gradient(state.params, state.carried, batch, key, state.step)
    metrics, carried, inference = outcome
    metrics['grad_norm'] = optax.global_norm(grads)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    if inference is not None:
      params = with_inference(model, params, inference)
    # Where the norm is finite, gradients and their squares are, so Adam's moments stay so.
    finite = _all_finite((metrics['loss'], metrics['grad_norm'], carried, inference))
    # Else XLA repeats the whole test inside the update of each parameter: compiling an SLVM then
    # takes several times as long, and the step is no faster.
    finite = jax.lax.optimization_barrier(finite)
    ema = state.ema
    if ema_decay:
      ema = _moving_average(ema, (params, carried.collections), ema_decay, state.step)
    new = (params, carried, opt_state, ema)
    old = (state.params, state.carried, state.opt_state, state.ema)
    params, carried, opt_state, ema = jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, old)
    skipped = jnp.logical_not(finite).astype(jnp.int32)
    metrics['skipped'] = state.skipped + skipped
    metrics['skipped_in_row'] = (state.skipped_in_row + 1) * skipped
    return state.replace(
      step=state.step + 1,
      params=params,
      carried=carried,
      opt_state=opt_state,
      ema=ema,
      skipped=metrics['skipped'],
      skipped_in_row=metrics['skipped_in_row'],
    ), metrics

  return train_step
