"""4 x 4 convolutions with stride 2 as products of blocks, against sums by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afslvm import fast_cpu
from afslvm.networks import strided

SIZES = [(4, 4), (6, 2), (2, 8)]
both_forms = pytest.mark.parametrize('form', ['products', 'plain'])


def case(size, inputs=3, outputs=2, seed=0):
  rng = np.random.default_rng(seed)
  x = rng.normal(size=(2, *size, inputs)).astype(np.float32)
  return x, rng.normal(size=(4, 4, inputs, outputs)).astype(np.float32)


def down_by_hand(x, kernel):
  """Sums over taps in float64, with loops."""
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
def test_downsampling(size, form):
  x, kernel = case(size)
  with fast_cpu.choose(form):
    found = strided.downsample(jnp.array(x), jnp.array(kernel))
  np.testing.assert_allclose(found, down_by_hand(x, kernel), rtol=1e-4, atol=1e-4)


@both_forms
@pytest.mark.parametrize('size', SIZES)
def test_upsampling_is_the_transpose_of_downsampling(size, form):
  """It is the vector-Jacobian product with the kernel flipped and its channels exchanged."""
  x, kernel = case(size)
  flipped = jnp.array(kernel[::-1, ::-1].swapaxes(2, 3))
  larger = np.zeros((2, 2 * size[0], 2 * size[1], kernel.shape[3]), np.float32)
  with fast_cpu.choose('plain'):
    _, vjp = jax.vjp(lambda v: strided.downsample(v, flipped), larger)
  with fast_cpu.choose(form):
    found = strided.upsample(jnp.array(x), jnp.array(kernel))
  assert found.shape == larger.shape
  np.testing.assert_allclose(found, vjp(jnp.array(x))[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('function', [strided.downsample, strided.upsample])
def test_both_forms_have_the_same_derivatives(function):
  """The first and the second."""
  x, kernel = map(jnp.array, case((4, 6)))

  def loss(x, kernel):
    return jnp.sum(jnp.sin(function(x, kernel)))

  def both(gradient):
    found = []
    for form in ('products', 'plain'):
      with fast_cpu.choose(form):
        found.append(jax.jit(functools.partial(gradient))(x, kernel))
    return found

  first = jax.grad(loss, argnums=(0, 1))
  second = jax.grad(lambda *given: sum(jnp.sum(jnp.sin(v)) for v in first(*given)), argnums=(0, 1))
  for gradient in (first, second):
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3 * np.abs(b).max()),
      *both(gradient),
    )


@pytest.mark.parametrize('function', [strided.downsample, strided.upsample])
def test_nothing_but_products_is_computed(function):
  x, kernel = map(jnp.array, case((4, 6)))
  gradient = jax.grad(lambda x, kernel: jnp.sum(jnp.sin(function(x, kernel))), argnums=(0, 1))
  program = str(jax.make_jaxpr(gradient)(x, kernel))
  assert program.count('dot_general[') == 3
  assert 'conv_general_dilated' not in program
