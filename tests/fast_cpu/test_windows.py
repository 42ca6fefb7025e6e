"""Convolutions and gradients of their kernels as products over windows, against XLA's own."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afslvm.fast_cpu import windows

NHWC = ('NHWC', 'HWIO', 'NHWC')
EDGES = {'same': [(1, 1), (1, 1)], 'none': [(0, 0), (0, 0)], 'more': [(3, 0), (1, 4)]}


def gradients(x, kernel, dy, edges=EDGES['same']):
  """Returns XLA's, and that over windows."""
  plain = functools.partial(
    jax.lax.conv_general_dilated, window_strides=(1, 1), padding=edges, dimension_numbers=NHWC
  )
  (expected,) = jax.linear_transpose(functools.partial(plain, x), kernel)(dy)
  return expected, windows.kernel_gradient(x, kernel, dy, edges)


def arrays(channels, features, edges=EDGES['same'], size=(3, 3)):
  rng = np.random.default_rng(0)
  height, width = (n + sum(pair) - m + 1 for n, pair, m in zip((6, 5), edges, size, strict=True))
  shapes = (4, 6, 5, channels), (*size, channels, features), (4, height, width, features)
  return tuple(jnp.array(rng.normal(size=shape), jnp.float32) for shape in shapes)


@pytest.mark.parametrize('features', [3, 12], ids=['windows of the output', 'of the input'])
@pytest.mark.parametrize('edges', EDGES.values(), ids=EDGES)
def test_a_kernels_gradient(features, edges):
  given = arrays(8, features, edges, (3, 2))
  expected, found = gradients(*given, edges)
  assert found.shape == given[1].shape
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


STEPS = [((1, 1), 24), ((1, 2), 12), ((1, 6), 4), ((2, 6), 2), ((4, 6), 1)]


@pytest.mark.parametrize('features', [3, 10], ids=['windows of the output', 'of the input'])
@pytest.mark.parametrize(('step', 'length'), STEPS, ids=str)
def test_a_kernels_gradient_by_rows_and_by_images(step, length, features, monkeypatch):
  monkeypatch.setattr(windows, '_images_and_rows', lambda *_: step)
  given = arrays(8, features)
  expected, found = gradients(*given)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
  assert f'length={length}' in str(jax.make_jaxpr(lambda *g: gradients(*g)[1])(*given))


@pytest.mark.parametrize(
  ('shape', 'expected'),
  [
    ((48, 64, 64, 64), (1, 32)),
    ((64, 16, 16, 64), (8, 16)),
    ((61, 8, 8, 64), None),  # 61 is prime
    ((64, 61, 61, 64), None),
    ((3, 4, 4, 64), (3, 4)),
    ((20, 8, 8, 512), (10, 8)),  # as much as the kernel itself has
  ],
  ids=str,
)
def test_how_much_a_step_of_the_sum_takes(shape, expected):
  assert windows._images_and_rows(shape, shape, (3, 3, *2 * shape[-1:])) == expected


def test_sums_of_low_precision_are_of_float32(monkeypatch):
  """From 256 on, bfloat16 doesn't count by ones."""
  monkeypatch.setattr(windows, '_images_and_rows', lambda *_: (1, 1))
  x, dy = jnp.ones((16, 6, 5, 8), jnp.bfloat16), jnp.ones((16, 6, 5, 8), jnp.bfloat16)
  _, found = gradients(x, jnp.zeros((3, 3, 8, 8), jnp.bfloat16), dy)
  assert found.dtype == jnp.bfloat16
  assert np.all(np.asarray(found[1, 1]) == 16 * 6 * 5)


@pytest.mark.parametrize('features', [3, 12], ids=['shifted products', 'windows'])
@pytest.mark.parametrize('strides', [(1, 1), (2, 1)], ids=str)
@pytest.mark.parametrize('edges', EDGES.values(), ids=EDGES)
def test_a_convolution(features, strides, edges):
  x, kernel, _ = arrays(8, features, edges, (3, 2))
  found = windows.convolve(x, kernel, strides, edges)
  expected = jax.lax.conv_general_dilated(x, kernel, strides, edges, dimension_numbers=NHWC)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_few_channels_are_not_worthwhile():
  y, kernel = (48, 64, 64, 64), (3, 3, 64, 64)
  assert windows.are_worthwhile((48, 64, 64, 32), y, kernel)
  assert not windows.are_worthwhile((48, 64, 64, 31), y, kernel)
  assert not windows.are_worthwhile((61, 8, 8, 64), (61, 8, 8, 64), kernel)
