"""4 x 4 convolutions of stride 2, in both of the forms they are computed in."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afslvm.networks import strided

SIZES = [(4, 4), (6, 2), (2, 8)]
both_forms = pytest.mark.parametrize('blocks', [False, True])


def case(size, inputs=3, outputs=2, seed=0):
  rng = np.random.default_rng(seed)
  x = rng.normal(size=(2, *size, inputs)).astype(np.float32)
  return x, rng.normal(size=(4, 4, inputs, outputs)).astype(np.float32)


def down_by_hand(x, kernel):
  """Sum over taps, in float64, with loops."""
  n, height, width, _ = x.shape
  padded = np.pad(x.astype(np.float64), [(0, 0), (1, 1), (1, 1), (0, 0)])
  y = np.zeros((n, height // 2, width // 2, kernel.shape[3]))
  for i in range(height // 2):
    for j in range(width // 2):
      window = padded[:, 2 * i : 2 * i + 4, 2 * j : 2 * j + 4]
      y[:, i, j] = np.einsum('nhwc,hwco->no', window, kernel)
  return y


@both_forms
@pytest.mark.parametrize('size', SIZES)
def test_downsampling(size, blocks):
  x, kernel = case(size)
  found = strided.downsample(jnp.array(x), jnp.array(kernel), blocks)
  np.testing.assert_allclose(found, down_by_hand(x, kernel), rtol=1e-4, atol=1e-4)


@both_forms
@pytest.mark.parametrize('size', SIZES)
def test_upsampling_is_the_transpose_of_downsampling(size, blocks):
  """The vector-Jacobian product of the convolution whose kernel is flipped and turned around."""
  x, kernel = case(size)
  flipped = kernel[::-1, ::-1].swapaxes(2, 3)
  larger = np.zeros((2, 2 * size[0], 2 * size[1], kernel.shape[3]), np.float32)
  _, vjp = jax.vjp(lambda v: strided.downsample(v, jnp.array(flipped), False), larger)
  found = strided.upsample(jnp.array(x), jnp.array(kernel), blocks)
  assert found.shape == larger.shape
  np.testing.assert_allclose(found, vjp(jnp.array(x))[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('function', [strided.downsample, strided.upsample])
def test_both_forms_have_the_same_gradients(function):
  x, kernel = case((4, 6))

  def loss(x, kernel, blocks):
    return jnp.sum(jnp.sin(function(x, kernel, blocks)))

  one, other = (
    jax.grad(loss, argnums=(0, 1))(jnp.array(x), jnp.array(kernel), b) for b in (False, True)
  )
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3), one, other)


@pytest.mark.parametrize('transposed', [False, True])
def test_layer(transposed):
  x, _ = case((4, 6))
  layer = strided.StridedConv(5, transposed=transposed)
  params = layer.init(jax.random.key(0), x)['params']
  assert params['kernel'].shape == (4, 4, 3, 5)
  params = {**params, 'bias': jnp.arange(5.0)}
  y = layer.apply({'params': params}, x)
  assert y.shape == ((2, 8, 12, 5) if transposed else (2, 2, 3, 5))
  function = strided.upsample if transposed else strided.downsample
  expected = function(jnp.array(x), params['kernel'], False) + params['bias']
  np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
  low = strided.StridedConv(5, transposed=transposed, dtype=jnp.bfloat16)
  assert low.apply({'params': params}, x).dtype == jnp.bfloat16
  assert low.init(jax.random.key(0), x)['params']['kernel'].dtype == jnp.float32


def test_whole_maps():
  x, _ = case((4, 6))
  layer = strided.WholeMapConv(5)
  params = layer.init(jax.random.key(0), x)['params']
  found = layer.apply({'params': params}, x)
  expected = x.reshape(2, -1) @ np.asarray(params['kernel']).reshape(-1, 5)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
  layer = strided.WholeMapConv(5, size=(4, 6))
  params = layer.init(jax.random.key(0), found)['params']
  made = layer.apply({'params': params}, found)
  assert made.shape == (2, 4, 6, 5)
  at = np.asarray(found) @ np.asarray(params['kernel'])[3, 2]
  np.testing.assert_allclose(made[:, 3, 2], at, rtol=1e-4, atol=1e-5)
