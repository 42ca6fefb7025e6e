"""Fully connected networks."""

from typing import ClassVar

import flax.linen as nn

from afslvm.networks import conv
from afslvm.types import Array


class MLP(nn.Module):
  """Dense layers with ReLU, on [N, D] (or on [N, *event], flattened).

  Attributes:
    features: width of every layer.
    depth: layers; 0 passes the input on.
    initialization: one of `conv.INITIALIZATIONS`.
  """

  features: int = 64
  depth: int = 2
  initialization: str = 'lecun'

  choices: ClassVar = {'initialization': conv.INITIALIZATIONS}
  limits: ClassVar = {'features': (1, None), 'depth': (0, None)}

  @nn.compact
  def __call__(self, x: Array, mask: Array | None = None) -> Array:
    """[N, features]; `mask` is not needed."""
    del mask
    h = x.reshape(x.shape[0], -1)
    for k in range(self.depth):
      init = {
        'kernel_init': conv.kernel_init(self.initialization),
        'bias_init': conv.bias_init(self.initialization, h.shape[-1]),
      }
      h = nn.relu(nn.Dense(self.features, name=f'dense_{k}', **init)(h))
    return h
