"""Encoder and decoder of frames in the manner of DCGAN (AF paper Appendix B).

Every layer that doesn't give the parameters of a distribution is a 4 x 4 convolution, batch
normalisation and a leaky ReLU. The last layer of the encoder and the first of the decoder cover
the whole map, whatever its size, so frames of any size that the strided layers can halve will do.
SVG's decoder also sees the encoder's maps (`skips`), which are of the same sizes as its own.
"""

from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp

from afslvm.networks import conv
from afslvm.networks.strided import StridedConv, WholeMapConv
from afslvm.types import Array

DTYPES = ('float32', 'bfloat16')
ACTIVATIONS = ('leaky_relu', 'tanh')


class Layer(nn.Module):
  """A convolution -> normalisation -> LeakyReLU(0.2), or tanh."""

  conv: nn.Module
  kind: str
  activation: str = 'leaky_relu'

  def setup(self):
    """Declares the normalisation, one of `conv.NORMALIZATIONS`; the convolution is given."""
    self.normalization = conv.Normalization(self.kind)

  def __call__(self, x: Array, mask: Array | None = None) -> Array:
    """`mask` [N] marks the frames that count in batch statistics."""
    h = self.normalization(self.conv(x), mask)
    return jnp.tanh(h) if self.activation == 'tanh' else nn.leaky_relu(h, 0.2)


def join(h: Array, skip: Array) -> Array:
  """Maps with the channels of both."""
  return jnp.concatenate([h, skip.astype(h.dtype)], axis=-1)


class DcganEncoder(nn.Module):
  """Frames [N, H, W, C] -> [N, features].

  Attributes:
    widths: channels after each halving (paper: 64, 128, 256, 512).
    features: of the output (paper: 128).
    input_bound: inputs x enter as b tanh(x / b), 0 for as they are (paper); what a flow passes on
      has no bounds of its own.
    normalization: one of `conv.NORMALIZATIONS` (paper: 'batch').
    initialization: one of `conv.INITIALIZATIONS` (paper's code: 'xavier').
    last_activation: of the output, one of `ACTIVATIONS` (SVG: 'tanh').
    compute_dtype: of the convolutions; the output is float32 always.
  """

  widths: tuple[int, ...] = (64, 128, 256, 512)
  features: int = 128
  input_bound: float = 0.0
  normalization: str = 'batch'
  initialization: str = 'lecun'
  last_activation: str = 'leaky_relu'
  compute_dtype: str = 'float32'

  choices: ClassVar = {
    'normalization': conv.NORMALIZATIONS,
    'initialization': conv.INITIALIZATIONS,
    'last_activation': ACTIVATIONS,
    'compute_dtype': DTYPES,
  }
  limits: ClassVar = {'features': (1, None), 'input_bound': (0.0, None), 'widths': (1, None)}

  def setup(self):
    """Declares the layers."""
    common: dict[str, Any] = {
      'initialization': self.initialization,
      'dtype': jnp.dtype(self.compute_dtype),
    }
    self.layers = [
      *(Layer(StridedConv(width, **common), self.normalization) for width in self.widths),
      Layer(WholeMapConv(self.features, **common), self.normalization, self.last_activation),
    ]

  def __call__(self, x: Array, mask: Array | None = None) -> Array:
    """`mask` [N] marks the frames that count in batch statistics."""
    return self.with_maps(x, mask)[0]

  def with_maps(self, x: Array, mask: Array | None = None) -> tuple[Array, tuple[Array, ...]]:
    """The output, and the maps on the way to it, [N, *shape] of each of `map_shapes`."""
    h = self.input_bound * jnp.tanh(x / self.input_bound) if self.input_bound else x
    maps = []
    for layer in self.layers:
      h = layer(h, mask)
      maps.append(h.astype(jnp.float32))
    *maps, h = maps
    return h, tuple(maps)

  def map_shapes(self, frame_size: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """(height, width, channels) of the maps of frames of `frame_size`, the largest first."""
    height, width = frame_size
    return [(height >> k, width >> k, c) for k, c in enumerate(self.widths, start=1)]


class DcganDecoder(nn.Module):
  """Vectors [N, D] -> maps [N, H/2, W/2, widths[-1]], which a likelihood doubles once more.

  Attributes:
    frame_size: (H, W).
    widths: channels from the smallest map on (paper: 512, 256, 128, 64).
    normalization: one of `conv.NORMALIZATIONS` (paper: 'batch').
    initialization: one of `conv.INITIALIZATIONS` (paper's code: 'xavier').
    compute_dtype: of the convolutions; the output is float32 always.
  """

  frame_size: tuple[int, int]
  widths: tuple[int, ...] = (512, 256, 128, 64)
  normalization: str = 'batch'
  initialization: str = 'lecun'
  compute_dtype: str = 'float32'

  choices: ClassVar = {
    'normalization': conv.NORMALIZATIONS,
    'initialization': conv.INITIALIZATIONS,
    'compute_dtype': DTYPES,
  }
  limits: ClassVar = {'widths': (1, None)}

  def setup(self):
    """Declares the layers."""
    common: dict[str, Any] = {
      'initialization': self.initialization,
      'dtype': jnp.dtype(self.compute_dtype),
    }
    size = tuple(side >> len(self.widths) for side in self.frame_size)
    first, *others = self.widths
    self.layers = [
      Layer(WholeMapConv(first, size=size, **common), self.normalization),
      *(
        Layer(StridedConv(width, transposed=True, **common), self.normalization) for width in others
      ),
    ]

  def __call__(self, z: Array, mask: Array | None = None, skips: tuple[Array, ...] = ()) -> Array:
    """`mask` [N] marks the frames that count in batch statistics.

    `skips`, maps of an encoder with as many layers, the largest first, are seen beside its own.
    """
    h = z
    for k, layer in enumerate(self.layers):
      h = layer(h, mask)
      h = join(h, skips[-1 - k]) if skips else h
    return h.astype(jnp.float32)
