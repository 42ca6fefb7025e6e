"""Recurrent networks, of vectors or of maps, whose first state is learned."""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from afslvm import fast_cpu
from afslvm.networks import conv
from afslvm.types import Array, PyTree

CELLS = ('lstm', 'gru')
Hidden = tuple[Array, ...]  # (c, h) of an LSTM, (h,) of a GRU; [B, *map_shape, features] each
Carry = list[tuple[Array, Array]]  # of each layer: cell and hidden state, [B, features]


class LSTMStack(nn.Module):
  """LSTM layers on top of each other, with learned first states that broadcast over the batch.

  Attributes:
    features: hidden units of each layer.
    layers: number of layers.
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
    """Returns the state before the first step."""
    shape = (batch_size, self.features)
    return [(jnp.broadcast_to(c, shape), jnp.broadcast_to(h, shape)) for c, h in self.initial]

  def __call__(self, carry: Carry, x: Array) -> tuple[Carry, Array]:
    """Takes x [B, D] in: returns the new state, and the hidden state of the last layer."""
    new = []
    for cell, state in zip(self.cells, carry, strict=True):
      state, x = cell(state, x)
      new.append(state)
    return new, x


class Recurrence(nn.Module):
  """One layer of LSTM or GRU units; of maps, whose products are convolutions (ConvLSTM).

  `run` makes the products with the inputs of all steps at once.

  Attributes:
    features: hidden units, or channels of the hidden map.
    cell: one of `CELLS`.
    map_shape: (h, w) of inputs [B, h, w, D] and hidden maps; () for vectors [B, D].
    kernel: side of the convolutions' kernels.
  """

  features: int
  cell: str = 'lstm'
  map_shape: tuple[int, ...] = ()
  kernel: int = 3

  choices: ClassVar = {'cell': CELLS}
  limits: ClassVar = {'features': (1, None), 'kernel': (1, None)}

  def setup(self):
    """Declares kernels and the learned first state."""
    gates = {'lstm': 4, 'gru': 3}[self.cell] * self.features
    zeros = nn.initializers.zeros_init()
    if self.map_shape:
      size = (self.kernel, self.kernel)
      options = {'padding': 'SAME', 'conv_general_dilated': conv.convolve}
      self.input = nn.Conv(gates, size, **options)
      self.recurrent = nn.Conv(gates, size, use_bias=False, **options)
    else:
      self.input = nn.Dense(gates)
      orthogonal = nn.initializers.orthogonal()
      self.recurrent = nn.Dense(gates, use_bias=False, kernel_init=orthogonal)
    shape = (*self.map_shape, self.features)
    parts = 'ch' if self.cell == 'lstm' else 'h'
    self.initial = [self.param(f'initial_{part}', zeros, shape) for part in parts]
    if self.cell == 'gru':
      # Of the candidate, whose recurrent part the reset gate multiplies (Cho et al. 2014, PyTorch).
      self.candidate_bias = self.param('candidate_bias', zeros, (self.features,))

  def initial_state(self, batch_size: int) -> Hidden:
    """Returns the learned state before the first step."""
    return tuple(jnp.broadcast_to(part, (batch_size, *part.shape)) for part in self.initial)

  def __call__(self, state: Hidden, x: Array) -> Hidden:
    """Takes one step on x [B, *map_shape, D]; `state[-1]` is the output h."""
    return self._step(state, self.input(x))

  def _step(self, state: Hidden, projected: Array) -> Hidden:
    """Takes one step, given what the gates take from the input."""
    h = state[-1]
    recurrent = self.recurrent(h)
    if self.cell == 'lstm':
      i, f, g, o = jnp.split(projected + recurrent, 4, axis=-1)
      c = nn.sigmoid(f) * state[0] + nn.sigmoid(i) * jnp.tanh(g)
      return c, nn.sigmoid(o) * jnp.tanh(c)
    size = self.features
    gates = nn.sigmoid(projected[..., : 2 * size] + recurrent[..., : 2 * size])
    r, u = jnp.split(gates, 2, axis=-1)
    candidate = recurrent[..., 2 * size :] + self.candidate_bias
    new = jnp.tanh(projected[..., 2 * size :] + r * candidate)
    return (u * h + (1.0 - u) * new,)

  def _project(self, x: Array) -> Array:
    """Returns what the gates take from the inputs of all steps [B, T, ...]."""
    flat = self.input(x.reshape(-1, *x.shape[2:]))
    return flat.reshape(*x.shape[:2], *flat.shape[1:])

  def run(self, state: Hidden, x: Array, unroll: int = 1) -> tuple[Hidden, Array]:
    """Takes all steps of x [B, T, *map_shape, D].

    Returns:
      The last state, and the outputs [B, T, *map_shape, features].
    """

    def step(module, state, projected):
      state = module._step(state, projected)
      return state, state[-1]

    return self._scan(step, state, self._project(x), unroll)

  def run_backwards(self, x: Array, mask: Array, unroll: int = 1) -> Array:
    """Goes from the last step to the first, beginning at each sequence's own last step.

    Args:
      x: [B, T, *map_shape, D].
      mask: bool [B, T], False at padding, which is at the end.
      unroll: steps of the scan that are compiled as one.

    Returns:
      Outputs [B, T, *map_shape, features]; those at padding mean nothing.
    """
    start = self.initial_state(x.shape[0])

    def step(module, state, inputs):
      projected, real = inputs
      real = real.reshape(-1, *(1,) * (projected.ndim - 1))
      new = module._step(state, projected)
      state = jax.tree.map(lambda a, b: jnp.where(real, a, b), new, start)
      return state, state[-1]

    return self._scan(step, start, (self._project(x), mask), unroll, reverse=True)[1]

  def _scan(
    self, step: Any, state: Hidden, inputs: PyTree, unroll: int, reverse: bool = False
  ) -> tuple[Hidden, Array]:
    """Applies `step(module, state, input)` to all steps of inputs [B, T, ...]."""
    scan = nn.scan(
      step,
      variable_broadcast='params',
      split_rngs={'params': False},
      in_axes=1,
      out_axes=1,
      unroll=unroll,
      reverse=reverse,
    )
    with fast_cpu.in_loop():
      return scan(self, state, inputs)
