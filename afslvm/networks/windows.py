"""Convolutions on frames, and the gradients of their kernels, as matrix products over windows.

The same sums in forms that are fast on CPU, where `fast_cpu.is_used` says so: kernels' gradients
and convolutions in loops for `networks/conv.py`, strided convolutions for `strided.py`.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from afslvm.types import Array

# Operations of these forms, copies and all, have it in their names (`performance/slowest.py`).
SCOPE = 'over_windows'

_FRAMES = (0, 3, 1, 2)  # where batch, channels, height and width are in [N, H, W, C]

# Values of windows, and of what they are multiplied by, in a step of the sum: these stay in the
# caches. And input channels below which windows gain nothing. See docs/performance.md.
_VALUES_IN_A_STEP = 2**19
_MIN_CHANNELS = 32
_MIN_WORK = 0.25  # of the pixels that a step could take


def is_plain(params: dict[str, Any]) -> bool:
  """Whether a convolution on frames is neither dilated, grouped nor cropped.

  Args:
    params: of `lax.conv_general_dilated_p`.
  """
  numbers = params['dimension_numbers']
  factors = {*params['lhs_dilation'], *params['rhs_dilation']}
  groups = {params['feature_group_count'], params['batch_group_count']}
  padded = min(itertools.chain(*params['padding'])) >= 0
  return factors | groups == {1} and padded and numbers.lhs_spec == numbers.out_spec == _FRAMES


@jax.named_scope(SCOPE)
def as_product(x: Array, kernel: Array, strides: Sequence[int] = (1, 1), **named: Any) -> Array:
  """A convolution without padding as one matrix product and shifted copies of few channels.

  Copies are of the windows that the product takes, or of what it gives, which are then summed.

  Args:
    x: [N, H, W, C].
    kernel: [h, w, C, features].
    strides: down and to the right.
    **named: options of `lax.dot_general`.

  Returns:
    [N, H', W', features].
  """
  *size, channels, features = kernel.shape

  def product(a, b):
    return jax.lax.dot_general(a, b, (((3,), (0,)), ((), ())), **named)

  if features < channels and set(strides) == {1}:
    y = product(x, kernel.transpose(2, 0, 1, 3).reshape(channels, -1))
    return sum(_shifted(jnp.split(y, math.prod(size), axis=-1), size))
  copies = _shifted([x] * math.prod(size), size, strides)
  return product(jnp.concatenate(copies, axis=-1), kernel.reshape(-1, features))


def _shifted(
  maps: Sequence[Array], size: Sequence[int], strides: Sequence[int] = (1, 1)
) -> list[Array]:
  """Of each map [N, H, W, C], one for each tap of a kernel of `size`, what that tap meets."""
  height, width = size
  bottom, end = maps[0].shape[1] - height + 1, maps[0].shape[2] - width + 1
  taps = itertools.product(range(height), range(width))
  down, right = strides
  return [
    y[:, i : i + bottom : down, j : j + end : right] for y, (i, j) in zip(maps, taps, strict=True)
  ]


@jax.named_scope(SCOPE)
def in_loop(x: Array, kernel: Array, params: dict[str, Any]) -> Array | None:
  """A convolution as a product: in loops XLA computes it on CPU ten to thirty times slower.

  Args:
    x: [N, H, W, C].
    kernel: [h, w, C, features], in the order that `params` say.
    params: of `lax.conv_general_dilated_p`.

  Returns:
    [N, H', W', features]; None where it isn't plain.
  """
  if not is_plain(params):
    return None
  last, channels, *taps = params['dimension_numbers'].rhs_spec
  x = jnp.pad(x, [(0, 0), *params['padding'], (0, 0)])
  named = {name: params[name] for name in ('precision', 'preferred_element_type')}
  return as_product(x, kernel.transpose(*taps, channels, last), params['window_strides'], **named)


@jax.named_scope(SCOPE)
def kernel_gradient(x: Array, kernel: Array, dy: Array, params: dict[str, Any]) -> Array | None:
  """Of a convolution, as products with windows of x or of dy, whichever has fewer channels.

  A few rows or images at a time, and in a loop: its steps take the same memory, which stays in the
  caches, where of an unrolled sum several would be computed at once.

  Args:
    x: [N, H, W, C].
    kernel: [h, w, C, features], in the order that `params` say.
    dy: the gradient of what the convolution gives, [N, H', W', features].
    params: of `lax.conv_general_dilated_p`.

  Returns:
    As `kernel`; None where the convolution isn't plain, or this no faster: with strides, of few
    channels, or where no divisor of the images or rows lets a step have work enough.
  """
  strided = set(params['window_strides']) != {1}
  if strided or x.shape[-1] < _MIN_CHANNELS or not is_plain(params):
    return None
  last, channels, *taps = params['dimension_numbers'].rhs_spec
  size, padding = [kernel.shape[tap] for tap in taps], params['padding']
  of_output = dy.shape[-1] < x.shape[-1]
  few, many = (dy, x) if of_output else (x, dy)
  if of_output:  # tap i takes x to the output i pixels before: x meets its windows turned around
    padding = [(n - 1 - low, n - 1 - high) for n, (low, high) in zip(size, padding, strict=True)]
  step = _images_and_rows(many.shape, size[0], size[1] * few.shape[-1])
  if step is None:
    return None
  found = _windows_against(_pad(few, padding), many, size, step, params['precision'])
  if of_output:
    found, last, channels = jnp.flip(found, (1, 2)), channels, last
  return jnp.moveaxis(found, (0, 1, 2, 3), (last, *taps, channels)).astype(kernel.dtype)


def _pad(x: Array, padding: Sequence[tuple[int, int]]) -> Array:
  """Adds to height and width of [N, H, W, C], or takes away where it's negative."""
  edges = [(0, 0, 0), *((low, high, 0) for low, high in padding), (0, 0, 0)]
  return jax.lax.pad(x, jnp.zeros((), x.dtype), edges)


def _images_and_rows(shape: Sequence[int], height: int, of_row: int) -> tuple[int, int] | None:
  """How many of either a step of the sum takes, of maps of `shape`; None if these are too few.

  Args:
    shape: [N, H, W, M].
    height: of the kernel.
    of_row: values of a row of the kernel, in all channels of the windows.
  """
  count, rows, width, channels = shape
  # What a step adds to, of the kernel's size, is no larger than what it multiplies.
  values = max(_VALUES_IN_A_STEP, channels * height * of_row)
  pixels = values // (channels + of_row)
  found = _divisor(count, pixels // (rows * width)), _divisor(rows, pixels // width)
  enough = math.prod(found) * width >= _MIN_WORK * min(pixels, count * rows * width)
  return found if enough else None


def _divisor(count: int, most: int) -> int:
  """The largest of `count` that is at most `most`, or one."""
  return max(n for n in range(1, count + 1) if count % n == 0 and n <= max(1, most))


def _windows_against(
  few: Array, many: Array, size: Sequence[int], step: tuple[int, int], precision: Any
) -> Array:
  """Sums over images and pixels of `many` [N, H, W, M] times windows of `few`: [M, h, w, F].

  Windows are of one row, which those of several are shifted by, so that little is copied.

  Args:
    few: [N, H + h - 1, W + w - 1, F].
    many: [N, H, W, M].
    size: h, w.
    step: images and rows at a time, which divide N and H.
    precision: of the products.
  """
  count, height, width, channels = many.shape
  of_row = size[1] * few.shape[-1]
  images, rows = step
  strips = height // rows

  def add(total: Array, n: Array) -> tuple[Array, None]:
    place = (n // strips * images, n % strips * rows, 0, 0)
    seen = jax.lax.dynamic_slice(few, place, (images, rows + size[0] - 1, *few.shape[2:]))
    windows = jnp.concatenate(_shifted([seen] * size[1], (1, size[1])), axis=-1)
    middle = jax.lax.dynamic_slice(many, place, (images, rows, width, channels))
    # XLA would make these copies again for each product.
    windows, turned = jax.lax.optimization_barrier((windows, middle.reshape(-1, channels).T))
    parts = [windows[:, i : i + rows].reshape(-1, of_row) for i in range(size[0])]
    options = {'precision': precision, 'preferred_element_type': total.dtype}
    return total + jnp.stack([jnp.matmul(turned, part, **options) for part in parts], 1), None

  start = jnp.zeros((channels, size[0], of_row), jnp.promote_types(few.dtype, jnp.float32))
  total, _ = jax.lax.scan(add, start, jnp.arange(count // images * strips))
  return total.reshape(channels, *size, -1)
