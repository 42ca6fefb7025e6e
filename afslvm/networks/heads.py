"""Two linear layers that give the parameters of a distribution."""

from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp

from afslvm.networks import conv, mlp
from afslvm.types import Array


class LocLogScale(nn.Module):
  """A location and a clipped log-scale; the AF paper clips to -15..5.

  Attributes:
    size: numbers of each, or, of maps, channels.
    log_scale_low: least log-scale.
    log_scale_high: greatest log-scale.
    initialization: one of `conv.INITIALIZATIONS`.
  """

  size: int
  log_scale_low: float = -15.0
  log_scale_high: float = 5.0
  initialization: str = 'lecun'

  choices: ClassVar = {'initialization': conv.INITIALIZATIONS}

  @nn.compact
  def __call__(self, h: Array) -> tuple[Array, Array]:
    """Maps vectors [N, D] to two [N, size], and maps [N, h, w, D] to two flat [N, h * w * size]."""
    # Accelerators round float32 products to fewer bits unless told not to.
    options = {'precision': 'highest'}
    linear = conv.conv3x3 if h.ndim == 4 else mlp.dense
    loc, log_scale = (
      linear(self.size, self.initialization, h.shape[-1], name, **options)(h).reshape(len(h), -1)
      for name in ('loc', 'log_scale')
    )
    return loc, jnp.clip(log_scale, self.log_scale_low, self.log_scale_high)
