"""What a latent variable model asks of its conditional likelihood."""

from typing import ClassVar

import flax.linen as nn

from afslvm.types import Array, EventShape


class ConditionalLikelihood(nn.Module):
  """A density of observations [N, *event] given features [N, ...] of each.

  Attributes:
    event_shape: of one observation.
    measure: what exp(log_prob) is: a 'density', or the 'probability' of a value of discrete data.
      Numbers of two measures do not compare.
    support: values that it is of, 'real' or 'binary'.
  """

  event_shape: EventShape

  measure: ClassVar = 'density'
  support: ClassVar = 'real'

  def log_prob(self, features: Array, x: Array) -> Array:
    """log p(x | features) [N], nats, summed over the event."""
    raise NotImplementedError

  def sample(self, features: Array, temperature: float | Array = 1.0) -> Array:
    """A draw [N, *event]; `temperature` scales its standard deviation."""
    raise NotImplementedError

  def mean(self, features: Array) -> Array:
    """The expectation [N, *event], for pictures."""
    raise NotImplementedError

  def error(self, features: Array, x: Array) -> Array:
    """The precision-weighted error [N, *event]: the gradient of log_prob by the mean or logits."""
    raise NotImplementedError

  def saturation(self, features: Array) -> Array:
    """Share of the log-scales of each observation that lie at a bound, [N]."""
    raise NotImplementedError
