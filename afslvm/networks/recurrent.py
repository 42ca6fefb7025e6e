"""Recurrent networks whose first state is learned."""

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from afslvm.types import Array

CELLS = ('lstm', 'gru')
Hidden = tuple[Array, ...]  # (c, h) of an LSTM, (h,) of a GRU; [B, features]
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


class Recurrence(nn.Module):
  """One layer of LSTM or GRU units whose input products can be made for all steps at once.

  Attributes:
    features: hidden units.
    cell: one of `CELLS`.
  """

  features: int
  cell: str = 'lstm'

  choices: ClassVar = {'cell': CELLS}
  limits: ClassVar = {'features': (1, None)}

  def setup(self):
    """Declares kernels and the learned first state."""
    self.input = nn.Dense(self.gates)
    shape = (self.features, self.gates)
    self.recurrent_kernel = self.param('recurrent_kernel', nn.initializers.orthogonal(), shape)
    zeros = nn.initializers.zeros_init()
    parts = 'ch' if self.cell == 'lstm' else 'h'
    self.initial = [self.param(f'initial_{part}', zeros, (self.features,)) for part in parts]
    if self.cell == 'gru':
      # Of the candidate, whose recurrent part the reset gate multiplies (Cho et al. 2014, PyTorch).
      self.candidate_bias = self.param('candidate_bias', zeros, (self.features,))

  @property
  def gates(self) -> int:
    """Numbers that a step takes from its inputs."""
    return {'lstm': 4, 'gru': 3}[self.cell] * self.features

  def initial_state(self, batch_size: int) -> Hidden:
    """The learned state before the first step, [B, features] each."""
    shape = (batch_size, self.features)
    return tuple(jnp.broadcast_to(part, shape) for part in self.initial)

  def project(self, x: Array) -> Array:
    """What the gates take from inputs x [..., D]."""
    return self.input(x)

  def __call__(self, state: Hidden, projected: Array) -> Hidden:
    """One step; `state[-1]` is the output h [B, features]."""
    h = state[-1]
    recurrent = h @ self.recurrent_kernel
    if self.cell == 'lstm':
      i, f, g, o = jnp.split(projected + recurrent, 4, axis=-1)
      c = nn.sigmoid(f) * state[0] + nn.sigmoid(i) * jnp.tanh(g)
      return c, nn.sigmoid(o) * jnp.tanh(c)
    size = self.features
    r, u = jnp.split(nn.sigmoid(projected[:, : 2 * size] + recurrent[:, : 2 * size]), 2, axis=-1)
    candidate = recurrent[:, 2 * size :] + self.candidate_bias
    new = jnp.tanh(projected[:, 2 * size :] + r * candidate)
    return (u * h + (1.0 - u) * new,)

  def run(self, state: Hidden, x: Array, unroll: int = 1) -> tuple[Hidden, Array]:
    """All steps of inputs x [B, T, D]: the last state, and the outputs [B, T, features]."""

    def step(state, projected):
      state = self(state, projected)
      return state, state[-1]

    steps = jnp.moveaxis(self.project(x), 1, 0)
    state, outputs = jax.lax.scan(step, state, steps, unroll=unroll)
    return state, jnp.moveaxis(outputs, 0, 1)

  def run_backwards(self, x: Array, mask: Array, unroll: int = 1) -> Array:
    """As `run`, from the last step to the first, beginning at each sequence's own last step.

    Args:
      x: [B, T, D].
      mask: bool [B, T], False at padding, which is at the end.
      unroll: of the scan.

    Returns:
      Outputs [B, T, features]; those at padding mean nothing.
    """
    start = self.initial_state(x.shape[0])

    def step(state, inputs):
      projected, real = inputs
      new = self(state, projected)
      state = jax.tree.map(lambda a, b: jnp.where(real[:, None], a, b), new, start)
      return state, state[-1]

    inputs = (jnp.moveaxis(self.project(x), 1, 0), jnp.moveaxis(mask, 1, 0))
    _, outputs = jax.lax.scan(step, start, inputs, reverse=True, unroll=unroll)
    return jnp.moveaxis(outputs, 0, 1)
