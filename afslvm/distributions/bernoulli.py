"""The Bernoulli distribution, from logits."""

import jax
from flax import struct

from afslvm.types import Array


class Bernoulli(struct.PyTreeNode):
  """Independent binary variables; all methods are elementwise."""

  logits: Array

  def log_prob(self, x: Array) -> Array:
    """log p(x) of x in {0, 1}: never infinite for finite logits, however large they are."""
    return x * self.logits - jax.nn.softplus(self.logits)

  @property
  def mean(self) -> Array:
    """p(x = 1)."""
    return jax.nn.sigmoid(self.logits)
