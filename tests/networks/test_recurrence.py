"""Recurrent layers, MLPs of several inputs and highway layers, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afslvm.networks.highway import Highway
from afslvm.networks.mlp import MLP, clipped_leaky_relu
from afslvm.networks.recurrent import Recurrence

KEY = jax.random.key(0)


def sigmoid(x):
  return 1 / (1 + np.exp(-x))


def lstm(state, gates, _):
  i, f, g, o = np.split(gates, 4, axis=-1)
  c = sigmoid(f) * state[0] + sigmoid(i) * np.tanh(g)
  return c, sigmoid(o) * np.tanh(c)


def make(cell, steps=5):
  layer = Recurrence(3, cell)
  x = jax.random.normal(KEY, (2, steps, 4))

  def everything(module, x):
    return module.run(module.initial_state(x.shape[0]), x)

  variables = layer.init(KEY, x, method=everything)
  variables = jax.tree.map(lambda v: v + 0.3 * jax.random.normal(KEY, v.shape), variables)
  return layer, variables, x, everything


@pytest.mark.parametrize('cell', ['lstm', 'gru'])
def test_recurrence_is_the_textbook_cell(cell):
  layer, variables, x, everything = make(cell)
  state, outputs = layer.apply(variables, x, method=everything)
  p = jax.tree.map(np.asarray, variables['params'])
  parts = [np.tile(p[f'initial_{part}'], (2, 1)) for part in ('ch' if cell == 'lstm' else 'h')]
  for t in range(x.shape[1]):
    a = np.asarray(x[:, t]) @ p['input']['kernel'] + p['input']['bias']
    u = parts[-1] @ p['recurrent']['kernel']
    if cell == 'lstm':
      parts = list(lstm(parts, a + u, None))
    else:
      r, z = np.split(sigmoid(a[:, :6] + u[:, :6]), 2, axis=-1)
      new = np.tanh(a[:, 6:] + r * (u[:, 6:] + p['candidate_bias']))
      parts = [z * parts[-1] + (1 - z) * new]
    np.testing.assert_allclose(outputs[:, t], parts[-1], rtol=1e-4, atol=1e-5)
  for found, expected in zip(state, parts, strict=True):
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('cell', ['lstm', 'gru'])
def test_backwards_begins_at_each_sequences_own_end(cell):
  layer, variables, x, everything = make(cell)
  mask = jnp.arange(5)[None] < jnp.array([[5], [3]])
  found = layer.apply(variables, x.at[1, 3:].set(99.0), mask, method='run_backwards')
  for row, length in enumerate((5, 3)):
    turned = x[row : row + 1, :length][:, ::-1]
    expected = layer.apply(variables, turned, method=everything)[1][:, ::-1]
    np.testing.assert_allclose(found[row, :length], expected[0], rtol=1e-4, atol=1e-5)


def test_an_mlp_takes_several_inputs_side_by_side():
  network = MLP(4, depth=2, activation='elu')
  a, b = jax.random.normal(KEY, (3, 5)), jax.random.normal(KEY, (3, 2))
  variables = network.init(KEY, (a, b))
  p = jax.tree.map(np.asarray, variables['params'])
  h = np.concatenate([a, b], axis=1)
  for k in range(2):
    h = h @ p[f'dense_{k}']['kernel'] + p[f'dense_{k}']['bias']
    h = np.where(h > 0, h, np.expm1(np.minimum(h, 0)))
  np.testing.assert_allclose(network.apply(variables, (a, b)), h, rtol=1e-4, atol=1e-6)
  joined = network.apply(variables, {'a': a, 'more': (b, None)})
  np.testing.assert_array_equal(joined, network.apply(variables, (a, b)))


def test_clipped_leaky_relu():
  x = jnp.array([-30.0, -3.0, 0.0, 2.0, 5.0])
  np.testing.assert_allclose(clipped_leaky_relu(x), [-3.0, -1.0, 0.0, 2.0, 3.0])


def test_highway_layers():
  network, x = Highway(3, depth=2), jax.random.normal(KEY, (2, 5))
  variables = network.init(KEY, x)
  p = jax.tree.map(np.asarray, variables['params'])
  h = np.asarray(x)
  for k in range(2):
    layer, gate = (h @ p[f'{n}_{k}']['kernel'] + p[f'{n}_{k}']['bias'] for n in ('layer', 'gate'))
    skip = h if k else h @ p['skip_0']['kernel'] + p['skip_0']['bias']
    elu = np.where(layer > 0, layer, np.expm1(np.minimum(layer, 0)))
    h = sigmoid(gate) * skip + (1 - sigmoid(gate)) * elu
  np.testing.assert_allclose(network.apply(variables, x), h, rtol=1e-4, atol=1e-6)
  assert 'skip_1' not in p


def test_dropout_needs_its_stream():
  network, x = MLP(50, 1, dropout=0.5), jnp.ones((4, 3))
  variables = network.init(KEY, x)
  whole = network.apply(variables, x)
  np.testing.assert_array_equal(whole, network.apply(variables, x))
  dropped = network.apply(variables, x, rngs={'dropout': KEY})
  kept = np.asarray(dropped != 0)
  assert 0.2 < kept[np.asarray(whole) != 0].mean() < 0.8
  np.testing.assert_allclose(dropped[kept], 2 * whole[kept], rtol=1e-6)
