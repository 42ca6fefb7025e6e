"""Composition of transforms: x = f_1(f_2(... f_M(y))), log-determinants added (AF paper Eq. 9)."""

from collections.abc import Callable
from typing import NamedTuple

from afslvm.types import Array

Direction = Callable[[Array], tuple[Array, Array]]


class Transform(NamedTuple):
  """A bound transform: each direction maps a value to `(value, log_det of itself)`."""

  forward: Direction
  inverse: Direction


def _compose(directions: list[Direction]) -> Direction:
  def composed(value: Array) -> tuple[Array, Array]:
    total: Array | float = 0.0
    for direction in directions:
      value, log_det = direction(value)
      total = total + log_det
    return value, total  # type: ignore[return-value]

  return composed


def chain(*transforms: Transform) -> Transform:
  """Composes transforms; the first is nearest the data, as in the AF paper's numbering.

  Raises:
    ValueError: if no transform is given.
  """
  if not transforms:
    raise ValueError('chain() needs at least one transform')
  return Transform(
    forward=_compose([t.forward for t in reversed(transforms)]),
    inverse=_compose([t.inverse for t in transforms]),
  )
