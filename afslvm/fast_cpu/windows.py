"""Convolutions on frames, and the gradients of their kernels, as matrix products over windows.

A window is what a kernel meets at one pixel: its height x width x channels values.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from afslvm.types import Array

# Operations of these forms, copies included, have it in their names.
SCOPE = 'over_windows'

# A step of the sum takes so many values of windows and of what they are multiplied by; they stay in
# the caches. Windows gain nothing for fewer input channels than the second number, nor in steps
# that take a smaller share than the third of the pixels that they could.
_VALUES_IN_A_STEP = 2**19
_MIN_CHANNELS = 32
_MIN_WORK = 0.25


@jax.named_scope(SCOPE)
def convolve(
  x: Array,
  kernel: Array,
  strides: Sequence[int],
  edges: Sequence[tuple[int, int]],
  **options: Any,
) -> Array:
  """Returns a convolution, as `as_product` does, of frames with `edges` of zeros.

  Args:
    x: [N, H, W, C].
    kernel: [h, w, C, features].
    strides: down and to the right.
    edges: rows added at (top, bottom), columns at (left, right).
    **options: of `lax.dot_general`.
  """
  return as_product(_pad(x, edges), kernel, strides, **options)


@jax.named_scope(SCOPE)
def as_product(x: Array, kernel: Array, strides: Sequence[int] = (1, 1), **options: Any) -> Array:
  """Returns a convolution without padding, [N, H', W', features], as one matrix product.

  Either the windows of x are copied, which the product takes, or the product is of single pixels
  and what it gives is shifted and summed: whichever has fewer channels.

  Args:
    x: [N, H, W, C].
    kernel: [h, w, C, features].
    strides: down and to the right.
    **options: of `lax.dot_general`.
  """
  *size, channels, features = kernel.shape

  def product(a, b):
    return jax.lax.dot_general(a, b, (((3,), (0,)), ((), ())), **options)

  if features < channels and set(strides) == {1}:
    y = product(x, kernel.transpose(2, 0, 1, 3).reshape(channels, -1))
    return sum(_shifted(jnp.split(y, math.prod(size), axis=-1), size))
  copies = _shifted([x] * math.prod(size), size, strides)
  return product(jnp.concatenate(copies, axis=-1), kernel.reshape(-1, features))


def _shifted(
  maps: Sequence[Array], size: Sequence[int], strides: Sequence[int] = (1, 1)
) -> list[Array]:
  """Returns, of the n-th map [N, H, W, C], what the n-th tap of a kernel of `size` meets."""
  height, width = size
  bottom, end = maps[0].shape[1] - height + 1, maps[0].shape[2] - width + 1
  taps = itertools.product(range(height), range(width))
  down, right = strides
  return [
    y[:, i : i + bottom : down, j : j + end : right] for y, (i, j) in zip(maps, taps, strict=True)
  ]


def are_worthwhile(x: Sequence[int], y: Sequence[int], kernel: Sequence[int]) -> bool:
  """Returns whether `kernel_gradient` is fast for arrays of these shapes."""
  return x[-1] >= _MIN_CHANNELS and _images_and_rows(x, y, kernel) is not None


@jax.named_scope(SCOPE)
def kernel_gradient(
  x: Array, kernel: Array, dy: Array, edges: Sequence[tuple[int, int]], precision: Any = None
) -> Array:
  """Returns the gradient of the kernel of a convolution with stride 1, as products with windows.

  The windows are those of x or of dy, whichever has fewer channels. The sum goes over a few rows or
  images at a time in a loop, whose steps take the same memory, which stays in the caches; of an
  unrolled sum XLA would compute several terms at once.

  Args:
    x: [N, H, W, C].
    kernel: [h, w, C, features]; only its shape and dtype matter.
    dy: the gradient of what the convolution gives, [N, H', W', features].
    edges: rows added to x at (top, bottom), columns at (left, right).
    precision: of the products.
  """
  of_output = dy.shape[-1] < x.shape[-1]
  few, many = (dy, x) if of_output else (x, dy)
  size = kernel.shape[:2]
  if of_output:  # tap i takes x to the output i pixels before: x meets its windows turned around
    edges = [(n - 1 - low, n - 1 - high) for n, (low, high) in zip(size, edges, strict=True)]
  step = _images_and_rows(x.shape, dy.shape, kernel.shape)
  found = _windows_against(_pad(few, edges), many, size, step, precision)
  if of_output:  # [C, h, w, features], else [features, h, w, C]
    found = jnp.moveaxis(jnp.flip(found, (1, 2)), 0, 2)
  else:
    found = found.transpose(1, 2, 3, 0)
  return found.astype(kernel.dtype)


def _pad(x: Array, edges: Sequence[tuple[int, int]]) -> Array:
  """Adds zeros to height and width of [N, H, W, C], or takes pixels away where it's negative."""
  config = [(0, 0, 0), *((low, high, 0) for low, high in edges), (0, 0, 0)]
  return jax.lax.pad(x, jnp.zeros((), x.dtype), config)


def _images_and_rows(
  x: Sequence[int], y: Sequence[int], kernel: Sequence[int]
) -> tuple[int, int] | None:
  """Returns how many images and rows a step of the sum takes, or None if these are too few.

  Args:
    x: the shape of the input, [N, H, W, C].
    y: that of the output, [N, H', W', features].
    kernel: that of the kernel, [h, w, C, features].
  """
  (count, rows, width, channels), few = (x, y[-1]) if y[-1] < x[-1] else (y, x[-1])
  height, of_row = kernel[0], kernel[1] * few
  # What a step adds to, of the kernel's size, is no larger than what it multiplies.
  values = max(_VALUES_IN_A_STEP, channels * height * of_row)
  pixels = values // (channels + of_row)
  found = _divisor(count, pixels // (rows * width)), _divisor(rows, pixels // width)
  enough = math.prod(found) * width >= _MIN_WORK * min(pixels, count * rows * width)
  return found if enough else None


def _divisor(count: int, most: int) -> int:
  """Returns the largest divisor of `count` that is at most `most`, or one."""
  return max(n for n in range(1, count + 1) if count % n == 0 and n <= max(1, most))


def _windows_against(
  few: Array, many: Array, size: Sequence[int], step: tuple[int, int], precision: Any
) -> Array:
  """Returns sums over images and pixels of `many` times windows of `few`, [M, h, w, F].

  Only windows of one row are copied; the product with each row of the kernel takes a slice of them.

  Args:
    few: [N, H + h - 1, W + w - 1, F].
    many: [N, H, W, M].
    size: h and w of the kernel.
    step: images and rows that are taken at a time, which divide N and H.
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
