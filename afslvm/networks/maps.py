"""Convolutional networks whose inputs and outputs are maps, for models with spatial latents."""

from typing import ClassVar

import flax.linen as nn

from afslvm.networks import conv
from afslvm.networks.dcgan import Layer
from afslvm.networks.mlp import ACTIVATIONS, join
from afslvm.networks.strided import StridedConv
from afslvm.types import Array, PyTree


class MapNetwork(nn.Module):
  """3 x 3 convolutions with an activation each, on maps of one size.

  Attributes:
    features: channels of every layer.
    depth: number of layers; 0 passes the inputs on, side by side.
    activation: one of `mlp.ACTIVATIONS`.
    initialization: one of `conv.INITIALIZATIONS`.
  """

  features: int = 64
  depth: int = 1
  activation: str = 'relu'
  initialization: str = 'lecun'

  choices: ClassVar = {'activation': tuple(ACTIVATIONS), 'initialization': conv.INITIALIZATIONS}
  limits: ClassVar = {'features': (1, None), 'depth': (0, None)}

  @nn.compact
  def __call__(self, inputs: PyTree, mask: Array | None = None) -> Array:
    """Maps one or several [N, h, w, D_i], side by side, to [N, h, w, features]."""
    del mask
    h = join(inputs)
    for k in range(self.depth):
      layer = conv.conv3x3(self.features, self.initialization, h.shape[-1], f'conv_{k}')
      h = ACTIVATIONS[self.activation](layer(h))
    return h


class MapEncoder(nn.Module):
  """Frames [N, H, W, C] -> maps [N, H / 2^k, W / 2^k, widths[-1]], k the number of widths.

  Attributes:
    widths: channels after each halving.
    normalization: one of `conv.NORMALIZATIONS`.
    initialization: one of `conv.INITIALIZATIONS`.
  """

  widths: tuple[int, ...] = (64, 128)
  normalization: str = 'batch'
  initialization: str = 'lecun'

  choices: ClassVar = {
    'normalization': conv.NORMALIZATIONS,
    'initialization': conv.INITIALIZATIONS,
  }
  limits: ClassVar = {'widths': (1, None)}

  @nn.compact
  def __call__(self, x: Array, mask: Array | None = None) -> Array:
    """Returns the maps; `mask` [N] marks the frames that count in batch statistics."""
    for k, width in enumerate(self.widths):
      layer = StridedConv(width, initialization=self.initialization)
      x = Layer(layer, self.normalization, name=f'layer_{k}')(x, mask)
    return x


class MapDecoder(nn.Module):
  """Maps [N, h, w, D_i], side by side -> maps twice as large after each further width.

  A likelihood's heads double maps of half the frame's size once more.

  Attributes:
    widths: channels, first of a layer that keeps the size, then after each doubling.
    normalization: one of `conv.NORMALIZATIONS`.
    initialization: one of `conv.INITIALIZATIONS`.
  """

  widths: tuple[int, ...] = (128, 64)
  normalization: str = 'batch'
  initialization: str = 'lecun'

  choices: ClassVar = {
    'normalization': conv.NORMALIZATIONS,
    'initialization': conv.INITIALIZATIONS,
  }
  limits: ClassVar = {'widths': (1, None)}

  @nn.compact
  def __call__(self, inputs: PyTree, mask: Array | None = None) -> Array:
    """Returns the maps; `mask` [N] marks the frames that count in batch statistics."""
    h = join(inputs)
    for k, width in enumerate(self.widths):
      if k:
        layer = StridedConv(width, transposed=True, initialization=self.initialization)
      else:
        layer = conv.conv3x3(width, self.initialization, h.shape[-1], 'conv')
      h = Layer(layer, self.normalization, name=f'layer_{k}')(h, mask)
    return h
