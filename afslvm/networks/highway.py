"""Highway networks (Srivastava et al. 2015), as iterative inference models use them."""

from typing import ClassVar

import flax.linen as nn

from afslvm.networks import conv
from afslvm.networks.mlp import dense
from afslvm.types import Array


class Highway(nn.Module):
  """Layers g * skip + (1 - g) * ELU(W h), g = sigmoid(V h); the first has a linear skip (AVF B).

  Attributes:
    features: width of every layer (paper: 1,024).
    depth: layers (paper: 2).
    initialization: one of `conv.INITIALIZATIONS` (paper's code: 'xavier').
  """

  features: int = 1024
  depth: int = 2
  initialization: str = 'xavier'

  choices: ClassVar = {'initialization': conv.INITIALIZATIONS}
  limits: ClassVar = {'features': (1, None), 'depth': (1, None)}

  @nn.compact
  def __call__(self, h: Array) -> Array:
    """[N, D] -> [N, features]."""
    for k in range(self.depth):
      layer, gate, skip = (
        dense(self.features, self.initialization, h.shape[-1], f'{name}_{k}')
        for name in ('layer', 'gate', 'skip')
      )
      share = nn.sigmoid(gate(h))
      h = share * (skip(h) if k == 0 else h) + (1.0 - share) * nn.elu(layer(h))
    return h
