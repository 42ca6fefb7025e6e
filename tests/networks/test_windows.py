"""Convolutions and gradients of their kernels as products over windows, against XLA's own."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afslvm.networks import windows

NHWC = ('NHWC', 'HWIO', 'NHWC')
PADDINGS = {'same': [(1, 1), (1, 1)], 'none': [(0, 0), (0, 0)], 'more': [(3, 0), (1, 4)]}


@pytest.fixture(autouse=True)
def _few_channels(monkeypatch):
  monkeypatch.setattr(windows, '_MIN_CHANNELS', 8)


def gradients(x, kernel, dy, padding=PADDINGS['same'], layout=NHWC, **options):
  """XLA's, and that over windows."""
  plain = functools.partial(
    jax.lax.conv_general_dilated,
    window_strides=options.pop('strides', (1, 1)),
    padding=padding,
    dimension_numbers=layout,
    **options,
  )
  (equation,) = jax.make_jaxpr(plain)(x, kernel).eqns
  (expected,) = jax.linear_transpose(functools.partial(plain, x), kernel)(dy)
  return expected, windows.kernel_gradient(x, kernel, dy, equation.params)


def arrays(channels, features, padding=PADDINGS['same'], size=(3, 3), layout='HWIO'):
  rng = np.random.default_rng(0)
  height, width = (n + sum(pair) - m + 1 for n, pair, m in zip((6, 5), padding, size, strict=True))
  kernel = jnp.zeros((*size, channels, features))
  if layout == 'OHWI':
    kernel = kernel.transpose(3, 0, 1, 2)
  shapes = (4, 6, 5, channels), (4, height, width, features)
  x, dy = (jnp.array(rng.normal(size=shape), jnp.float32) for shape in shapes)
  return x, kernel, dy


@pytest.mark.parametrize('features', [3, 12], ids=['windows of the output', 'of the input'])
@pytest.mark.parametrize('padding', PADDINGS.values(), ids=PADDINGS)
@pytest.mark.parametrize('layout', ['HWIO', 'OHWI'])
def test_a_kernels_gradient(features, padding, layout):
  given = arrays(8, features, padding, (3, 2), layout)
  expected, found = gradients(*given, padding, ('NHWC', layout, 'NHWC'))
  assert found.shape == given[1].shape
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('pixels', [1, 10, 30, 60, 120], ids=lambda n: f'{n} pixels at a time')
def test_a_kernels_gradient_by_rows_and_by_images(pixels, monkeypatch):
  monkeypatch.setattr(windows, '_CACHED_VALUES', pixels * (8 * 3 + 10))
  expected, found = gradients(*arrays(8, 10))
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_sums_of_low_precision_are_of_float32():
  x, kernel, dy = arrays(8, 10)
  exact, _ = gradients(x, kernel, dy)
  _, found = gradients(*(value.astype(jnp.bfloat16) for value in (x, kernel, dy)))
  assert found.dtype == jnp.bfloat16
  np.testing.assert_allclose(found.astype(jnp.float32), exact, rtol=0.02, atol=0.2)


@pytest.mark.parametrize(
  ('channels', 'options'),
  [(7, {}), (8, {'strides': (1, 2)}), (8, {'rhs_dilation': (2, 1), 'padding': [(2, 2), (1, 1)]})],
  ids=['few channels', 'strides', 'dilated'],
)
def test_other_convolutions_are_left_alone(channels, options):
  x, kernel, dy = arrays(channels, 9)
  _, found = gradients(x, kernel, dy[:, :, :: options.get('strides', (1, 1))[1]], **options)
  assert found is None
