"""How near 3 x 3 convolutions come to the rate of matrix products, in each form.

  python -m tests.performance.convolutions

Prints shares of the best rate of matrix products that is measured in the same run, for forward and
backward together, where the convolution stands alone and in a loop of eight steps.
"""

import time

import jax
import jax.numpy as jnp
import numpy as np

from afslvm import fast_cpu
from afslvm.fast_cpu import windows
from afslvm.networks import conv
from afslvm.performance import peak

# Images, height and width, channels in and out.
ALONE = (
  *((48, 64, 64, 64), (40, 64, 192, 64), (16, 64, 64, 64), (64, 32, 32, 32)),
  *((64, 16, 64, 64), (20, 16, 512, 256), (20, 8, 512, 512)),
)
IN_LOOP = ((4, 16, 64, 64), (16, 16, 64, 64), (4, 32, 32, 32), (16, 8, 128, 128))
STEPS, TIMES = 8, 5


def plain(x, kernel):
  """XLA's own, and its gradients."""
  numbers = ('NHWC', 'HWIO', 'NHWC')
  return jax.lax.conv_general_dilated(x, kernel, (1, 1), 'SAME', dimension_numbers=numbers)


def convolve(x, kernel):
  """The form that networks take."""
  return conv.convolve(x, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'))


def as_product(x, kernel):
  """A matrix product over the 3 x 3 windows, and its gradients."""
  return windows.as_product(jnp.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)]), kernel)


def over_windows():
  """XLA's own, but for the kernel's gradient, which is a sum of products over windows."""
  form = jax.custom_vjp(plain)

  def backward(inputs, dy):
    x, kernel = inputs
    (dx,) = jax.linear_transpose(lambda x: plain(x, kernel), x)(dy)
    return dx, windows.kernel_gradient(x, kernel, dy, [(1, 1), (1, 1)])

  form.defvjp(lambda x, kernel: (plain(x, kernel), (x, kernel)), backward)
  return form


def in_loop(form):
  """Of eight batches, one after another, each with a little of the result before."""

  def loss(x, kernel):
    def step(h, x_t):
      y = form(x_t + 1e-6 * h, kernel)
      return jnp.mean(y), jnp.sum(jnp.square(y))

    with fast_cpu.in_loop():
      return jnp.sum(jax.lax.scan(step, jnp.zeros(()), x)[1])

  return loss


def share(loss, x, kernel, flops, best):
  """Of the rate `best`, by forward and backward pass."""
  gradient = jax.jit(jax.grad(loss, argnums=(0, 1)))
  jax.block_until_ready(gradient(x, kernel))
  times = []
  for _ in range(TIMES):
    began = time.perf_counter()
    jax.block_until_ready(gradient(x, kernel))
    times.append(time.perf_counter() - began)
  return f'{3 * flops / min(times) / best:.2f}'


def arrays(steps, shape):
  """Random input and kernel, and the operations of a forward pass."""
  count, size, channels, features = shape
  rng = np.random.default_rng(0)
  x = jnp.array(rng.normal(size=(*steps, count, size, size, channels)), jnp.float32)
  kernel = jnp.array(0.02 * rng.normal(size=(3, 3, channels, features)), jnp.float32)
  return x, kernel, 2 * x.size * 9 * features


def main():
  """Prints two tables."""
  best = peak.matmul_flops_per_second()
  print(f'matrix products: {best / 1e9:.0f} GFLOP/s\n')
  forms = {
    'plain': plain,
    'one product': as_product,
    'over windows': over_windows(),
  }
  print(f'| alone | {" | ".join(forms)} |')
  for shape in ALONE:
    losses = [lambda x, k, form=form: jnp.sum(jnp.square(form(x, k))) for form in forms.values()]
    print(f'| {shape} |', ' | '.join(share(f, *arrays((), shape), best) for f in losses), '|')
  losses = {
    'plain': in_loop(plain),
    'one product': in_loop(as_product),
    'as training does': in_loop(convolve),
  }
  print(f'\n| in a loop | {" | ".join(losses)} |')
  for shape in IN_LOOP:
    found = [share(loss, *arrays((STEPS,), shape), best) for loss in losses.values()]
    print(f'| {shape} |', ' | '.join(found), '|', flush=True)


if __name__ == '__main__':
  main()
