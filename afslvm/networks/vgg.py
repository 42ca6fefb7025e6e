"""Encoder and decoder of frames in the manner of VGG, as in SVG (Denton and Fergus 2018).

Stages of 3 x 3 convolutions, each with batch normalisation and a leaky ReLU; between stages the
encoder halves maps by their maximum, the decoder doubles them by repetition. The encoder's last
layer and the decoder's first cover the whole map, as in `dcgan`.
"""

from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp

from afslvm.networks import conv, dcgan
from afslvm.networks.strided import WholeMapConv
from afslvm.types import Array


class VggLayer(nn.Module):
  """3 x 3 convolution -> normalisation -> LeakyReLU(0.2)."""

  features: int
  normalization: str
  initialization: str
  dtype: Any

  @nn.compact
  def __call__(self, x: Array, mask: Array | None = None) -> Array:
    """[N, H, W, C] -> [N, H, W, features]; `mask` [N] marks the frames that count."""
    layer = conv.conv3x3(self.features, self.initialization, x.shape[-1], 'conv', dtype=self.dtype)
    normalization = conv.Normalization(self.normalization, name='normalization')
    return nn.leaky_relu(normalization(layer(x), mask), 0.2)


def halve(h: Array) -> Array:
  """The maximum of each 2 x 2 block: [N, H, W, C] -> [N, H/2, W/2, C]."""

  def larger(a, b):
    # The gradient of `max` looks for values equal to it, which are not when compiled code computes
    # them twice and rounds otherwise: 0 / 0.
    return jnp.where(a >= b, a, b)

  rows = larger(h[:, 0::2], h[:, 1::2])
  return larger(rows[:, :, 0::2], rows[:, :, 1::2])


def double(h: Array) -> Array:
  """Every value in a 2 x 2 block: [N, H, W, C] -> [N, 2H, 2W, C]."""
  return jnp.repeat(jnp.repeat(h, 2, axis=1), 2, axis=2)


class VggEncoder(nn.Module):
  """Frames [N, H, W, C] -> [N, features].

  Attributes:
    widths: channels of each stage, after each of which maps are halved (SVG: 64, 128, 256, 512).
    depths: convolutions of each stage (SVG: 2, 2, 3, 3).
    features: of the output (SVG: 128).
    normalization: one of `conv.NORMALIZATIONS` (SVG: 'batch').
    initialization: one of `conv.INITIALIZATIONS`.
    last_activation: of the output, one of `dcgan.ACTIVATIONS` (SVG: 'tanh').
    compute_dtype: of the convolutions; the output is float32 always.
  """

  widths: tuple[int, ...] = (64, 128, 256, 512)
  depths: tuple[int, ...] = (2, 2, 3, 3)
  features: int = 128
  normalization: str = 'batch'
  initialization: str = 'lecun'
  last_activation: str = 'tanh'
  compute_dtype: str = 'float32'

  choices: ClassVar = {
    'normalization': conv.NORMALIZATIONS,
    'initialization': conv.INITIALIZATIONS,
    'last_activation': dcgan.ACTIVATIONS,
    'compute_dtype': dcgan.DTYPES,
  }
  limits: ClassVar = {'features': (1, None), 'widths': (1, None), 'depths': (1, None)}

  def setup(self):
    """Declares the layers."""
    dtype = jnp.dtype(self.compute_dtype)
    own = (self.normalization, self.initialization, dtype)
    self.stages = [
      [VggLayer(width, *own) for _ in range(depth)]
      for width, depth in zip(self.widths, self.depths, strict=True)
    ]
    whole = WholeMapConv(self.features, initialization=self.initialization, dtype=dtype)
    self.last = dcgan.Layer(whole, self.normalization, self.last_activation)

  def __call__(self, x: Array, mask: Array | None = None) -> Array:
    """`mask` [N] marks the frames that count in batch statistics."""
    return self.with_maps(x, mask)[0]

  def with_maps(self, x: Array, mask: Array | None = None) -> tuple[Array, tuple[Array, ...]]:
    """The output, and the maps on the way to it, [N, *shape] of each of `map_shapes`."""
    h, maps = x, []
    for stage in self.stages:
      for layer in stage:
        h = layer(h, mask)
      maps.append(h.astype(jnp.float32))
      h = halve(h)
    return self.last(h, mask).astype(jnp.float32), tuple(maps)

  def map_shapes(self, frame_size: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """(height, width, channels) of the maps of frames of `frame_size`, the largest first."""
    height, width = frame_size
    return [(height >> k, width >> k, c) for k, c in enumerate(self.widths)]


class VggDecoder(nn.Module):
  """Vectors [N, D] -> maps [N, H, W, widths[-1]], to which a likelihood adds the last convolution.

  Attributes:
    frame_size: (H, W).
    widths: channels of each stage, from the smallest maps on (SVG: 512, 256, 128, 64); the last
      convolution of a stage has the width of the next.
    depths: convolutions of each stage, the likelihood's included (SVG: 3, 3, 2, 2).
    normalization: one of `conv.NORMALIZATIONS` (SVG: 'batch').
    initialization: one of `conv.INITIALIZATIONS`.
    compute_dtype: of the convolutions; the output is float32 always.
  """

  frame_size: tuple[int, int]
  widths: tuple[int, ...] = (512, 256, 128, 64)
  depths: tuple[int, ...] = (3, 3, 2, 2)
  normalization: str = 'batch'
  initialization: str = 'lecun'
  compute_dtype: str = 'float32'

  choices: ClassVar = {
    'normalization': conv.NORMALIZATIONS,
    'initialization': conv.INITIALIZATIONS,
    'compute_dtype': dcgan.DTYPES,
  }
  limits: ClassVar = {'widths': (1, None), 'depths': (1, None)}

  def setup(self):
    """Declares the layers."""
    dtype = jnp.dtype(self.compute_dtype)
    size = tuple(side >> len(self.widths) for side in self.frame_size)
    whole = WholeMapConv(self.widths[0], size, self.initialization, dtype)
    self.first = dcgan.Layer(whole, self.normalization)
    own = (self.normalization, self.initialization, dtype)
    following = [[width] for width in self.widths[1:]] + [[]]
    self.stages = [
      [VggLayer(features, *own) for features in [width] * (depth - 1) + after]
      for width, depth, after in zip(self.widths, self.depths, following, strict=True)
    ]

  def __call__(self, z: Array, mask: Array | None = None, skips: tuple[Array, ...] = ()) -> Array:
    """`mask` [N] marks the frames that count in batch statistics.

    `skips`, maps of an encoder with as many stages, the largest first, are seen beside its own.
    """
    h = self.first(z, mask)
    for k, stage in enumerate(self.stages):
      h = double(h)
      h = dcgan.join(h, skips[-1 - k]) if skips else h
      for layer in stage:
        h = layer(h, mask)
    return h.astype(jnp.float32)
