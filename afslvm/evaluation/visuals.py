"""What a model shows of itself: everything it `sow`s into `visuals`, by label."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from afslvm.models.base import SequenceModel
from afslvm.types import Array, PyTree

ROW_ORDER = ('shift', 'scale', 'y')  # AF paper Fig. 4, from top to bottom; other rows follow


def visual_rows(
  model: SequenceModel, variables: PyTree, x: Array, key: Array
) -> dict[str, np.ndarray]:
  """Everything the model shows of x [B, T, *event], outermost module first.

  Returns:
    {'x': [B, T, *event], '1/shift': [B, T', *event], ...}. Rows may be shorter than x; all end at
    its last step. The number before the slash is the depth of the module that showed the row,
    counted from the data.
  """
  shown = jax.device_get(_show(model, variables, jnp.asarray(x), key))
  rows = {'x': np.asarray(x)}
  for path, value in sorted(_flatten(shown), key=lambda item: (len(item[0]), _rank(item[0][-1]))):
    rows[f'{len(path)}/{path[-1]}'] = value
  return rows


@functools.partial(jax.jit, static_argnums=0)
def _show(model: SequenceModel, variables: PyTree, x: Array, key: Array) -> PyTree:
  _, updated = model.apply(variables, x, rngs={'sample': key}, mutable=['visuals'])
  return updated.get('visuals', {})


def _rank(name: str) -> int:
  return ROW_ORDER.index(name) if name in ROW_ORDER else len(ROW_ORDER)


def _flatten(tree: dict, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], np.ndarray]]:
  """Leaves with their path; `sow` wraps each value in a tuple."""
  leaves = []
  for name, value in tree.items():
    if isinstance(value, dict):
      leaves += _flatten(value, (*path, name))
    else:
      leaves.append(((*path, name), np.asarray(value[-1])))
  return leaves
