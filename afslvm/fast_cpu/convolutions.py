"""3 x 3 convolutions and the like: their gradients, and in loops themselves, as matrix products."""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax

from afslvm.fast_cpu import choice, windows
from afslvm.types import Array

# From so many values of input and output on, the gradient of the kernel is a product over windows.
_LARGE = 2**20

_FRAMES = jax.lax.conv_dimension_numbers((1,) * 4, (1,) * 4, ('NHWC', 'HWIO', 'NHWC'))

Padding = tuple[tuple[int, int], ...]


def convolve(
  x: Array, kernel: Array, window_strides: Sequence[int], padding: Any, **options: Any
) -> Array:
  """Returns what `lax.conv_general_dilated` returns for the same arguments.

  In a loop it is a matrix product, whose gradients are products. Outside of loops the gradient of
  a large kernel is a product, unless the batch may lie on several devices, whose parts would have
  to move; such a convolution has no forward mode (`jax.jvp`). All others are the plain operator.
  """
  plain = functools.partial(
    jax.lax.conv_general_dilated, window_strides=window_strides, padding=padding, **options
  )
  edges = _edges(x, kernel, window_strides, padding, options)
  if edges is None:
    return plain(x, kernel)
  if choice.is_in_loop():
    named = {k: options.get(k) for k in ('precision', 'preferred_element_type')}
    product = functools.partial(windows.convolve, strides=window_strides, edges=edges, **named)
    # Gradients make the windows again, which are several times as large as x, for every step.
    return jax.checkpoint(product, prevent_cse=False)(x, kernel)
  if set(window_strides) == {1} and jax.device_count() == 1:
    y = jax.eval_shape(plain, x, kernel)
    is_large = x.size + y.size > _LARGE
    if is_large and windows.are_worthwhile(x.shape, y.shape, kernel.shape):
      return _with_gradient_over_windows(plain, edges, options.get('precision'), x, kernel)
  return plain(x, kernel)


def _edges(
  x: Array, kernel: Array, strides: Sequence[int], padding: Any, options: dict[str, Any]
) -> Padding | None:
  """Returns how many pixels are added to (top, bottom), (left, right) of frames [N, H, W, C].

  It returns None for a convolution that is another than of frames with a kernel
  [h, w, C, features], or one that is dilated, grouped or cropped.
  """
  layout = options.get('dimension_numbers')
  numbers = jax.lax.conv_dimension_numbers(x.shape, kernel.shape, layout)
  dilations = (options.get(name) or () for name in ('lhs_dilation', 'rhs_dilation'))
  groups = (options.get(name, 1) for name in ('feature_group_count', 'batch_group_count'))
  if numbers != _FRAMES or {*itertools.chain(*dilations), *groups} != {1}:
    return None
  if isinstance(padding, str):
    padding = jax.lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], strides, padding)
  return tuple(padding) if min(itertools.chain(*padding)) >= 0 else None


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _with_gradient_over_windows(
  plain: Callable[[Array, Array], Array], edges: Padding, precision: Any, x: Array, kernel: Array
) -> Array:
  """Returns `plain(x, kernel)`.

  XLA's own gradient of the kernel is a convolution whose kernel is as large as the maps and as
  long as the batch. It takes several times as long as the others on CPU, above all for transposing
  what no longer is in the caches.
  """
  return plain(x, kernel)


def _forward(plain, edges, precision, x, kernel):
  return plain(x, kernel), (x, kernel)


def _backward(plain, edges, precision, inputs, dy):
  x, kernel = inputs
  (dx,) = jax.linear_transpose(lambda x: plain(x, kernel), x)(dy)
  return dx, windows.kernel_gradient(x, kernel, dy, edges, precision)


_with_gradient_over_windows.defvjp(_forward, _backward)
