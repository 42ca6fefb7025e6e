"""3 x 3 convolutions and their gradients, in each of the forms they are computed in."""

import contextlib
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
  monkeypatch.setattr(conv, '_CACHED_VALUES', images_in_a_part * 4 * 6 * 5)
  plain = functools.partial(
    conv._plain, options=((1, 1), 'SAME'), named={'dimension_numbers': NHWC}
  )
  y, gradients = jax.vjp(functools.partial(conv.by_parts, plain), x, kernel)
  np.testing.assert_allclose(y, plain(x, kernel), rtol=1e-6)
  for found, expected in zip(gradients(dy), gradients_by_hand(x, kernel, dy), strict=True):
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def layer_and_input():
  layer = conv.conv3x3(4, 'lecun', 3, 'conv')
  x = jax.random.normal(jax.random.key(0), (6, 4, 4, 3))
  return layer, layer.init(jax.random.key(1), x), x


def loss(layer, variables, x):
  return jnp.sum(jnp.sin(layer.apply(variables, x)))


@pytest.mark.parametrize('min_channels', [1, 32], ids=['over windows', 'by parts'])
def test_layers_agree_with_linens_own_to_the_second_derivative(min_channels, monkeypatch):
  """AVF differentiates through gradients."""
  layer, variables, x = layer_and_input()
  plain = nn.Conv(4, (3, 3))

  def found(layer):
    def inner(variables, x):
      gradient = jax.grad(functools.partial(loss, layer), 1)(variables, x)
      return jnp.sum(jnp.sin(gradient))

    return jax.jit(jax.grad(inner, (0, 1)))(variables, x)

  expected = found(plain)
  monkeypatch.setattr(conv, '_FEW_VALUES', 0)
  monkeypatch.setattr(windows, '_MIN_CHANNELS', min_channels)
  monkeypatch.setattr(conv, 'windows_are_faster', lambda: True)
  for a, b in zip(jax.tree.leaves(found(layer)), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def convolutions_and_loops(layer, variables, x):
  """In the program of the gradient."""
  gradient = jax.make_jaxpr(jax.grad(functools.partial(loss, layer), (0, 1)))(variables, x)
  return str(gradient).count('conv_general_dilated['), str(gradient).count('scan[')


def test_small_batches_stay_whole_and_so_do_all_on_accelerators(monkeypatch):
  layer, variables, x = layer_and_input()
  forward_and_input = 2
  assert convolutions_and_loops(layer, variables, x) == (forward_and_input + 1, 0)
  monkeypatch.setattr(conv, '_FEW_VALUES', 0)
  monkeypatch.setattr(conv, '_CACHED_VALUES', 4 * 4 * (3 + 4) * 2)  # of two images
  assert convolutions_and_loops(layer, variables, x) == (forward_and_input + 3, 0)
  monkeypatch.setattr(windows, '_MIN_CHANNELS', 3)
  monkeypatch.setattr(conv, 'windows_are_faster', lambda: True)
  assert convolutions_and_loops(layer, variables, x) == (forward_and_input, 1)
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  assert convolutions_and_loops(layer, variables, x) == (forward_and_input + 1, 0)


def test_plain_operators_are_wanted_inside_only():
  before = conv.reformulated()
  with contextlib.suppress(KeyError), conv.plain_operators():
    assert not conv.reformulated()
    raise KeyError
  assert conv.reformulated() == before
