"""Sequences that go on from batch to batch: the state is kept in between, in collection `carry`."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from afslvm.types import PyTree


def empty(initial: PyTree) -> PyTree:
  """The collection `carry` before the first batch, of a state like `initial`."""
  return {f'leaf_{i}': jnp.zeros_like(leaf) for i, leaf in enumerate(jax.tree.leaves(initial))}


def first_state(model: nn.Module, initial: PyTree) -> PyTree:
  """The state before the first step: where the batch before ended, in rows that go on."""
  if not model.has_variable('stream', 'reset'):
    return initial
  reset = model.get_variable('stream', 'reset')
  tree = jax.tree.structure(initial)
  carried = [model.get_variable('carry', f'leaf_{i}') for i in range(tree.num_leaves)]

  def choose(new, old):
    return jnp.where(reset.reshape(-1, *(1,) * (new.ndim - 1)), new, old)

  return jax.tree.map(choose, initial, jax.tree.unflatten(tree, carried))


def leave(model: nn.Module, state: PyTree):
  """Keeps the state for the next batch; no gradient goes back from there."""
  if model.has_variable('stream', 'reset'):
    for i, leaf in enumerate(jax.tree.leaves(state)):
      model.put_variable('carry', f'leaf_{i}', jax.lax.stop_gradient(leaf))
