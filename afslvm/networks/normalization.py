"""Activation normalisation: a scale and a shift per channel that the first batch decides."""

import flax.linen as nn
import jax.numpy as jnp

from afslvm.transforms import affine
from afslvm.types import Array

FLOW_FLOOR = 1e-6  # of data with noise, whose channels are never constant
NETWORK_FLOOR = 1e-2  # of features, which may be: 1 / 1e-6 would make them explode later
GAIN = 3.0  # of stored log-scales, as in Glow's code: under Adam they move three times as fast


class ActNorm(nn.Module):
  """y = (x - shift) exp(-log_scale) per channel (Kingma & Dhariwal 2018, Section 3.1).

  When variables are created, shift and log-scale are the mean and the log of the standard deviation
  of all frames that are seen; so y has mean zero and variance one then. They are ordinary
  parameters: nothing says whether they have been initialised, and nothing is computed from data
  again. Where they are created by `forward`, which sees no x, they are zero.

  Attributes:
    floor: the least initial scale, which a constant channel gets.
    by_slot: whether axis 1 of x, the slots of a window, has shifts and scales of its own.
  """

  floor: float = NETWORK_FLOOR
  by_slot: bool = False

  def __call__(self, x: Array, mask: Array | None = None) -> Array:
    """Returns y alone; see `inverse`."""
    return self.inverse(x, mask)[0]

  def inverse(self, x: Array, mask: Array | None = None) -> tuple[Array, Array]:
    """Normalises.

    Args:
      x: [N, ..., C], or [N, slots, ..., C].
      mask: bool [N], False where x doesn't count in the initial values.

    Returns:
      y, and log|det dy/dx| [N] in nats.
    """
    shift, log_scale = self._parameters(x, mask, has_data=True)
    return affine.inverse(x, shift, jnp.broadcast_to(log_scale, x.shape), x.ndim - 1)

  def forward(self, y: Array) -> tuple[Array, Array]:
    """Returns x [N, ..., C], and log|det dx/dy| [N] in nats."""
    shift, log_scale = self._parameters(y, None, has_data=False)
    return affine.forward(y, shift, jnp.broadcast_to(log_scale, y.shape), y.ndim - 1)

  @nn.compact
  def _parameters(self, x: Array, mask: Array | None, has_data: bool) -> tuple[Array, Array]:
    """Returns shift and log-scale, [C] or [slots, 1, ..., C]."""
    shape = (x.shape[1], x.shape[-1]) if self.by_slot else x.shape[-1:]

    def mean(_):
      return self._mean(x, mask) if has_data else jnp.zeros(shape)

    def log_deviation(_):
      if not has_data:
        return jnp.zeros(shape)
      variance = self._mean(jnp.square(x - self._spread(self._mean(x, mask), x)), mask)
      return jnp.log(jnp.maximum(jnp.sqrt(variance), self.floor)) / GAIN

    shift, log_scale = self.param('shift', mean), self.param('log_scale', log_deviation)
    return self._spread(shift, x), GAIN * self._spread(log_scale, x)

  def _mean(self, x: Array, mask: Array | None) -> Array:
    """Returns the mean of x over the entries that count, [C] or [slots, C]."""
    axes = tuple(axis for axis in range(x.ndim - 1) if axis != 1 or not self.by_slot)
    if mask is None:
      return jnp.mean(x, axes)
    mask = jnp.broadcast_to(mask.reshape(-1, *(1,) * (x.ndim - 1)), x.shape)
    return jnp.sum(jnp.where(mask, x, 0.0), axes) / jnp.maximum(jnp.sum(mask, axes), 1)

  def _spread(self, values: Array, x: Array) -> Array:
    """Returns values of slots so that they broadcast to x."""
    return values.reshape(len(values), *(1,) * (x.ndim - 3), -1) if self.by_slot else values
