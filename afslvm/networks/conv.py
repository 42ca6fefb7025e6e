"""Convolution blocks on frames [N, H, W, C], and the initialisations that a config can choose."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from afslvm import fast_cpu
from afslvm.types import Array

NORMALIZATIONS = ('batch', 'group', 'none')
INITIALIZATIONS = ('lecun', 'pytorch', 'xavier', 'small')


def convolve(x: Array, kernel: Array, *options: Any, **named: Any) -> Array:
  """Returns what `lax.conv_general_dilated` returns, for `nn.Conv`, in a form that is fast here."""
  form = fast_cpu.convolve if fast_cpu.is_used() else jax.lax.conv_general_dilated
  return form(x, kernel, *options, **named)


def kernel_init(name: str) -> nn.initializers.Initializer:
  """Returns the initialiser of kernels that a config calls `name`, one of `INITIALIZATIONS`.

  `lecun` is Linen's default. The AF paper's code has two others: `pytorch`, for its flows, is
  U(-1/sqrt(fan_in), 1/sqrt(fan_in)), and `xavier`, for its SLVM, is normal with variance
  2 / (fan_in + fan_out). `small`, for SRNN's heads, is U(-0.001, 0.001).
  """
  if name == 'pytorch':
    return nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')
  if name == 'xavier':
    return nn.initializers.glorot_normal()
  if name == 'small':
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(
      key, shape, dtype, minval=-1e-3, maxval=1e-3
    )
  return nn.initializers.lecun_normal()


def bias_init(name: str, fan_in: int) -> nn.initializers.Initializer:
  """Returns the initialiser of biases, zeros unless `name` is `pytorch`.

  PyTorch's is U(-1/sqrt(fan_in), 1/sqrt(fan_in)), with the fan-in of the layer's kernel.
  """
  if name == 'pytorch':
    bound = fan_in**-0.5
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(
      key, shape, dtype, minval=-bound, maxval=bound
    )
  return nn.initializers.zeros_init()


class Normalization(nn.Module):
  """Normalises the channels of [N, ..., C] over a batch, over groups of channels, or not at all.

  Batch statistics are used, and the running ones updated, exactly when the `batch_stats` collection
  is mutable, which is how training is told from evaluation everywhere in this library. Inside a
  `jit` over a mesh the statistics are those of the global batch.
  """

  kind: str = 'batch'

  @nn.compact
  def __call__(self, x: Array, mask: Array | None = None) -> Array:
    """Returns `x` normalised; where `mask` [N] is False it doesn't enter the batch statistics."""
    if self.kind == 'batch':
      average = not self.is_mutable_collection('batch_stats')
      # Momentum and epsilon are those of the papers' PyTorch code.
      momentum: float | Array = 0.9
      if mask is not None:
        # Where nothing counts, such as a step after all sequences have ended, nothing is learned.
        momentum = jnp.where(mask.any(), momentum, 1.0)
        mask = mask | ~mask.any()
        mask = mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim))
      return nn.BatchNorm(average, momentum=momentum, epsilon=1e-5, name='norm')(x, mask=mask)
    if self.kind == 'group':
      group_size = math.gcd(8, x.shape[-1])
      return nn.GroupNorm(num_groups=None, group_size=group_size, name='norm')(x)
    return x


def conv3x3(features: int, initialization: str, channels: int, name: str, **options: Any):
  """Returns a 3 x 3 convolution of maps with `channels`; `options` go to `nn.Conv`."""
  return nn.Conv(
    features,
    (3, 3),
    kernel_init=kernel_init(initialization),
    bias_init=bias_init(initialization, 9 * channels),
    name=name,
    conv_general_dilated=convolve,
    **options,
  )


class ConvBlock(nn.Module):
  """Convolves frames [N, H, W, C] 3 x 3, normalises, and applies ReLU (AF paper Appendix B)."""

  features: int
  normalization: str = 'batch'
  initialization: str = 'lecun'
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Array, mask: Array | None = None) -> Array:
    """Returns [N, H, W, features]; `mask` [N] marks the frames that count in batch statistics."""
    x = conv3x3(self.features, self.initialization, x.shape[-1], 'conv', dtype=self.dtype)(x)
    return nn.relu(Normalization(self.normalization, name='normalization')(x, mask))
