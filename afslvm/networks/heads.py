"""Two linear layers that give the parameters of a distribution."""

import flax.linen as nn
import jax.numpy as jnp

from afslvm.networks import conv
from afslvm.types import Array


class LocLogScale(nn.Module):
  """A location and a clipped log-scale; the AF paper clips to -15..5."""

  size: int
  log_scale_low: float = -15.0
  log_scale_high: float = 5.0
  initialization: str = 'lecun'

  @nn.compact
  def __call__(self, h: Array) -> tuple[Array, Array]:
    """Two [..., size]."""
    init = {
      'kernel_init': conv.kernel_init(self.initialization),
      'bias_init': conv.bias_init(self.initialization, h.shape[-1]),
    }
    loc = nn.Dense(self.size, name='loc', **init)(h)
    log_scale = nn.Dense(self.size, name='log_scale', **init)(h)
    return loc, jnp.clip(log_scale, self.log_scale_low, self.log_scale_high)
