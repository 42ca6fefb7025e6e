"""Linear layers from features to one parameter of every dimension of an observation."""

import math
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from afslvm.networks import conv, mlp
from afslvm.networks.strided import StridedConv
from afslvm.types import Array


class Head(nn.Module):
  """One parameter of every dimension, linear in the features.

  Maps of half the size are doubled by a transposed 4 x 4 convolution, maps of full size pass a
  3 x 3 one, and vectors a dense layer.
  """

  event_shape: tuple[int, ...]
  initialization: str

  @nn.compact
  def __call__(self, features: Array) -> Array:
    """[N, H, W, C] or [N, D] -> [N, *event]."""
    if features.ndim == 4:
      channels = self.event_shape[-1]
      # In float32, of whose products accelerators round off bits unless told not to.
      options: dict[str, Any] = {'precision': 'highest'}
      features = features.astype(jnp.float32)
      if features.shape[1:3] == self.event_shape[:2]:
        layer = conv.conv3x3(channels, self.initialization, features.shape[-1], 'conv', **options)
        return layer(features)
      options['transposed'] = True
      layer = StridedConv(channels, initialization=self.initialization, name='conv', **options)
      return layer(features)
    size, fan_in = math.prod(self.event_shape), features.shape[-1]
    layer = mlp.dense(size, self.initialization, fan_in, 'dense', precision='highest')
    return layer(features).reshape(-1, *self.event_shape)
