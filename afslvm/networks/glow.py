"""The convolutional networks of Glow and VideoFlow: in couplings, and in priors of latent maps.

Kingma & Dhariwal 2018 and Kumar et al. 2020, and what their code has beyond the papers: an edge
channel, gated activations, and last layers that begin at zero.
"""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from afslvm.networks import conv
from afslvm.networks.normalization import GAIN, ActNorm
from afslvm.types import Array

ACTIVATIONS = ('gated', 'relu')
NORMAL = nn.initializers.normal(0.05)
ZEROS = nn.initializers.zeros_init()
PLANE, SPACETIME = ('NHWC', 'HWIO', 'NHWC'), ('NDHWC', 'DHWIO', 'NDHWC')


class EdgeConv(nn.Module):
  """A convolution that is told where the border is.

  It is the convolution, without bias, of the input and one more channel that is 0 inside and 1 in
  the padding. That channel is the same for all inputs, so its share is computed once and added.

  Attributes:
    features: channels of the output.
    kernel_init: of the kernel [*size, C + 1, features], whose last input channel is the edge's.
    dtype: of the products.
    precision: of the products, as `jax.lax.Precision` names it.
  """

  features: int
  kernel_init: nn.initializers.Initializer = NORMAL
  dtype: Any = jnp.float32
  precision: str | None = None

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """Maps [N, h, w, C] to [N, h, w, features]."""
    channels = x.shape[-1]
    kernel = self.param('kernel', self.kernel_init, (3, 3, channels + 1, self.features))
    kernel = kernel.astype(self.dtype)
    inside = conv.convolve(
      x.astype(self.dtype),
      kernel[:, :, :channels],
      (1, 1),
      'SAME',
      dimension_numbers=PLANE,
      precision=self.precision,
    )
    return inside + edge_response(kernel[:, :, channels:], x.shape[1:3], self.precision)


def edge_response(kernel: Array, size: tuple[int, int], precision: str | None) -> Array:
  """Returns what a 3 x 3 kernel [3, 3, 1, F] makes of ones around an h x w map of zeros.

  Returns:
    [1, h, w, F].
  """
  inside, padding = jnp.zeros((1, *size, 1), kernel.dtype), [(0, 0), (1, 1), (1, 1), (0, 0)]
  ring = jnp.pad(inside, padding, constant_values=1)
  return jax.lax.conv_general_dilated(
    ring, kernel, (1, 1), 'VALID', dimension_numbers=PLANE, precision=precision
  )


class Pointwise(nn.Module):
  """A linear map of channels, without bias, for what `ActNorm` follows.

  Attributes:
    features: channels of the output.
    dtype: of the products.
    precision: of the products, as `jax.lax.Precision` names it.
  """

  features: int
  dtype: Any = jnp.float32
  precision: str | None = None

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """Maps [..., C] to [..., features]."""
    layer = nn.Dense(
      self.features,
      use_bias=False,
      kernel_init=NORMAL,
      dtype=self.dtype,
      precision=self.precision,
    )
    return layer(x)


class Gain(nn.Module):
  """(x + bias) exp(3 gain) per channel, after a layer that begins at zero."""

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """Returns the shape of x, in float32."""
    bias = self.param('bias', ZEROS, x.shape[-1:])
    return (x.astype(jnp.float32) + bias) * jnp.exp(GAIN * self.param('gain', ZEROS, x.shape[-1:]))


class ZeroConv(nn.Module):
  """The last layer of a network: an `EdgeConv` of zeros, then `Gain`; in float32 always.

  Attributes:
    features: channels of the output.
    edge: whether it has the edge channel.
  """

  features: int
  edge: bool = True

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """Maps [N, h, w, C] to [N, h, w, features]."""
    x = x.astype(jnp.float32)
    return Gain(name='output')(_conv(self.features, self.edge, ZEROS, 'highest', 'conv')(x))


def _conv(
  features: int, edge: bool, init: Any, precision: str | None, name: str, dtype: Any = jnp.float32
) -> nn.Module:
  """Returns a 3 x 3 convolution without bias, with or without the edge channel."""
  if edge:
    return EdgeConv(features, init, dtype, precision, name=name)
  return nn.Conv(
    features,
    (3, 3),
    use_bias=False,
    kernel_init=init,
    precision=precision,
    dtype=dtype,
    conv_general_dilated=conv.convolve,
    name=name,
  )


class BorderMap(nn.Module):
  """What `ZeroConv` makes of nothing: a map that depends on the distance to the border only.

  Attributes:
    features: channels of the output.
    edge: whether it depends on anything; otherwise it is one value per channel.
  """

  features: int
  edge: bool = True

  @nn.compact
  def __call__(self, size: tuple[int, int]) -> Array:
    """Returns [1, h, w, features] for size (h, w)."""
    h = jnp.zeros((1, *size, self.features))
    if self.edge:
      kernel = self.param('kernel', ZEROS, (3, 3, 1, self.features))
      h = edge_response(kernel, size, 'highest')
    return Gain(name='output')(h)


class GlowStack(nn.Module):
  """Three layers: 3 x 3, activation, 1 x 1, activation, and 3 x 3 of zeros.

  Attributes:
    features: channels of the output.
    width: channels of both hidden layers.
    activation: of the second hidden layer: `relu`, as in Glow, or `gated`, as in VideoFlow:
      tanh(a) sigmoid(b) of two 1 x 1 layers.
    edge: whether the 3 x 3 layers have the edge channel.
    compute_dtype: of the hidden layers' products; the output is float32 always.
    exact: whether float32 products are computed to float32's rounding on accelerators, too, which
      by themselves round to fewer bits: a coupling's network has to give the same on the way back.
  """

  features: int
  width: int = 512
  activation: str = 'gated'
  edge: bool = True
  compute_dtype: str = 'float32'
  exact: bool = False

  @nn.compact
  def __call__(self, x: Array, mask: Array | None = None) -> Array:
    """Maps [N, h, w, C] to [N, h, w, features].

    Args:
      x: maps.
      mask: bool [N], False where x doesn't count in data-dependent initial values.
    """
    dtype = jnp.dtype(self.compute_dtype)
    precision = 'highest' if self.exact and dtype == jnp.float32 else None
    h = _conv(self.width, self.edge, NORMAL, precision, 'first', dtype)(x)
    h = nn.relu(ActNorm(name='first_norm')(h.astype(jnp.float32), mask))
    hidden = HiddenPointwise(self.width, self.activation, dtype, precision, name='second')
    h = hidden(h, mask)
    return ZeroConv(self.features, self.edge, name='last')(h)


class HiddenPointwise(nn.Module):
  """A 1 x 1 layer, `ActNorm` and an activation, one of `ACTIVATIONS`."""

  width: int
  activation: str
  dtype: Any = jnp.float32
  precision: str | None = None
  by_slot: bool = False

  @nn.compact
  def __call__(self, x: Array, mask: Array | None = None) -> Array:
    """Maps [N, ..., C] to [N, ..., width]."""

    def layer(name: str) -> Array:
      h = Pointwise(self.width, self.dtype, self.precision, name=name)(x).astype(jnp.float32)
      return ActNorm(by_slot=self.by_slot, name=f'{name}_norm')(h, mask)

    if self.activation == 'relu':
      return nn.relu(layer('value'))
    return jnp.tanh(layer('value')) * nn.sigmoid(layer('gate'))


class PastNetwork(nn.Module):
  """A network from the past of a latent map to what the next one is like.

  Attributes:
    features: channels of the output.
    width: channels of the hidden layers.
    depth: residual blocks.
    activation: one of `ACTIVATIONS`.
    edge: whether padding is marked by a channel of its own.
    compute_dtype: of the hidden layers' products.
  """

  features: int
  width: int = 32
  depth: int = 1
  activation: str = 'gated'
  edge: bool = True
  compute_dtype: str = 'float32'

  choices: ClassVar = {'activation': ACTIVATIONS, 'compute_dtype': ('float32', 'bfloat16')}
  limits: ClassVar = {'width': (1, None), 'depth': (0, None)}

  def __call__(self, window: Array, level_mean: Array | None, mask: Array | None = None) -> Array:
    """Returns [N, h, w, features].

    Args:
      window: [N, window, h, w, C], oldest first.
      level_mean: what the levels above say [N, h, w, C'], or None at the top.
      mask: bool [N], False where nothing counts in data-dependent initial values.
    """
    raise NotImplementedError


class PlanePrior(PastNetwork):
  """Convolutions of a plane, on the window's slots side by side over channels.

  It has residual blocks of `GlowStack`, and a last 1 x 1 layer of zeros.
  """

  @nn.compact
  def __call__(self, window: Array, level_mean: Array | None, mask: Array | None = None) -> Array:
    """See base class."""
    slots = [window[:, k] for k in range(window.shape[1])]
    h = jnp.concatenate(slots if level_mean is None else [*slots, level_mean], axis=-1)
    for k in range(self.depth):
      stack = GlowStack(
        h.shape[-1], self.width, self.activation, self.edge, self.compute_dtype, name=f'block_{k}'
      )
      h = h + stack(h, mask)
    return ZeroPointwise(self.features, name='last')(h)


class ZeroPointwise(nn.Module):
  """A 1 x 1 layer of zeros, then `Gain`."""

  features: int

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """Maps [..., C] to [..., features]."""
    layer = nn.Dense(
      self.features, use_bias=False, kernel_init=ZEROS, precision='highest', name='linear'
    )
    return Gain(name='output')(layer(x.astype(jnp.float32)))


class SpacetimePrior(PastNetwork):
  """Convolutions over space and time, as published (VideoFlow's `conv3d_net`).

  It has residual blocks, each the sum of branches of several dilations, on the window's slots with
  the level's mean beside each; the last slot goes through a 1 x 1 layer of zeros.
  """

  width: int = 256
  depth: int = 5

  @nn.compact
  def __call__(self, window: Array, level_mean: Array | None, mask: Array | None = None) -> Array:
    """See base class."""
    h = window
    if level_mean is not None:
      beside = jnp.broadcast_to(level_mean[:, None], (*h.shape[:-1], level_mean.shape[-1]))
      h = jnp.concatenate([h, beside], axis=-1)
    dilations = [rate for rate, least in ((1, 0), (2, 5), (4, 9)) if h.shape[3] >= least]
    for k in range(self.depth):
      branches = [
        DilatedBranch(
          *(h.shape[-1], self.width, rate, self.activation, self.edge, self.compute_dtype),
          name=f'block_{k}_dilation_{rate}',
        )
        for rate in dilations
      ]
      h = h + sum(branch(h, mask) for branch in branches)
    return ZeroPointwise(self.features, name='last')(h[:, -1])


class DilatedBranch(nn.Module):
  """2 x 3 x 3, activation, 1 x 1 x 1, activation, 2 x 3 x 3 of zeros; a slot sees no later ones.

  Every slot has an `ActNorm` of its own.
  """

  features: int
  width: int
  dilation: int
  activation: str
  edge: bool
  compute_dtype: str

  @nn.compact
  def __call__(self, x: Array, mask: Array | None = None) -> Array:
    """Maps [N, window, h, w, C] to [N, window, h, w, features]."""
    dtype = jnp.dtype(self.compute_dtype)
    form = (self.dilation, self.edge)
    h = SpacetimeConv(self.width, *form, dtype=dtype, name='first')(x).astype(jnp.float32)
    h = nn.relu(ActNorm(by_slot=True, name='first_norm')(h, mask))
    h = HiddenPointwise(self.width, self.activation, dtype, by_slot=True, name='second')(h, mask)
    last = SpacetimeConv(self.features, *form, ZEROS, precision='highest', name='last')
    return Gain(name='output')(last(h))


class SpacetimeConv(nn.Module):
  """A 2 x 3 x 3 convolution, without bias, that is causal in time; see `EdgeConv`.

  Attributes:
    features: channels of the output.
    dilation: in space.
    edge: whether a further channel is 1 in the padding of space and of time.
    kernel_init: of the kernel [2, 3, 3, C (+ 1), features].
    dtype: of the products.
    precision: of the products.
  """

  features: int
  dilation: int
  edge: bool
  kernel_init: nn.initializers.Initializer = NORMAL
  dtype: Any = jnp.float32
  precision: str | None = None

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """Maps [N, T, h, w, C] to [N, T, h, w, features]."""
    channels, rate = x.shape[-1], self.dilation
    shape = (2, 3, 3, channels + self.edge, self.features)
    kernel = self.param('kernel', self.kernel_init, shape).astype(self.dtype)
    padding = [(1, 0), (rate, rate), (rate, rate)]

    def convolve(value: Array, kernel: Array, padding: Any) -> Array:
      return jax.lax.conv_general_dilated(
        value,
        kernel,
        (1, 1, 1),
        padding,
        rhs_dilation=(1, rate, rate),
        dimension_numbers=SPACETIME,
        precision=self.precision,
      )

    inside = convolve(x.astype(self.dtype), kernel[..., :channels, :], padding)
    if not self.edge:
      return inside
    marks = jnp.zeros((1, *x.shape[1:4], 1), self.dtype)
    marks = jnp.pad(marks, [(0, 0), *padding, (0, 0)], constant_values=1)
    return inside + convolve(marks, kernel[..., channels:, :], 'VALID')
