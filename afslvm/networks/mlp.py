"""Fully connected networks.

Dropout is active exactly when the random stream `dropout` is given, as training does.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from afslvm.networks import conv
from afslvm.types import Array, PyTree


def clipped_leaky_relu(x: Array) -> Array:
  """Has slope 1/3 below zero and is clipped to -3..3 (SRNN, Fraccaro et al. 2016; AVF B.1)."""
  return jnp.clip(nn.leaky_relu(x, 1.0 / 3.0), -3.0, 3.0)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
  'relu': nn.relu,
  'elu': nn.elu,
  'tanh': nn.tanh,
  'clipped_leaky_relu': clipped_leaky_relu,
}


def join(inputs: PyTree) -> Array:
  """Returns all arrays of a pytree, each [..., D_i], as one [..., sum of D_i]."""
  arrays = jax.tree.leaves(inputs)
  return arrays[0] if len(arrays) == 1 else jnp.concatenate(arrays, axis=-1)


def dense(features: int, initialization: str, fan_in: int, name: str, **options: Any) -> nn.Dense:
  """Returns a linear layer with one of `conv.INITIALIZATIONS`; `options` go to `nn.Dense`."""
  kernel_init, bias_init = conv.kernel_init(initialization), conv.bias_init(initialization, fan_in)
  return nn.Dense(features, kernel_init=kernel_init, bias_init=bias_init, name=name, **options)


class Dropout(nn.Module):
  """Zeros a share of its input and scales the rest up, where the stream `dropout` is given."""

  rate: float = 0.0

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """Returns an array of the shape of `x`."""
    active = self.rate > 0.0 and self.has_rng('dropout')
    return nn.Dropout(self.rate, deterministic=not active)(x)


class MLP(nn.Module):
  """Dense layers with an activation each.

  Attributes:
    features: width of every layer.
    depth: number of layers; 0 passes the input on.
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
  def __call__(self, inputs: PyTree, mask: Array | None = None) -> Array:
    """Maps one array [N, *event], or several, each flattened, side by side, to [N, features].

    `mask` is not needed.
    """
    del mask
    h = join(jax.tree.map(lambda x: x.reshape(x.shape[0], -1), inputs))
    for k in range(self.depth):
      h = dense(self.features, self.initialization, h.shape[-1], f'dense_{k}')(h)
      h = Dropout(self.dropout)(ACTIVATIONS[self.activation](h))
    return h
