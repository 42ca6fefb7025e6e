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
  assert windows._images_and_rows(shape, 3, 3 * shape[-1]) == expected


def test_sums_of_low_precision_are_of_float32(monkeypatch):
  """From 256 on, bfloat16 doesn't count by ones."""
  monkeypatch.setattr(windows, '_images_and_rows', lambda *_: (1, 1))
  x, dy = jnp.ones((16, 6, 5, 8), jnp.bfloat16), jnp.ones((16, 6, 5, 8), jnp.bfloat16)
  _, found = gradients(x, jnp.zeros((3, 3, 8, 8), jnp.bfloat16), dy)
  assert found.dtype == jnp.bfloat16
  assert np.all(np.asarray(found[1, 1]) == 16 * 6 * 5)


def params(x, kernel, **options):
  options = {'window_strides': (1, 1), 'padding': 'SAME', 'dimension_numbers': NHWC, **options}
  convolve = functools.partial(jax.lax.conv_general_dilated, **options)
  return jax.make_jaxpr(convolve)(jnp.zeros(x), jnp.zeros(kernel)).eqns[0].params


@pytest.mark.parametrize(
  'options',
  [
    {'rhs_dilation': (2, 1)},
    {'lhs_dilation': (1, 2), 'padding': [(1, 1), (1, 1)]},
    {'padding': [(1, 1), (-1, 1)]},
    {'feature_group_count': 2},
    {'batch_group_count': 2},
    {'dimension_numbers': ('NCHW', 'HWIO', 'NHWC')},
  ],
  ids=str,
)
def test_what_is_not_plain(options):
  channels = 4 if 'feature_group_count' in options else 8
  assert windows.is_plain(params((4, 8, 8, 8), (3, 3, 8, 8)))
  given = params((4, 8, 8, 8), (3, 3, channels, 8), **options)
  assert not windows.is_plain(given)
  assert windows.in_loop(jnp.zeros((4, 8, 8, 8)), jnp.zeros((3, 3, channels, 8)), given) is None


@pytest.mark.parametrize(('channels', 'strides'), [(7, (1, 1)), (8, (1, 2))])
def test_few_channels_and_strides_are_left_alone(channels, strides):
  x, kernel, dy = arrays(channels, 9)
  _, found = gradients(x, kernel, dy[:, :, :: strides[1]], strides=strides)
  assert found is None
