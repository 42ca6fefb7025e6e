"""How fast this device multiplies matrices, by trying: what utilisation is measured against."""

import time

import jax
import jax.numpy as jnp

SIZES = {'cpu': (1024, 2048)}
ACCELERATOR_SIZES = (2048, 4096, 8192)


def matmul_flops_per_second(dtype: str = 'float32', seconds: float = 0.5) -> float:
  """The best rate over several sizes of square matrices on the first device, in FLOP/s.

  Args:
    dtype: of the matrices; on accelerators float32 is multiplied with the default precision.
    seconds: spent on each size.
  """
  sizes = SIZES.get(jax.default_backend(), ACCELERATOR_SIZES)
  return max(_rate(size, jnp.dtype(dtype), seconds) for size in sizes)


def _rate(size: int, dtype: jnp.dtype, seconds: float) -> float:
  a = jax.random.normal(jax.random.key(0), (size, size)).astype(dtype)
  multiply = jax.jit(lambda a, b: a @ b)
  jax.block_until_ready(multiply(a, a))
  best, end = float('inf'), time.perf_counter() + seconds
  while time.perf_counter() < end:
    # Several at once, so that an accelerator never waits for the host.
    began = time.perf_counter()
    jax.block_until_ready([multiply(a, a) for _ in range(4)])
    best = min(best, (time.perf_counter() - began) / 4)
  return 2 * size**3 / best
