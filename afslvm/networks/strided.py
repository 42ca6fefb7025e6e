"""4 x 4 convolutions with stride 2, and those that cover a whole map, on [N, H, W, C].

On CPU the strided ones are computed as matrix products over 2 x 2 windows of 2 x 2 blocks, which is
the same sum in another order and several times faster there, above all its gradient; elsewhere by
the plain operators. Kernels are stored as [4, 4, in, out] either way.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from afslvm import fast_cpu
from afslvm.networks import conv, windows
from afslvm.transforms import preprocessing
from afslvm.types import Array

_LAYOUT = ('NHWC', 'HWIO', 'NHWC')


def downsample(x: Array, kernel: Array, blocks: bool, precision: str | None = None) -> Array:
  """Convolution with stride 2 and padding 1: [N, H, W, C] -> [N, H/2, W/2, features]."""
  if not blocks:
    padding = [(1, 1), (1, 1)]
    return jax.lax.conv_general_dilated(
      x, kernel, (2, 2), padding, dimension_numbers=_LAYOUT, precision=precision
    )
  x = preprocessing.space_to_depth(jnp.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)]), 2)
  inputs, outputs = kernel.shape[2:]
  # Tap 2i + a of the kernel is tap i on the a-th sub-pixel of a block.
  kernel = kernel.reshape(2, 2, 2, 2, inputs, outputs).transpose(0, 2, 1, 3, 4, 5)
  return windows.as_product(x, kernel.reshape(2, 2, 4 * inputs, outputs))


def upsample(x: Array, kernel: Array, blocks: bool, precision: str | None = None) -> Array:
  """Transposed convolution with stride 2 and padding 1: [N, H, W, C] -> [N, 2H, 2W, features]."""
  if not blocks:
    return jax.lax.conv_transpose(
      x, kernel, (2, 2), 'SAME', dimension_numbers=_LAYOUT, precision=precision
    )
  n, height, width, inputs = x.shape
  outputs = kernel.shape[3]
  # Output 2i + a is a 2 x 2 convolution of the input from i - 1 + a on, with taps a and a + 2.
  kernel = kernel.reshape(2, 2, 2, 2, inputs, outputs).transpose(0, 2, 4, 1, 3, 5)
  x = jnp.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
  y = windows.as_product(x, kernel.reshape(2, 2, inputs, 4 * outputs))
  y = y.reshape(n, height + 1, width + 1, 2, 2, outputs)
  rows = jnp.stack([y[:, a : a + height, :, a] for a in (0, 1)], axis=2)  # [n, H, 2, W+1, 2, o]
  both = jnp.stack([rows[:, :, :, b : b + width, b] for b in (0, 1)], axis=4)
  return both.reshape(n, 2 * height, 2 * width, outputs)


class StridedConv(nn.Module):
  """A 4 x 4 convolution with stride 2 and padding 1, or its transpose.

  Attributes:
    features: channels of the output.
    transposed: doubles the size instead of halving it.
    initialization: one of `conv.INITIALIZATIONS`.
    dtype: of the multiplications; parameters are float32.
    precision: of the multiplications on accelerators, 'highest' where float32 must be float32.
  """

  features: int
  transposed: bool = False
  initialization: str = 'lecun'
  dtype: Any = jnp.float32
  precision: str | None = None

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """[N, H, W, C] -> [N, H/2, W/2, features], or [N, 2H, 2W, features]."""
    shape = (4, 4, x.shape[-1], self.features)
    # An output of the transpose sums over 4 of the 16 taps.
    fan_in = x.shape[-1] * (4 if self.transposed else 16)
    kernel = self.param('kernel', conv.kernel_init(self.initialization), shape)
    bias = self.param('bias', conv.bias_init(self.initialization, fan_in), (self.features,))
    function = upsample if self.transposed else downsample
    x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
    y = function(x, kernel, fast_cpu.is_used(), self.precision)
    return y + bias.astype(self.dtype)


class WholeMapConv(nn.Module):
  """A convolution as large as the map, or the transposed one that makes a map from one point.

  Attributes:
    features: channels of the output.
    size: (H, W) of the map to make; () where one is given.
    initialization: one of `conv.INITIALIZATIONS`.
    dtype: of the multiplications; parameters are float32.
  """

  features: int
  size: tuple[int, ...] = ()
  initialization: str = 'lecun'
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """[N, H, W, C] -> [N, features], or [N, C] -> [N, *size, features]."""
    size = self.size or x.shape[1:3]
    shape = (*size, x.shape[-1], self.features)
    fan_in = x[0].size
    kernel = self.param('kernel', conv.kernel_init(self.initialization), shape)
    bias = self.param('bias', conv.bias_init(self.initialization, fan_in), (self.features,))
    sum_over = 'nc,hwco->nhwo' if self.size else 'nhwc,hwco->no'
    y = jnp.einsum(sum_over, x.astype(self.dtype), kernel.astype(self.dtype))
    return y + bias.astype(self.dtype)
