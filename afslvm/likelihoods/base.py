"""What a latent variable model asks of its conditional likelihood p(x_t | features)."""

from typing import ClassVar, Protocol, runtime_checkable

import flax.linen as nn

from afslvm.types import Array, EventShape, PyTree, ScalarOrArray


class ConditionalLikelihood(nn.Module):
  """A density of observations [N, *event] given features of each.

  Features are whatever the model's decoder makes for the N observations: one array [N, ...], or any
  pytree of such arrays. A likelihood may also have the methods of `HasErrors` and `HasScales`.

  Attributes:
    event_shape: the shape of one observation.
    measure: what exp(log_prob) is: a 'density', or the 'probability' of a value of discrete data.
      Numbers of two measures do not compare.
    support: the kind of values that it models, 'real' or 'binary'.
    is_normal: whether it is a normal density of x.
  """

  event_shape: EventShape

  measure: ClassVar = 'density'
  support: ClassVar = 'real'
  is_normal: ClassVar = False

  def log_prob(self, features: PyTree, x: Array, mask: Array | None = None) -> Array:
    """Returns log p(x | features) [N], nats, summed over the event.

    `mask`, bool [N], is False at padding; it concerns likelihoods with batch statistics only.
    """
    raise NotImplementedError

  def sample(self, features: PyTree, key: Array, temperature: ScalarOrArray = 1.0) -> Array:
    """Draws x [N, *event]; `temperature` scales the standard deviation, and 0 gives the mode."""
    raise NotImplementedError

  def predict(self, features: PyTree) -> Array:
    """Returns what a picture shows of p(x | features), [N, *event]: the mean, if there is one."""
    raise NotImplementedError


@runtime_checkable
class HasErrors(Protocol):
  """A likelihood whose precision-weighted errors an inference network may see (AVF)."""

  def error(self, features: PyTree, x: Array) -> Array:
    """Returns standardised errors, [N, *event]: the gradient of log_prob by mean or logits."""
    ...


@runtime_checkable
class HasScales(Protocol):
  """A likelihood with learned log-scales that are bounded."""

  def saturation(self, features: PyTree, x: Array) -> Array:
    """Returns the share of the log-scales of each observation that lie at a bound, [N]."""
    ...
