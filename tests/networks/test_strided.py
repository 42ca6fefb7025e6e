"""Layers of 4 x 4 convolutions of stride 2, and of those that cover a whole map."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afslvm import fast_cpu
from afslvm.networks import strided

X = np.random.default_rng(0).normal(size=(2, 4, 6, 3)).astype(np.float32)


@pytest.mark.parametrize('form', ['products', 'plain'])
@pytest.mark.parametrize('transposed', [False, True])
def test_layer(transposed, form):
  layer = strided.StridedConv(5, transposed=transposed)
  params = layer.init(jax.random.key(0), X)['params']
  assert params['kernel'].shape == (4, 4, 3, 5)
  params = {**params, 'bias': jnp.arange(5.0)}
  with fast_cpu.choose(form):
    y = layer.apply({'params': params}, X)
  assert y.shape == ((2, 8, 12, 5) if transposed else (2, 2, 3, 5))
  function = strided.upsample if transposed else strided.downsample
  with fast_cpu.choose('plain'):
    expected = function(jnp.array(X), params['kernel']) + params['bias']
  np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
  low = strided.StridedConv(5, transposed=transposed, dtype=jnp.bfloat16)
  assert low.apply({'params': params}, X).dtype == jnp.bfloat16
  assert low.init(jax.random.key(0), X)['params']['kernel'].dtype == jnp.float32


def test_whole_maps():
  layer = strided.WholeMapConv(5)
  params = layer.init(jax.random.key(0), X)['params']
  found = layer.apply({'params': params}, X)
  expected = X.reshape(2, -1) @ np.asarray(params['kernel']).reshape(-1, 5)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
  layer = strided.WholeMapConv(5, size=(4, 6))
  params = layer.init(jax.random.key(0), found)['params']
  made = layer.apply({'params': params}, found)
  assert made.shape == (2, 4, 6, 5)
  at = np.asarray(found) @ np.asarray(params['kernel'])[3, 2]
  np.testing.assert_allclose(made[:, 3, 2], at, rtol=1e-4, atol=1e-5)
