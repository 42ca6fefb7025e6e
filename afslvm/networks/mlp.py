"""Fully connected networks.

Dropout is active exactly when the random stream `dropout` is given, as training does.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp

from afslvm.networks import conv
from afslvm.types import Array


def clipped_leaky_relu(x: Array) -> Array:
  """SRNN's: slope 1/3 below zero, clipped to -3..3 (Fraccaro et al. 2016; AVF paper B.1)."""
  return jnp.clip(nn.leaky_relu(x, 1.0 / 3.0), -3.0, 3.0)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
  'relu': nn.relu,
  'elu': nn.elu,
  'tanh': nn.tanh,
  'clipped_leaky_relu': clipped_leaky_relu,
}


def dense(features: int, initialization: str, fan_in: int, name: str, **options: Any) -> nn.Dense:
  """A linear layer with one of `conv.INITIALIZATIONS`; `options` go to `nn.Dense`."""
  kernel_init, bias_init = conv.kernel_init(initialization), conv.bias_init(initialization, fan_in)
  return nn.Dense(features, kernel_init=kernel_init, bias_init=bias_init, name=name, **options)


class Dropout(nn.Module):
  """Zeros a share of its input and scales the rest up, where the stream `dropout` is given."""

  rate: float = 0.0

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """The shape of `x`."""
    active = self.rate > 0.0 and self.has_rng('dropout')
    return nn.Dropout(self.rate, deterministic=not active)(x)


class MLP(nn.Module):
  """Dense layers with an activation each, on [N, D] (or on [N, *event], flattened).

  Attributes:
    features: width of every layer.
    depth: layers; 0 passes the input on.
    activation: one of `ACTIVATIONS`.
    dropout: share of every layer's output that training drops.
    initialization: one of `conv.INITIALIZATIONS`.
  """

  features: int = 64
  depth: int = 2
  activation: str = 'relu'
  dropout: float = 0.0
  initialization: str = 'lecun'

  choices: ClassVar = {
    'activation': tuple(ACTIVATIONS),
    'initialization': conv.INITIALIZATIONS,
  }
  limits: ClassVar = {'features': (1, None), 'depth': (0, None), 'dropout': (0.0, 0.95)}

  @nn.compact
  def __call__(self, x: Array, mask: Array | None = None) -> Array:
    """[N, features]; `mask` is not needed."""
    del mask
    h = x.reshape(x.shape[0], -1)
    for k in range(self.depth):
      h = dense(self.features, self.initialization, h.shape[-1], f'dense_{k}')(h)
      h = Dropout(self.dropout)(ACTIVATIONS[self.activation](h))
    return h


class JointMLP(nn.Module):
  """An MLP on [a, b] whose product with a can be made beforehand, for all steps of a scan at once.

  The first layer is W_a a + W_b b + bias: `project` gives the part of a, the call the rest.
  Attributes are those of `MLP`; there is at least one layer.
  """

  features: int = 64
  depth: int = 1
  activation: str = 'relu'
  dropout: float = 0.0
  initialization: str = 'lecun'

  choices: ClassVar = MLP.choices
  limits: ClassVar = {**MLP.limits, 'depth': (1, None)}

  def setup(self):
    """Declares the layers."""
    init: dict[str, Any] = {'kernel_init': conv.kernel_init(self.initialization)}
    self.given = nn.Dense(self.features, **init)
    self.own = nn.Dense(self.features, use_bias=False, **init)
    self.others = [nn.Dense(self.features, **init) for _ in range(self.depth - 1)]
    self.drop = Dropout(self.dropout)

  def project(self, a: Array) -> Array:
    """W_a a + bias, [..., features]."""
    return self.given(a)

  def __call__(self, projected: Array, b: Array) -> Array:
    """[..., features], of a projected a and of b [..., D]; an empty b has no part in it."""
    activation = ACTIVATIONS[self.activation]
    h = self.drop(activation(projected + self.own(b) if b.shape[-1] else projected))
    for layer in self.others:
      h = self.drop(activation(layer(h)))
    return h
