"""Convolutions and their gradients in each of the forms that they are computed in."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afslvm import fast_cpu
from afslvm.fast_cpu import convolutions, windows
from afslvm.networks import conv

NHWC = ('NHWC', 'HWIO', 'NHWC')


def convolve(x, kernel, strides=(1, 1), padding='SAME', **options):
  """Calls the convolution that layers call."""
  return conv.convolve(x, kernel, strides, padding, **{'dimension_numbers': NHWC, **options})


def both(function, *arguments):
  """Returns what `function` gives in the fast forms, and with the plain operators."""
  found = []
  for form in ('products', 'plain'):
    with fast_cpu.choose(form):
      found.append(jax.jit(lambda *given: function(*given))(*arguments))
  return found


def assert_same(found, expected, tolerance=1e-5):
  """Compares to `tolerance` of the largest value, since sums that cancel round differently."""
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * np.abs(b).max())


def values(*shape, seed=0):
  return jnp.array(0.4 * np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.fixture
def every_gradient_over_windows(monkeypatch):
  """Has small convolutions treated as large ones are."""
  monkeypatch.setattr(convolutions, '_LARGE', 0)
  monkeypatch.setattr(windows, '_MIN_CHANNELS', 1)


# ---- outside of loops ----------------------------------------------------------------------------


MAPS, FILTERS = values(6, 4, 5, 3), values(3, 3, 3, 4, seed=1)


def loss(x, kernel):
  return jnp.sum(jnp.sin(convolve(x, kernel)))


gradients = jax.grad(loss, argnums=(0, 1))


def gradients_by_hand(x, kernel, dy):
  """Returns those of sum(dy * y), as sums over pixels and taps in float64."""
  _, height, width, _ = x.shape
  padded = np.pad(np.float64(x), [(0, 0), (1, 1), (1, 1), (0, 0)])
  dx, dk = np.zeros_like(padded), np.zeros(kernel.shape)
  for i in range(height):
    for j in range(width):
      for a in range(3):
        for b in range(3):
          dx[:, i + a, j + b] += dy[:, i, j] @ kernel[a, b].T
          dk[a, b] += padded[:, i + a, j + b].T @ dy[:, i, j]
  return dx[:, 1:-1, 1:-1], dk


@pytest.mark.usefixtures('every_gradient_over_windows')
def test_gradients_are_those_by_hand():
  dy = np.float64(values(6, 4, 5, 4, seed=2))
  y, pull = jax.vjp(convolve, MAPS, FILTERS)
  with fast_cpu.choose('plain'):
    np.testing.assert_allclose(y, convolve(MAPS, FILTERS), rtol=1e-6)
  assert_same(pull(jnp.float32(dy)), gradients_by_hand(MAPS, np.float64(FILTERS), dy))


@pytest.mark.usefixtures('every_gradient_over_windows')
def test_second_derivatives():
  """AVF differentiates through gradients."""

  def inner(x, kernel):
    return sum(jnp.sum(jnp.sin(gradient)) for gradient in gradients(x, kernel))

  assert_same(*both(jax.grad(inner, argnums=(0, 1)), MAPS, FILTERS), 1e-4)


@pytest.mark.usefixtures('every_gradient_over_windows')
def test_gradients_of_several_kernels_at_once():
  several = jnp.stack([FILTERS, -0.3 * FILTERS])
  assert_same(*both(jax.vmap(gradients, (None, 0)), MAPS, several))


def convolutions_and_loops():
  """Counts them in the program of the gradients."""
  program = str(jax.make_jaxpr(lambda *given: gradients(*given))(MAPS, FILTERS))
  return program.count('conv_general_dilated['), program.count('scan[')


def test_only_large_batches_on_one_device_have_a_gradient_over_windows(monkeypatch):
  plain, over_windows = (3, 0), (2, 1)
  assert convolutions_and_loops() == plain
  monkeypatch.setattr(convolutions, '_LARGE', 0)
  assert convolutions_and_loops() == plain  # of three channels
  monkeypatch.setattr(windows, '_MIN_CHANNELS', 1)
  assert convolutions_and_loops() == over_windows
  with monkeypatch.context() as patch:
    patch.setattr(jax, 'device_count', lambda: 2)
    assert convolutions_and_loops() == plain
  with fast_cpu.choose('plain'):
    assert convolutions_and_loops() == plain
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  assert convolutions_and_loops() == plain


# ---- in loops ------------------------------------------------------------------------------------

STEPS, BATCH, SIZE = 7, 4, 5
INPUT, KERNEL = values(3, SIZE, seed=2), values(3, 3, 2, 2, seed=3)
X = values(STEPS, BATCH, 3, seed=4)


def over_steps(step):
  """Returns the loss of a loop whose step is (kernel, h, x_t) -> h."""

  def loss(kernel, x):
    def body(h, x_t):
      h = step(kernel, h, x_t)
      return h, h

    with fast_cpu.in_loop():
      end, outputs = jax.lax.scan(body, jnp.zeros((BATCH, SIZE)), x)
    return jnp.sum(jnp.square(outputs)) + jnp.sum(end)

  return loss


def convolved(kernel, h, x_t, **options):
  maps = jnp.tile(h[:, :, None, None], (1, 1, 4, 2))
  y = convolve(maps, kernel, **options)
  return h + jnp.tanh(y.mean(axis=(1, 2, 3))[:, None] + x_t @ INPUT)


def descended(kernel, h, x_t):
  """Goes down a gradient in a loop inside the loop, as iterative inference does."""

  def energy(h):
    return jnp.sum(jnp.square(convolved(kernel, h, x_t)))

  return jax.lax.fori_loop(0, 2, lambda _, h: h - 0.1 * jax.grad(energy)(h), h + 1)


def option(**options):
  return functools.partial(convolved, **options)


IN_LOOPS = {
  '3 x 3': (convolved, KERNEL),
  'to few channels': (convolved, KERNEL[..., :1]),
  'with strides': (option(strides=(2, 1), padding=[(0, 2), (1, 0)]), KERNEL),
  'precise': (option(precision='highest', preferred_element_type=jnp.float32), KERNEL),
  'loop in a loop': (descended, KERNEL),
}


@pytest.mark.parametrize('large', [False, True], ids=['small', 'large'])
@pytest.mark.parametrize('case', IN_LOOPS)
def test_convolutions_in_loops_are_products_there_and_back(case, large, monkeypatch):
  monkeypatch.setattr(convolutions, '_LARGE', 0 if large else 2**20)
  monkeypatch.setattr(windows, '_MIN_CHANNELS', 1)
  step, kernel = IN_LOOPS[case]
  gradient = jax.value_and_grad(over_steps(step), argnums=(0, 1))
  assert_same(*both(gradient, kernel, X))
  program = str(jax.make_jaxpr(gradient)(kernel, X))
  assert 'scan' in program
  assert 'conv_general_dilated' not in program


def test_gradients_keep_no_windows():
  """Windows are nine times as large as the maps of a step."""
  _, pull = jax.vjp(over_steps(convolved), KERNEL, X)
  maps_of_all_steps = STEPS * BATCH * SIZE * 4 * 2
  assert max(leaf.size for leaf in jax.tree.leaves(pull)) <= maps_of_all_steps


def test_second_derivatives_in_loops():
  """They exist in reverse and in forward mode."""
  gradient = jax.grad(over_steps(convolved))

  def inner(kernel, x):
    return jnp.sum(jnp.sin(gradient(kernel, x)))

  def tangent(kernel, x):
    return jax.jvp(gradient, (kernel, x), (kernel, x))[1]

  assert_same(*both(jax.grad(inner, argnums=(0, 1)), KERNEL, X), 1e-4)
  assert_same(*both(tangent, KERNEL, X), 1e-4)


def test_elsewhere_than_on_cpu_loops_have_the_plain_operators(monkeypatch):
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  program = str(jax.make_jaxpr(lambda kernel: over_steps(convolved)(kernel, X))(KERNEL))
  assert 'conv_general_dilated' in program


# ---- other convolutions --------------------------------------------------------------------------


@pytest.mark.parametrize(
  ('shape', 'options'),
  [
    ((3, 3, 8, 8), {'rhs_dilation': (2, 1)}),
    ((3, 3, 8, 8), {'lhs_dilation': (1, 2), 'padding': [(1, 1), (1, 1)]}),
    ((3, 3, 8, 8), {'padding': [(1, 1), (-1, 1)]}),
    ((3, 3, 4, 8), {'feature_group_count': 2}),
    ((3, 3, 8, 8), {'batch_group_count': 2}),
    ((3, 3, 8, 8), {'dimension_numbers': ('NHCW', 'HWIO', 'NHWC')}),
    ((8, 3, 3, 8), {'dimension_numbers': ('NHWC', 'OHWI', 'NHWC')}),
    ((8, 8, 3, 3), {'dimension_numbers': None}),
  ],
  ids=str,
)
@pytest.mark.usefixtures('every_gradient_over_windows')
def test_other_convolutions_are_the_plain_operator(shape, options):
  x, kernel = values(4, 8, 8, 8), values(*shape, seed=1)

  def loss(x, kernel):
    with fast_cpu.in_loop():
      inside = convolve(x, kernel, **options)
    return jnp.sum(jnp.sin(convolve(x, kernel, **options) + inside))

  gradient = jax.value_and_grad(loss, argnums=(0, 1))
  assert_same(*both(gradient, x, kernel))
  assert 'dot_general' not in str(jax.make_jaxpr(gradient)(x, kernel))


def test_signals_of_one_dimension_are_convolved_too():
  layout = ('NWC', 'WIO', 'NWC')
  x, kernel = values(4, 8, 3), values(3, 3, 2, seed=1)
  assert_same(*both(lambda *given: convolve(*given, (1,), dimension_numbers=layout), x, kernel))
