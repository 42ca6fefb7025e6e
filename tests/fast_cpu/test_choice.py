"""Which form is chosen, and that convolutions in loops are products in both directions."""

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afslvm import fast_cpu
from afslvm.networks import conv

STEPS, BATCH, SIZE = 7, 4, 5
NHWC = ('NHWC', 'HWIO', 'NHWC')


def values(*shape, seed=0):
  return jnp.array(0.4 * np.random.default_rng(seed).normal(size=shape), jnp.float32)


INPUT, KERNEL, X = values(3, SIZE, seed=2), values(3, 3, 2, 2, seed=3), values(STEPS, BATCH, 3)


def over_steps(step):
  """Returns the loss of a loop whose step is (kernel, h, x_t) -> h."""

  def loss(kernel, x):
    body = lambda h, x_t: 2 * (step(kernel, h, x_t),)  # noqa: E731
    with fast_cpu.in_loop():
      end, outputs = jax.lax.scan(body, jnp.zeros((BATCH, SIZE)), x)
    return jnp.sum(jnp.square(outputs)) + jnp.sum(end)

  return loss


def convolved(kernel, h, x_t, strides=(1, 1), padding='SAME', **options):
  maps = jnp.tile(h[:, :, None, None], (1, 1, 4, 2))
  y = conv.convolve(maps, kernel, strides, padding, dimension_numbers=NHWC, **options)
  return h + jnp.tanh(y.mean(axis=(1, 2, 3))[:, None] + x_t @ INPUT)


def descended(kernel, h, x_t):
  """Goes down a gradient in a loop inside the loop, as iterative inference does."""

  def energy(h):
    return jnp.sum(jnp.square(convolved(kernel, h, x_t)))

  return jax.lax.fori_loop(0, 2, lambda _, h: h - 0.1 * jax.grad(energy)(h), h + 1)


strided = functools.partial(convolved, strides=(2, 1), padding=[(0, 2), (1, 0)])
CASES = {
  '3 x 3': (convolved, KERNEL),
  'to few channels': (convolved, KERNEL[..., :1]),
  'strided': (strided, KERNEL),
  'loop in a loop': (descended, KERNEL),
}


def assert_same(found, expected, tolerance=1e-5):
  """Compares to `tolerance` of the largest value, for sums that cancel round differently."""
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * np.abs(b).max())


def both(function, *arguments):
  """Returns what `function` gives in the fast forms and with the plain operators."""
  found = jax.jit(lambda *given: function(*given))(*arguments)
  with fast_cpu.plain_operators():
    return found, jax.jit(lambda *given: function(*given))(*arguments)


@pytest.mark.parametrize('large', [False, True], ids=['small', 'with a gradient of its own'])
@pytest.mark.parametrize('case', CASES)
def test_convolutions_in_loops_are_products_there_and_back(case, large, monkeypatch):
  monkeypatch.setattr(conv, '_VALUES_OVER_WINDOWS', 0 if large else 2**20)
  step, kernel = CASES[case]
  gradient = jax.value_and_grad(over_steps(step), argnums=(0, 1))
  assert_same(*both(gradient, kernel, X))
  program = str(jax.make_jaxpr(gradient)(kernel, X))
  assert 'scan' in program
  assert 'conv_general_dilated' not in program


def test_gradients_keep_no_windows():
  """They are nine times as large as the maps of a step."""
  _, pull = jax.vjp(over_steps(convolved), KERNEL, X)
  largest = max(leaf.size for leaf in jax.tree.leaves(pull))
  assert largest <= STEPS * BATCH * SIZE * 4 * 2  # the maps of all steps


def test_second_derivatives_in_loops():
  gradient = jax.grad(over_steps(convolved))

  def inner(kernel, x):
    return jnp.sum(jnp.sin(gradient(kernel, x)))

  assert_same(*both(jax.grad(inner, argnums=(0, 1)), KERNEL, X), 1e-4)
  tangent = lambda kernel, x: jax.jvp(gradient, (kernel, x), (kernel, x))[1]  # noqa: E731
  assert_same(*both(tangent, KERNEL, X), 1e-4)


@pytest.mark.parametrize(
  'options',
  [
    {'rhs_dilation': (2, 1)},
    {'lhs_dilation': (1, 2), 'padding': [(1, 1), (1, 1)]},
    {'feature_group_count': 2},
  ],
  ids=str,
)
def test_other_convolutions_stay_plain_in_loops(options):
  step = functools.partial(convolved, **options)
  kernel = KERNEL[:, :, : 2 // options.get('feature_group_count', 1)]
  gradient = jax.value_and_grad(over_steps(step), argnums=(0, 1))
  assert_same(*both(gradient, kernel, X))


@pytest.mark.parametrize(
  ('context', 'asked'),
  [
    (fast_cpu.plain_operators, lambda: not fast_cpu.is_used()),
    (fast_cpu.in_loop, fast_cpu.is_in_loop),
  ],
)
def test_a_choice_holds_inside_only(context, asked):
  before = asked()
  with contextlib.suppress(KeyError), context():
    assert asked()
    raise KeyError
  assert not asked()
  assert not before


def test_other_backends_get_the_plain_operators(monkeypatch):
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  assert not fast_cpu.is_used()
  program = str(jax.make_jaxpr(lambda kernel: over_steps(convolved)(kernel, X))(KERNEL))
  assert 'conv_general_dilated' in program
