"""The diagonal normal distribution and its divergence."""

import math

import jax.numpy as jnp
from flax import struct

from afslvm.types import Array


class Normal(struct.PyTreeNode):
  """Independent normals; all methods are elementwise."""

  loc: Array
  log_scale: Array

  def log_prob(self, x: Array) -> Array:
    """log N(x; loc, exp(log_scale)²), not summed."""
    standardized = (x - self.loc) * jnp.exp(-self.log_scale)
    return -0.5 * (jnp.square(standardized) + math.log(2 * math.pi)) - self.log_scale

  def sample(self, noise: Array, temperature: float | Array = 1.0) -> Array:
    """The reparameterised draw that standard normal `noise` makes (Kingma & Welling 2014)."""
    return self.loc + temperature * jnp.exp(self.log_scale) * noise


def kl_normal(q: Normal, p: Normal) -> Array:
  """KL(q || p), elementwise, in nats."""
  log_ratio = q.log_scale - p.log_scale
  distance = (q.loc - p.loc) * jnp.exp(-p.log_scale)
  return 0.5 * (jnp.exp(2 * log_ratio) + jnp.square(distance) - 1.0) - log_ratio
