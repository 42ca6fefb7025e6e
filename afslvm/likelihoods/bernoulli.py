"""Bernoulli likelihood of binary observations, such as piano rolls."""

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from afslvm.distributions import bernoulli
from afslvm.likelihoods.base import ConditionalLikelihood
from afslvm.likelihoods.heads import Head
from afslvm.networks import conv
from afslvm.types import Array, PyTree, ScalarOrArray


class Bernoulli(ConditionalLikelihood):
  """Independent binary dimensions, given logits that are linear in the features.

  Attributes:
    initial_rate: p(x = 1) before training; without it a fresh model of sparse data pays many nats
      for every dimension that is almost always zero.
    initialization: of the head, one of `conv.INITIALIZATIONS`.
  """

  initial_rate: float = 0.5
  initialization: str = 'lecun'

  measure: ClassVar = 'probability'
  support: ClassVar = 'binary'
  choices: ClassVar = {'initialization': conv.INITIALIZATIONS}
  limits: ClassVar = {'initial_rate': (1e-6, 1.0 - 1e-6)}

  def setup(self):
    """Declares the head."""
    self.head = Head(self.event_shape, self.initialization)

  def distribution(self, features: PyTree) -> bernoulli.Bernoulli:
    """Returns the probabilities of each observation, [N, *event]."""
    offset = jnp.log(self.initial_rate) - jnp.log1p(-self.initial_rate)
    return bernoulli.Bernoulli(self.head(features) + offset)

  def log_prob(self, features: PyTree, x: Array, mask: Array | None = None) -> Array:
    """See base class."""
    del mask
    values = self.distribution(features).log_prob(x)
    return jnp.sum(values.reshape(x.shape[0], -1), axis=1)

  def sample(self, features: PyTree, key: Array, temperature: ScalarOrArray = 1.0) -> Array:
    """See base class; the logits are divided by the temperature."""
    logits = self.distribution(features).logits
    # With logistic noise at temperature T, P(logits + T noise > 0) = sigmoid(logits / T).
    uniform = jax.random.uniform(key, logits.shape, minval=1e-7, maxval=1.0)
    noise = jnp.log(uniform) - jnp.log1p(-uniform)
    return (logits + temperature * noise > 0).astype(jnp.float32)

  def predict(self, features: PyTree) -> Array:
    """Returns p(x = 1)."""
    return nn.sigmoid(self.distribution(features).logits)

  def error(self, features: PyTree, x: Array) -> Array:
    """Returns x - p, the gradient by the logits, [N, *event]."""
    return x - self.predict(features)
