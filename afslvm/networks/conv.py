"""Convolution blocks on frames [N, H, W, C], and the initialisations a config can choose."""

import functools
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from afslvm import fast_cpu
from afslvm.networks import windows
from afslvm.types import Array

NORMALIZATIONS = ('batch', 'group', 'none')
INITIALIZATIONS = ('lecun', 'pytorch', 'xavier', 'small')

# Values of a convolution's input and output: from the first on, its kernel's gradient is over
# windows; the second are what XLA:CPU still finds in its caches, and what parts have. See
# docs/performance.md.
_VALUES_OVER_WINDOWS = 2**20
_VALUES_IN_A_PART = 2**22


def convolve(x: Array, kernel: Array, *options: Any, **named: Any) -> Array:
  """Computes `lax.conv_general_dilated`, for `nn.Conv`, in the form that is fast here.

  On CPU a convolution in a loop is a matrix product over windows, and a large one outside of loops
  is of `with_own_gradient`.
  """
  plain = functools.partial(_plain, options=options, named=named)
  if fast_cpu.is_used() and fast_cpu.is_in_loop():
    y = _as_product(plain, x, kernel)
    return plain(x, kernel) if y is None else y
  channels, features = kernel.shape[-2:]
  values = x.size // channels * (channels + features)  # of x and y
  if _may_cut() and values > _VALUES_OVER_WINDOWS:
    return with_own_gradient(plain, x, kernel)
  return plain(x, kernel)


def _may_cut() -> bool:
  """Whether a batch may be cut; the parts of one on several devices would have to move."""
  return fast_cpu.is_used() and jax.device_count() == 1


def _plain(x: Array, kernel: Array, options: tuple, named: dict[str, Any]) -> Array:
  return jax.lax.conv_general_dilated(x, kernel, *options, **named)


def _as_product(plain: Callable[[Array, Array], Array], x: Array, kernel: Array) -> Array | None:
  """Returns the convolution as a product, or None where it has no such form.

  Gradients compute the windows again, which are several times as large as `x`, in every step.
  """
  (equation,) = jax.make_jaxpr(plain)(x, kernel).eqns
  if not windows.is_plain(equation.params):
    return None
  product = functools.partial(windows.in_loop, params=equation.params)
  return jax.checkpoint(product, prevent_cse=False)(x, kernel)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def with_own_gradient(plain: Callable[[Array, Array], Array], x: Array, kernel: Array) -> Array:
  """`plain(x, kernel)`, bilinear, whose gradient of the kernel is `kernel_gradient`.

  As one convolution, whose kernel is a gradient as large as the maps and as long as the batch, it
  takes several times as long as the others on CPU, above all for transposing what no longer is in
  the caches.

  Args:
    plain: (x, kernel) -> y, both linear; y[n] depends on x[n] only.
    x: [N, H, W, C].
    kernel: of the convolution.
  """
  return plain(x, kernel)


def _forward(plain: Any, x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
  return plain(x, kernel), (x, kernel)


def _backward(plain: Any, inputs: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
  x, kernel = inputs
  (dx,) = jax.linear_transpose(lambda x: plain(x, kernel), x)(dy)
  return dx, kernel_gradient(plain, x, kernel, dy)


with_own_gradient.defvjp(_forward, _backward)


def kernel_gradient(
  plain: Callable[[Array, Array], Array], x: Array, kernel: Array, dy: Array
) -> Array:
  """The gradient of `kernel` from that of y = plain(x, kernel), in the form that is fast here.

  Args:
    plain: linear in both; y[n] depends on x[n] only.
    x: [N, ...].
    kernel: of any shape.
    dy: [N, ...], as y.
  """
  if not _may_cut():
    return _transposed(plain, x, kernel, dy)
  found = None
  if x.size + dy.size > _VALUES_OVER_WINDOWS:
    found = over_windows(plain, x, kernel, dy)
  return by_parts(plain, x, kernel, dy) if found is None else found


def over_windows(
  plain: Callable[[Array, Array], Array], x: Array, kernel: Array, dy: Array
) -> Array | None:
  """See `kernel_gradient`; None for what `windows.kernel_gradient` isn't for."""
  equations = jax.make_jaxpr(plain)(x, kernel).eqns
  if [equation.primitive.name for equation in equations] != ['conv_general_dilated']:
    return None
  return windows.kernel_gradient(x, kernel, dy, equations[0].params)


def by_parts(plain: Callable[[Array, Array], Array], x: Array, kernel: Array, dy: Array) -> Array:
  """See `kernel_gradient`; a sum over parts of the batch that fit in the caches."""
  size = max(1, min(len(x), _VALUES_IN_A_PART * len(x) // (x.size + dy.size)))
  parts = [slice(i, i + size) for i in range(0, len(x), size)]
  terms = [_transposed(plain, x[n], kernel, dy[n]) for n in parts]
  return sum(terms[1:], terms[0])


def _transposed(plain: Any, x: Array, kernel: Array, dy: Array) -> Array:
  return jax.linear_transpose(functools.partial(plain, x), kernel)(dy)[0]


def kernel_init(name: str) -> nn.initializers.Initializer:
  """`lecun` is Linen's default; the AF paper's code has two others.

  `pytorch`, of its flows, is U(-1/sqrt(fan_in), 1/sqrt(fan_in)); `xavier`, of its SLVM, is normal
  with variance 2 / (fan_in + fan_out); `small`, of SRNN's heads, is U(-0.001, 0.001).
  """
  if name == 'pytorch':
    return nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')
  if name == 'xavier':
    return nn.initializers.glorot_normal()
  if name == 'small':
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(
      key, shape, dtype, minval=-1e-3, maxval=1e-3
    )
  return nn.initializers.lecun_normal()


def bias_init(name: str, fan_in: int) -> nn.initializers.Initializer:
  """Zeros, or PyTorch's U(-1/sqrt(fan_in), 1/sqrt(fan_in)), which depends on the layer's fan-in."""
  if name == 'pytorch':
    bound = fan_in**-0.5
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(
      key, shape, dtype, minval=-bound, maxval=bound
    )
  return nn.initializers.zeros_init()


class Normalization(nn.Module):
  """Batch, group or no normalisation, over the channels of [N, ..., C].

  Batch statistics are used, and the running ones updated, exactly when the `batch_stats` collection
  is mutable, which is how training is told from evaluation everywhere in this library. Inside a
  `jit` over a mesh the statistics are those of the global batch.
  """

  kind: str = 'batch'

  @nn.compact
  def __call__(self, x: Array, mask: Array | None = None) -> Array:
    """Normalises `x`; entries where `mask` [N] is False don't enter the batch statistics."""
    if self.kind == 'batch':
      average = not self.is_mutable_collection('batch_stats')
      # Momentum and epsilon are those of the papers' PyTorch code.
      momentum: float | Array = 0.9
      if mask is not None:
        # Where nothing counts, such as a step after all sequences have ended, nothing is learned.
        momentum = jnp.where(mask.any(), momentum, 1.0)
        mask = mask | ~mask.any()
        mask = mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim))
      return nn.BatchNorm(average, momentum=momentum, epsilon=1e-5, name='norm')(x, mask=mask)
    if self.kind == 'group':
      group_size = math.gcd(8, x.shape[-1])
      return nn.GroupNorm(num_groups=None, group_size=group_size, name='norm')(x)
    return x


def conv3x3(features: int, initialization: str, channels: int, name: str, **options: Any):
  """A 3 x 3 convolution of maps with `channels`; `options` go to `nn.Conv`."""
  return nn.Conv(
    features,
    (3, 3),
    kernel_init=kernel_init(initialization),
    bias_init=bias_init(initialization, 9 * channels),
    name=name,
    conv_general_dilated=convolve,
    **options,
  )


class ConvBlock(nn.Module):
  """3 x 3 convolution with bias -> normalisation -> ReLU, on [N, H, W, C] (AF paper Appendix B)."""

  features: int
  normalization: str = 'batch'
  initialization: str = 'lecun'
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Array, mask: Array | None = None) -> Array:
    """Returns [N, H, W, features]; `mask` [N] marks the frames that count in batch statistics."""
    x = conv3x3(self.features, self.initialization, x.shape[-1], 'conv', dtype=self.dtype)(x)
    return nn.relu(Normalization(self.normalization, name='normalization')(x, mask))
