"""Rearrangements of maps, against loops over rows, columns and channels."""

import numpy as np
import pytest

from afslvm.transforms import reshape

every_order = pytest.mark.parametrize('order', reshape.SQUEEZES)


def maps(*shape):
  """Different values everywhere."""
  return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


@pytest.mark.parametrize(('shape', 'patch'), [((4, 6, 3), 2), ((2, 3, 6, 9, 1), 3), ((5, 5, 2), 1)])
def test_depth_to_space_undoes_space_to_depth(shape, patch):
  x = maps(*shape)
  folded = reshape.space_to_depth(x, patch)
  h, w, c = shape[-3:]
  assert folded.shape == (*shape[:-3], h // patch, w // patch, patch * patch * c)
  np.testing.assert_array_equal(reshape.depth_to_space(folded, patch), x)


def test_space_to_depth_keeps_patches_together():
  x = maps(4, 6, 2)
  folded = reshape.space_to_depth(x, 2)
  for i in range(2):
    for j in range(3):
      patch = x[2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
      np.testing.assert_array_equal(folded[i, j], patch.ravel())


def looped(x, place):
  """A squeeze by hand: place(row, column, c, C) is where a value of a 2 x 2 block goes."""
  h, w, channels = x.shape
  y = np.full((h // 2, w // 2, 4 * channels), np.nan, np.float32)
  for i, j, c in np.ndindex(x.shape):
    y[i // 2, j // 2, place(i % 2, j % 2, c, channels)] = x[i, j, c]
  return y


PLACES = {
  'blocks': lambda row, column, c, channels: (2 * row + column) * channels + c,
  'channels': lambda row, column, c, channels: 4 * c + 2 * row + column,
}


@every_order
def test_squeezed_channels_are_in_their_order(order):
  x = maps(4, 6, 3)
  np.testing.assert_array_equal(reshape.squeeze(x, order), looped(x, PLACES[order]))


def test_the_order_of_channels_is_that_of_glows_code():
  """tensor2tensor's `glow_ops.squeeze`, line for line."""
  x = maps(5, 4, 6, 3)
  y = x.reshape(-1, 4 // 2, 2, 6 // 2, 2, 3)
  y = np.transpose(y, [0, 1, 3, 5, 2, 4])
  y = y.reshape(-1, 4 // 2, 6 // 2, 3 * 2 * 2)
  np.testing.assert_array_equal(reshape.squeeze(x, 'channels'), y)


@every_order
@pytest.mark.parametrize('shape', [(2, 4, 1), (5, 4, 6, 3), (2, 3, 6, 2, 2)])
def test_unsqueeze_undoes_squeeze(order, shape):
  """Whatever the axes before the maps."""
  x = maps(*shape)
  squeezed = reshape.squeeze(x, order)
  assert squeezed.shape == (*shape[:-3], shape[-3] // 2, shape[-2] // 2, 4 * shape[-1])
  np.testing.assert_array_equal(reshape.unsqueeze(squeezed, order), x)


def test_halves_and_joined_undo_each_other():
  x = maps(2, 3, 3, 6)
  first, second = reshape.halves(x)
  np.testing.assert_array_equal(first, x[..., :3])
  np.testing.assert_array_equal(second, x[..., 3:])
  np.testing.assert_array_equal(reshape.joined(first, second), x)
