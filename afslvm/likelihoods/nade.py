"""Binary observations whose dimensions depend on each other: NADE (Larochelle & Murray 2011)."""

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from afslvm.distributions.bernoulli import Bernoulli
from afslvm.likelihoods.base import ConditionalLikelihood
from afslvm.likelihoods.heads import Head
from afslvm.networks import conv
from afslvm.types import Array, PyTree, ScalarOrArray


class Nade(ConditionalLikelihood):
  """p(x) = Π_d p(x_d | x_<d, features) over the dimensions of a vector, from the first to the last.

  As in RNN-NADE (Boulanger-Lewandowski et al. 2012) the features move the biases: with W, V shared,
  p(x_d = 1 | x_<d) = sigmoid(b_d + V_d · sigmoid(c + Σ_{i<d} W_i x_i)), b and c linear in them.

  Attributes:
    hidden: units H of c (there: 100 to 150).
    initial_rate: p(x = 1) before training.
    initialization: of the heads, one of `conv.INITIALIZATIONS`.
  """

  hidden: int = 100
  initial_rate: float = 0.5
  initialization: str = 'lecun'

  measure: ClassVar = 'probability'
  support: ClassVar = 'binary'
  choices: ClassVar = {'initialization': conv.INITIALIZATIONS}
  limits: ClassVar = {'hidden': (1, None), 'initial_rate': (1e-6, 1.0 - 1e-6)}

  def setup(self):
    """Declares heads and shared weights."""
    (size,) = self.event_shape
    self.head = Head(self.event_shape, self.initialization)
    self.hidden_bias = nn.Dense(self.hidden, kernel_init=conv.kernel_init(self.initialization))
    self.inputs = self.param('inputs', nn.initializers.normal(0.05), (size, self.hidden))
    self.outputs = self.param('outputs', nn.initializers.normal(0.05), (size, self.hidden))

  def _biases(self, features: PyTree) -> tuple[Array, Array]:
    """Returns b [N, D] and c [N, H]."""
    offset = jnp.log(self.initial_rate) - jnp.log1p(-self.initial_rate)
    return self.head(features) + offset, self.hidden_bias(features)

  def _conditionals(self, features: PyTree, x: Array) -> Bernoulli:
    """Returns p(x_d | x_<d, features) of every d, [N, D], all at once."""
    b, c = self._biases(features)
    earlier = jnp.tril(jnp.ones((x.shape[1],) * 2), -1)  # [d, i]: i comes before d
    hidden = nn.sigmoid(c[:, None] + (x[:, None] * earlier) @ self.inputs)  # [N, D, H]
    return Bernoulli(b + jnp.sum(hidden * self.outputs, axis=-1))

  def log_prob(self, features: PyTree, x: Array, mask: Array | None = None) -> Array:
    """See base class."""
    del mask
    return jnp.sum(self._conditionals(features, x).log_prob(x), axis=-1)

  def _from_first_to_last(self, features: PyTree, choose) -> Array:
    """Returns x [N, D], where choose(logit [N], d) gives x_d."""
    b, c = self._biases(features)

    def step(c, inputs):
      b_d, w_d, v_d, d = inputs
      x_d = choose(b_d + nn.sigmoid(c) @ v_d, d)
      return c + x_d[:, None] * w_d, x_d

    places = jnp.arange(b.shape[1])
    _, x = jax.lax.scan(step, c, (b.T, self.inputs, self.outputs, places))
    return x.T

  def sample(self, features: PyTree, key: Array, temperature: ScalarOrArray = 1.0) -> Array:
    """See base class; temperature divides the logits, and 0 takes the likelier value each time."""
    noise = jax.random.logistic(key, (features.shape[0], *self.event_shape))

    def choose(logit, d):
      return (logit + temperature * noise[:, d] > 0).astype(jnp.float32)

    return self._from_first_to_last(features, choose)

  def predict(self, features: PyTree) -> Array:
    """Returns about p(x = 1): each dimension sees the probabilities of those before it."""
    return self._from_first_to_last(features, lambda logit, d: nn.sigmoid(logit))

  def error(self, features: PyTree, x: Array) -> Array:
    """Returns x - p, the gradient by b, [N, *event]."""
    return x - self._conditionals(features, x).mean
