"""What a latent variable model asks of its conditional likelihood."""

import flax.linen as nn

from afslvm.types import Array, EventShape


class ConditionalLikelihood(nn.Module):
  """A density of observations [N, *event] given features [N, ...] of each.

  Attributes:
    event_shape: of one observation.
  """

  event_shape: EventShape

  def log_prob(self, features: Array, x: Array) -> Array:
    """log p(x | features) [N], nats, summed over the event."""
    raise NotImplementedError

  def sample(self, features: Array, temperature: float | Array = 1.0) -> Array:
    """A draw [N, *event]; `temperature` scales its standard deviation."""
    raise NotImplementedError

  def mean(self, features: Array) -> Array:
    """The expectation [N, *event], for pictures."""
    raise NotImplementedError

  def saturation(self, features: Array) -> Array:
    """Share of the log-scales of each observation that lie at a bound, [N]."""
    raise NotImplementedError
