"""Networks from a window of past frames to the raw shift and log-scale of the next one.

A conditioner has two halves, so that a frame is encoded once however many windows it lies in:
`encode` maps frames one by one, `decode` maps the features of a window to two raw outputs. Of
several components, for transforms that are mixtures, each output has a last axis more, and raw
weights are a third one.
"""

from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp

from afslvm.networks import conv
from afslvm.transforms import reshape
from afslvm.types import Array, EventShape

HEAD_INITIALIZATIONS = ('zeros', 'lecun', 'pytorch')


def _head_init(name: str, fan_in: int) -> dict[str, Any]:
  """Zero heads make a flow start as the identity; `pytorch` is what the paper's code does."""
  if name == 'zeros':
    return {'kernel_init': nn.initializers.zeros_init()}
  return {'kernel_init': conv.kernel_init(name), 'bias_init': conv.bias_init(name, fan_in)}


class ConvConditioner(nn.Module):
  """The conditioner of AF paper Appendix B, for video.

  Four 3 x 3 convolutions on each frame (weights shared over the window's slots), concatenation of
  the window over channels, four more, and one convolution for each head.

  Attributes:
    event_shape: (H, W, C).
    window: past frames seen.
    channels: width of every hidden layer (paper: 64).
    encoder_depth: convolutions per frame (paper: 4).
    decoder_depth: convolutions after the concatenation (paper: 4).
    normalization: one of `conv.NORMALIZATIONS` (paper: 'batch').
    patch: frames are folded into patch x patch blocks first, to work at a lower resolution.
    skip: the heads see the frames of the window too, so that a shift close to the last frame, as
      of a still background, is a linear function of their input (paper: no).
    remat: whether gradients compute each hidden layer again, and keep its input only.
    initialization: of the hidden layers, one of `conv.INITIALIZATIONS`.
    head_initialization: one of `HEAD_INITIALIZATIONS`.
    components: of a mixture; affine transforms have one.
    compute_dtype: of the hidden convolutions; heads and outputs are float32 always.
  """

  event_shape: EventShape
  window: int = 3
  channels: int = 64
  encoder_depth: int = 4
  decoder_depth: int = 4
  normalization: str = 'batch'
  patch: int = 1
  skip: bool = False
  remat: bool = False
  initialization: str = 'lecun'
  head_initialization: str = 'zeros'
  components: int = 1
  compute_dtype: str = 'float32'

  choices: ClassVar = {
    'normalization': conv.NORMALIZATIONS,
    'initialization': conv.INITIALIZATIONS,
    'head_initialization': HEAD_INITIALIZATIONS,
    'compute_dtype': ('float32', 'bfloat16'),
  }
  limits: ClassVar = {
    'window': (1, None),
    'channels': (1, None),
    'encoder_depth': (0, None),
    'decoder_depth': (0, None),
    'patch': (1, None),
    'components': (1, None),
  }

  def setup(self):
    """Declares the layers."""
    block = {
      'normalization': self.normalization,
      'initialization': self.initialization,
      'dtype': jnp.dtype(self.compute_dtype),
    }
    layer = nn.remat(conv.ConvBlock) if self.remat else conv.ConvBlock
    self.encoder = [layer(self.channels, **block) for _ in range(self.encoder_depth)]
    self.decoder = [layer(self.channels, **block) for _ in range(self.decoder_depth)]
    outputs = self.patch**2 * self.event_shape[-1] * self.components
    deep = self.channels if self.decoder_depth else self.window * self._encoded_channels
    fan_in = 9 * (deep + self.window * self._skipped_channels)
    options = _head_init(self.head_initialization, fan_in)
    # Accelerators round float32 convolutions to fewer bits unless told not to.
    options.update(precision='highest', conv_general_dilated=conv.convolve)
    self.shift_head = nn.Conv(outputs, (3, 3), **options)
    self.log_scale_head = nn.Conv(outputs, (3, 3), **options)
    if self.components > 1:
      self.weights_head = nn.Conv(outputs, (3, 3), **options)

  @property
  def feature_shape(self) -> EventShape:
    """The shape of one encoded frame."""
    height, width, _ = self.event_shape
    channels = self._encoded_channels + self._skipped_channels
    return (height // self.patch, width // self.patch, channels)

  @property
  def _encoded_channels(self) -> int:
    return self.channels if self.encoder_depth else self.patch**2 * self.event_shape[-1]

  @property
  def _skipped_channels(self) -> int:
    return self.patch**2 * self.event_shape[-1] if self.skip else 0

  def encode(self, x: Array, mask: Array | None = None) -> Array:
    """Frames [N, H, W, C] -> features [N, *feature_shape]."""
    h = frames = reshape.space_to_depth(x, self.patch)
    for block in self.encoder:
      h = block(h, mask)
    return jnp.concatenate([h, frames], axis=-1) if self.skip else h

  def decode(self, features: Array, mask: Array | None = None) -> tuple[Array, ...]:
    """Windows, their slots' channels oldest first, [N, h, w, window * c] -> two [N, H, W, C].

    Of K components there are three, [N, H, W, C, K].
    """
    slots = features.reshape(*features.shape[:-1], self.window, -1)
    encoded, frames = jnp.split(slots, [self._encoded_channels], axis=-1)
    h = encoded.reshape(*features.shape[:-1], -1)
    for block in self.decoder:
      h = block(h, mask)
    h = h.astype(jnp.float32)
    if self.skip:
      h = jnp.concatenate([h, frames.reshape(*h.shape[:-1], -1)], axis=-1)
    raw = [self.shift_head(h), self.log_scale_head(h)]
    if self.components > 1:
      raw.append(self.weights_head(h))
    frames = [reshape.depth_to_space(values, self.patch) for values in raw]
    return tuple(_apart(values, self.components) for values in frames)


class DenseConditioner(nn.Module):
  """A multilayer perceptron on the window, for vector data; linear when `depth` is 0.

  Attributes:
    event_shape: (D,).
    window: past steps seen.
    features: width of the hidden layers.
    depth: hidden layers.
    constant_scale: the log-scale is one learned number per dimension, not a function of the past.
    head_initialization: one of `HEAD_INITIALIZATIONS`.
    components: of a mixture; affine transforms have one.
  """

  event_shape: EventShape
  window: int = 3
  features: int = 64
  depth: int = 2
  constant_scale: bool = False
  head_initialization: str = 'zeros'
  components: int = 1

  choices: ClassVar = {'head_initialization': HEAD_INITIALIZATIONS}
  limits: ClassVar = {
    'window': (1, None),
    'features': (1, None),
    'depth': (0, None),
    'components': (1, None),
  }

  def setup(self):
    """Declares the layers."""
    (size,) = self.event_shape
    self.hidden = [nn.Dense(self.features) for _ in range(self.depth)]
    init = _head_init(self.head_initialization, self.features if self.depth else size * self.window)
    size = size * self.components
    self.shift_head = nn.Dense(size, **init)
    if self.constant_scale:
      self.log_scale = self.param('log_scale', nn.initializers.zeros_init(), (size,))
    else:
      self.log_scale_head = nn.Dense(size, **init)
    if self.components > 1:
      self.weights_head = nn.Dense(size, **init)

  @property
  def feature_shape(self) -> EventShape:
    """Frames enter the window as they are."""
    return self.event_shape

  def encode(self, x: Array, mask: Array | None = None) -> Array:
    """[N, D] unchanged."""
    del mask
    return x

  def decode(self, features: Array, mask: Array | None = None) -> tuple[Array, ...]:
    """Windows, oldest step first, [N, window * D] -> two [N, D].

    Of K components there are three, [N, D, K].
    """
    del mask
    h = features
    for layer in self.hidden:
      h = nn.relu(layer(h))
    shift = self.shift_head(h)
    if self.constant_scale:
      raw = [shift, jnp.broadcast_to(self.log_scale, shift.shape)]
    else:
      raw = [shift, self.log_scale_head(h)]
    if self.components > 1:
      raw.append(self.weights_head(h))
    return tuple(_apart(values, self.components) for values in raw)


def _apart(values: Array, components: int) -> Array:
  """Returns [..., C * K] as [..., C, K], and as it is where K is one."""
  return values if components == 1 else values.reshape(*values.shape[:-1], -1, components)
