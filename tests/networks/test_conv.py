"""3 x 3 layers against Linen's own."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afslvm import fast_cpu
from afslvm.fast_cpu import convolutions, windows
from afslvm.networks import conv


@pytest.mark.parametrize('in_loop', [False, True], ids=['outside', 'in a loop'])
@pytest.mark.parametrize('form', ['products', 'plain'])
def test_layers_agree_with_linens_own_to_the_second_derivative(form, in_loop, monkeypatch):
  """AVF differentiates through gradients."""
  monkeypatch.setattr(convolutions, '_LARGE', 0)
  monkeypatch.setattr(windows, '_MIN_CHANNELS', 1)
  x = jax.random.normal(jax.random.key(0), (6, 4, 4, 3))
  layer, plain = conv.conv3x3(4, 'lecun', 3, 'conv'), nn.Conv(4, (3, 3))
  variables = layer.init(jax.random.key(1), x)

  def found(layer):
    def loss(variables, x):
      body = lambda h, _: (layer.apply(variables, h)[..., :3], None)  # noqa: E731
      if in_loop:
        with fast_cpu.in_loop():
          x, _ = jax.lax.scan(body, x, length=2)
      return jnp.sum(jnp.sin(layer.apply(variables, x)))

    def inner(variables, x):
      gradients = jax.grad(loss, argnums=(0, 1))(variables, x)
      return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(gradients))

    return jax.jit(jax.grad(inner, argnums=(0, 1)))(variables, x)

  with fast_cpu.choose(form):
    for a, b in zip(jax.tree.leaves(found(layer)), jax.tree.leaves(found(plain)), strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * max(1, np.abs(b).max()))
