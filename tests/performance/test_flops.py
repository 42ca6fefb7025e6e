"""Counted operations against sums by hand."""

import jax
import jax.numpy as jnp
import pytest

from afslvm.performance import flops


def shape(*sizes):
  return jax.ShapeDtypeStruct(sizes, jnp.float32)


def conv(x, kernel, stride=1):
  layout = ('NHWC', 'HWIO', 'NHWC')
  return jax.lax.conv_general_dilated(x, kernel, (stride,) * 2, 'SAME', dimension_numbers=layout)


def test_products():
  assert flops.of_function(lambda a, b: a @ b, shape(3, 5), shape(5, 7)) == 2 * 3 * 5 * 7
  batched = flops.of_function(
    lambda a, b: jnp.einsum('bij,bjk->bik', a, b), shape(2, 3, 5), shape(2, 5, 7)
  )
  assert batched == 2 * 2 * 3 * 5 * 7
  assert flops.of_function(lambda a: jnp.tanh(a) + 1, shape(3, 5)) == 0


@pytest.mark.parametrize('stride', [1, 2])
def test_a_convolution_and_its_gradients_cost_the_same(stride):
  x, kernel = shape(4, 8, 8, 3), shape(2, 2, 3, 5)
  once = 2 * 4 * (8 // stride) ** 2 * (2 * 2 * 3) * 5
  assert flops.of_function(lambda x, k: conv(x, k, stride), x, kernel) == once
  both = jax.grad(lambda x, k: jnp.square(conv(x, k, stride)).sum(), argnums=(0, 1))
  assert flops.of_function(both, x, kernel) == 3 * once


def test_loops_count_as_often_as_they_run():
  def loop(a):
    return jax.lax.scan(lambda c, _: (jnp.tanh(c @ a), None), a, None, length=6)[0].sum()

  once = 2 * 4**3
  assert flops.of_function(loop, shape(4, 4)) == 6 * once
  assert flops.of_function(jax.jit(jax.grad(loop)), shape(4, 4)) == 3 * 6 * once
  remat = jax.grad(jax.checkpoint(loop))
  assert flops.of_function(remat, shape(4, 4)) == 4 * 6 * once
  fixed = flops.of_function(lambda a: jax.lax.fori_loop(0, 3, lambda i, c: c @ a, a), shape(4, 4))
  assert fixed == 3 * once


def test_branches_count_as_the_dearest():
  def branch(a):
    return jax.lax.cond(a[0, 0] > 0, lambda a: a @ a @ a, lambda a: a @ a, a)

  assert flops.of_function(branch, shape(4, 4)) == 2 * 2 * 4**3


def test_functions_with_derivatives_of_their_own_are_looked_into():
  @jax.custom_vjp
  def product(a):
    return a @ a

  product.defvjp(lambda a: (a @ a, a), lambda a, g: (g @ a.T + a.T @ g,))
  assert flops.of_function(product, shape(4, 4)) == 2 * 4**3
  grad = jax.grad(lambda a: product(a).sum())
  assert flops.of_function(grad, shape(4, 4)) == 3 * 2 * 4**3


def test_a_loop_of_unknown_length_is_refused():
  def loop(a):
    return jax.lax.while_loop(lambda c: c[0, 0] < 1, lambda c: c @ c, a)

  with pytest.raises(ValueError, match='unknown length'):
    flops.of_function(loop, shape(4, 4))
