"""Rearrangements of the values of maps, which change no volume.

Space becomes channels and back, in two orders of channels, and channels are split into halves.
"""

import jax.numpy as jnp

from afslvm.types import Array

SQUEEZES = ('blocks', 'channels')


def space_to_depth(x: Array, patch: int) -> Array:
  """[..., H, W, C] -> [..., H/p, W/p, p*p*C]: each p x p patch becomes channels."""
  *lead, h, w, c = x.shape
  x = x.reshape(*lead, h // patch, patch, w // patch, patch, c)
  x = jnp.moveaxis(x, -4, -3)
  return x.reshape(*lead, h // patch, w // patch, patch * patch * c)


def depth_to_space(x: Array, patch: int) -> Array:
  """Undoes `space_to_depth`."""
  *lead, h, w, c = x.shape
  x = x.reshape(*lead, h, w, patch, patch, c // (patch * patch))
  x = jnp.moveaxis(x, -3, -4)
  return x.reshape(*lead, h * patch, w * patch, c // (patch * patch))


def squeeze(x: Array, order: str) -> Array:
  """Returns [..., H, W, C] as [..., H/2, W/2, 4C].

  Args:
    x: H and W are even.
    order: of the channels of the result. With `blocks` channel c of the pixel (row, column) of a
      2 x 2 block becomes channel (2 row + column) C + c; with `channels`, the order of Glow's code,
      channel 4 c + 2 row + column.
  """
  folded = space_to_depth(x, 2)
  return folded if order == 'blocks' else _transposed(folded, 4)


def unsqueeze(x: Array, order: str) -> Array:
  """Undoes `squeeze`."""
  return depth_to_space(x if order == 'blocks' else _transposed(x, x.shape[-1] // 4), 2)


def _transposed(x: Array, rows: int) -> Array:
  """Returns the last axis, read as a matrix of so many rows, in the order of its transpose."""
  matrix = x.reshape(*x.shape[:-1], rows, -1)
  return jnp.swapaxes(matrix, -1, -2).reshape(x.shape)


def halves(x: Array) -> tuple[Array, Array]:
  """Returns the first and the second half of the channels."""
  first, second = jnp.split(x, 2, axis=-1)
  return first, second


def joined(first: Array, second: Array) -> Array:
  """Undoes `halves`."""
  return jnp.concatenate([first, second], axis=-1)
