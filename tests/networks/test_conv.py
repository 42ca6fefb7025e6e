"""3 x 3 convolutions and their gradients, in each of the forms they are computed in."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afslvm.networks import conv, windows

NHWC = ('NHWC', 'HWIO', 'NHWC')


def gradients_by_hand(x, kernel, dy):
  """Of sum(dy * y), over pixels and taps, in float64, with loops."""
  n, height, width, _ = x.shape
  padded = np.pad(x.astype(np.float64), [(0, 0), (1, 1), (1, 1), (0, 0)])
  dx, dk = np.zeros_like(padded), np.zeros(kernel.shape)
  for i in range(height):
    for j in range(width):
      for a in range(3):
        for b in range(3):
          dx[:, i + a, j + b] += dy[:, i, j] @ kernel[a, b].T
          dk[a, b] += padded[:, i + a, j + b].T @ dy[:, i, j]
  return dx[:, 1:-1, 1:-1], dk


@pytest.mark.parametrize('images_in_a_part', [1, 2, 3, 5])
def test_a_gradient_by_parts_is_the_gradient(images_in_a_part, monkeypatch):
  rng = np.random.default_rng(0)
  x, kernel = rng.normal(size=(5, 4, 6, 3)), rng.normal(size=(3, 3, 3, 2))
  dy = rng.normal(size=(5, 4, 6, 2))
  x, kernel, dy = (value.astype(np.float32) for value in (x, kernel, dy))
  monkeypatch.setattr(conv, '_VALUES_IN_A_PART', images_in_a_part * 4 * 6 * 5)
  plain = functools.partial(
    conv._plain, options=((1, 1), 'SAME'), named={'dimension_numbers': NHWC}
  )
  y, gradients = jax.vjp(functools.partial(conv.with_own_gradient, plain), x, kernel)
  np.testing.assert_allclose(y, plain(x, kernel), rtol=1e-6)
  for found, expected in zip(gradients(dy), gradients_by_hand(x, kernel, dy), strict=True):
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def layer_and_input():
  layer = conv.conv3x3(4, 'lecun', 3, 'conv')
  x = jax.random.normal(jax.random.key(0), (6, 4, 4, 3))
  return layer, layer.init(jax.random.key(1), x), x


def loss(layer, variables, x):
  return jnp.sum(jnp.sin(layer.apply(variables, x)))


FORMS = ('over windows', 'by parts')


def use(form, monkeypatch):
  """Has all gradients of kernels computed in this form; parts are of two images."""
  monkeypatch.setattr(conv, '_VALUES_OVER_WINDOWS', 0)
  monkeypatch.setattr(conv, '_VALUES_IN_A_PART', 4 * 4 * (3 + 4) * 2)
  monkeypatch.setattr(windows, '_MIN_CHANNELS', 1 if form == 'over windows' else 10)


@pytest.mark.parametrize('form', FORMS)
def test_layers_agree_with_linens_own_to_the_second_derivative(form, monkeypatch):
  """AVF differentiates through gradients."""
  layer, variables, x = layer_and_input()
  plain = nn.Conv(4, (3, 3))

  def found(layer):
    def inner(variables, x):
      gradients = jax.grad(functools.partial(loss, layer), (0, 1))(variables, x)
      return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(gradients))

    return jax.jit(jax.grad(inner, (0, 1)))(variables, x)

  expected = found(plain)
  use(form, monkeypatch)
  for a, b in zip(jax.tree.leaves(found(layer)), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('form', FORMS)
def test_gradients_of_several_kernels_at_once(form, monkeypatch):
  layer, variables, x = layer_and_input()
  several = jax.tree.map(lambda leaf: jnp.stack([leaf, -0.3 * leaf]), variables)
  gradient = jax.grad(functools.partial(loss, layer))
  expected = gradient(variables, x), gradient(jax.tree.map(lambda leaf: -0.3 * leaf, variables), x)
  use(form, monkeypatch)
  found = jax.vmap(gradient, (0, None))(several, x)
  for n in range(2):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected[n]), strict=True):
      np.testing.assert_allclose(a[n], b, rtol=1e-4, atol=1e-5)


def convolutions_and_loops(layer, variables, x):
  """In the program of the gradient."""
  gradient = jax.make_jaxpr(jax.grad(functools.partial(loss, layer), (0, 1)))(variables, x)
  return str(gradient).count('conv_general_dilated['), str(gradient).count('scan[')


def test_small_batches_stay_whole_and_so_do_all_on_accelerators(monkeypatch):
  layer, variables, x = layer_and_input()
  forward_and_input = 2
  assert convolutions_and_loops(layer, variables, x) == (forward_and_input + 1, 0)
  use('by parts', monkeypatch)
  assert convolutions_and_loops(layer, variables, x) == (forward_and_input + 3, 0)
  use('over windows', monkeypatch)
  assert convolutions_and_loops(layer, variables, x) == (forward_and_input, 1)
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  assert convolutions_and_loops(layer, variables, x) == (forward_and_input + 1, 0)
