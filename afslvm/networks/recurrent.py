"""Recurrent networks whose first state is learned."""

import flax.linen as nn
import jax.numpy as jnp

from afslvm.types import Array

Carry = list[tuple[Array, Array]]  # of each layer: cell and hidden state, [B, features]


class LSTMStack(nn.Module):
  """LSTM layers on top of each other, with learned first states that broadcast over the batch.

  Attributes:
    features: hidden units of each layer.
    layers: how many.
  """

  features: int
  layers: int = 1

  def setup(self):
    """Declares cells and first states."""
    self.cells = [nn.OptimizedLSTMCell(self.features) for _ in range(self.layers)]
    zeros = nn.initializers.zeros_init()
    self.initial = [
      tuple(self.param(f'initial_{part}_{i}', zeros, (self.features,)) for part in 'ch')
      for i in range(self.layers)
    ]

  def initial_state(self, batch_size: int) -> Carry:
    """The state before the first step."""
    shape = (batch_size, self.features)
    return [(jnp.broadcast_to(c, shape), jnp.broadcast_to(h, shape)) for c, h in self.initial]

  def __call__(self, carry: Carry, x: Array) -> tuple[Carry, Array]:
    """One step on x [B, D]: the new state, and the hidden state of the last layer."""
    new = []
    for cell, state in zip(self.cells, carry, strict=True):
      state, x = cell(state, x)
      new.append(state)
    return new, x
