"""Fully connected networks."""

from typing import Any, ClassVar

import flax.linen as nn

from afslvm.networks import conv
from afslvm.types import Array


def dense(features: int, initialization: str, fan_in: int, name: str, **options: Any) -> nn.Dense:
  """A linear layer with one of `conv.INITIALIZATIONS`; `options` go to `nn.Dense`."""
  kernel_init, bias_init = conv.kernel_init(initialization), conv.bias_init(initialization, fan_in)
  return nn.Dense(features, kernel_init=kernel_init, bias_init=bias_init, name=name, **options)


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
      h = nn.relu(dense(self.features, self.initialization, h.shape[-1], f'dense_{k}')(h))
    return h
