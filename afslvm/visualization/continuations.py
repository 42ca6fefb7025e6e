"""What a model makes of the beginning of a sequence."""

import jax
import jax.numpy as jnp
import numpy as np

from afslvm.models.base import SequenceModel
from afslvm.types import Array, PyTree

MIN_CONTEXT = 5  # the AF paper's samples continue five frames


def context_length(model: SequenceModel, usual: int = MIN_CONTEXT) -> int:
  """Steps that are given: as many as usual, or what the model needs."""
  return max(usual, model.min_context)


def continuations(
  model: SequenceModel,
  variables: PyTree,
  x: Array,
  num_samples: int,
  key: Array,
  num_context: int | None = None,
) -> dict[str, np.ndarray]:
  """Continues the beginning of x [B, T, *event] to its end.

  Args:
    model: any sequence model.
    variables: its variables.
    x: dequantised; longer than its context.
    num_samples: drawn with temperature one.
    key: of the samples.
    num_context: steps that are given; `context_length(model)` by default.

  Returns:
    {'truth', 'mean path', 'sample 1', ...}, each [B, T, *event], the context included. The mean
    path has temperature zero: all noise of the model is at its mean.
  """
  x = jnp.asarray(x)
  context = x[:, : context_length(model) if num_context is None else num_context]
  num_steps = x.shape[1] - context.shape[1]

  @jax.jit
  def draw(variables, context, temperature, key):
    rngs = {'sample': key}
    drawn = model.apply(variables, context, num_steps, temperature, rngs=rngs, method='generate')
    return jnp.concatenate([context, drawn], axis=1)

  rows = {'truth': np.asarray(x), 'mean path': np.asarray(draw(variables, context, 0.0, key))}
  for number in range(1, num_samples + 1):
    drawn = draw(variables, context, 1.0, jax.random.fold_in(key, number))
    rows[f'sample {number}'] = np.asarray(drawn)
  return rows


def from_nothing(
  model: SequenceModel, variables: PyTree, num_steps: int, num_samples: int, key: Array
) -> np.ndarray:
  """Samples [N, num_steps, *event] of a model that needs no context (`min_context` is 0)."""
  nothing = jnp.zeros((num_samples, 0, *model.event_shape))
  drawn = jax.jit(
    lambda variables, key: model.apply(
      variables, nothing, num_steps, 1.0, rngs={'sample': key}, method='generate'
    )
  )
  return np.asarray(drawn(variables, key))
