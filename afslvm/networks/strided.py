"""4 x 4 convolutions with stride 2, and those that cover a whole map, on [N, H, W, C]."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from afslvm import fast_cpu
from afslvm.networks import conv
from afslvm.types import Array

_LAYOUT = ('NHWC', 'HWIO', 'NHWC')


def downsample(x: Array, kernel: Array, precision: str | None = None) -> Array:
  """Returns the convolution of [N, H, W, C] with stride 2 and padding 1, [N, H/2, W/2, features].

  The kernel is [4, 4, C, features].
  """
  if fast_cpu.is_used():
    return fast_cpu.downsample(x, kernel, precision)
  padding = [(1, 1), (1, 1)]
  return jax.lax.conv_general_dilated(
    x, kernel, (2, 2), padding, dimension_numbers=_LAYOUT, precision=precision
  )


def upsample(x: Array, kernel: Array, precision: str | None = None) -> Array:
  """Returns the transposed convolution with stride 2 and padding 1, [N, 2H, 2W, features].

  `x` is [N, H, W, C], the kernel [4, 4, C, features].
  """
  if fast_cpu.is_used():
    return fast_cpu.upsample(x, kernel, precision)
  return jax.lax.conv_transpose(
    x, kernel, (2, 2), 'SAME', dimension_numbers=_LAYOUT, precision=precision
  )


class StridedConv(nn.Module):
  """A 4 x 4 convolution with stride 2 and padding 1, or its transpose.

  Attributes:
    features: the number of channels of the output.
    transposed: whether the size is doubled instead of halved.
    initialization: one of `conv.INITIALIZATIONS`.
    dtype: the type that is multiplied in; parameters are float32.
    precision: how exactly accelerators multiply; 'highest' where float32 must be float32.
  """

  features: int
  transposed: bool = False
  initialization: str = 'lecun'
  dtype: Any = jnp.float32
  precision: str | None = None

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """Maps [N, H, W, C] to [N, H/2, W/2, features], or to [N, 2H, 2W, features]."""
    shape = (4, 4, x.shape[-1], self.features)
    # An output of the transpose sums over 4 of the 16 taps.
    fan_in = x.shape[-1] * (4 if self.transposed else 16)
    kernel = self.param('kernel', conv.kernel_init(self.initialization), shape)
    bias = self.param('bias', conv.bias_init(self.initialization, fan_in), (self.features,))
    function = upsample if self.transposed else downsample
    x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
    y = function(x, kernel, self.precision)
    return y + bias.astype(self.dtype)


class WholeMapConv(nn.Module):
  """A convolution as large as the map, or the transposed one that makes a map from one point.

  Attributes:
    features: the number of channels of the output.
    size: height and width of the map to make; () where a map is given.
    initialization: one of `conv.INITIALIZATIONS`.
    dtype: the type that is multiplied in; parameters are float32.
  """

  features: int
  size: tuple[int, ...] = ()
  initialization: str = 'lecun'
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """Maps [N, H, W, C] to [N, features], or [N, C] to [N, *size, features]."""
    size = self.size or x.shape[1:3]
    shape = (*size, x.shape[-1], self.features)
    fan_in = x[0].size
    kernel = self.param('kernel', conv.kernel_init(self.initialization), shape)
    bias = self.param('bias', conv.bias_init(self.initialization, fan_in), (self.features,))
    sum_over = 'nc,hwco->nhwo' if self.size else 'nhwc,hwco->no'
    y = jnp.einsum(sum_over, x.astype(self.dtype), kernel.astype(self.dtype))
    return y + bias.astype(self.dtype)
