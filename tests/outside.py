"""Classes that do not come with the package, which configs name by their path.

`likelihood.name = 'tests.outside:StudentT'` is all that a config says; nothing is registered.
"""

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln

import afslvm as af
from afslvm.models.base import StepTerms


class StudentT(af.ConditionalLikelihood):
  """Independent dimensions with heavy tails, x = mean + exp(log_scale) t.

  Attributes:
    degrees: of freedom of Student's t; at 30 it is nearly normal.
  """

  degrees: float = 4.0

  limits: ClassVar = {'degrees': (2.1, None)}

  def setup(self):
    self.head = nn.Dense(2 * self.event_shape[0])

  def parameters(self, features):
    mean, log_scale = jnp.split(self.head(features), 2, axis=-1)
    return mean, jnp.clip(log_scale, -5.0, 5.0)

  def log_prob(self, features, x, mask=None):
    mean, log_scale = self.parameters(features)
    n = self.degrees
    constant = gammaln((n + 1) / 2) - gammaln(n / 2) - 0.5 * jnp.log(n * jnp.pi)
    t = (x - mean) * jnp.exp(-log_scale)
    return jnp.sum(constant - log_scale - (n + 1) / 2 * jnp.log1p(t**2 / n), axis=-1)

  def sample(self, features, key, temperature=1.0):
    mean, log_scale = self.parameters(features)
    t = jax.random.t(key, self.degrees, mean.shape)
    return mean + temperature * jnp.exp(log_scale) * t

  def predict(self, features):
    return self.parameters(features)[0]

  def saturation(self, features, x):
    return jnp.mean(jnp.abs(self.parameters(features)[1]) > 4.9, axis=-1)


class RandomWalk(af.SequenceModel):
  """x_t = x_{t-1} + scale · noise, from x_0 = 0.

  Attributes:
    initial_log_scale: before training.
  """

  initial_log_scale: float = 0.0

  def setup(self):
    self.log_scale = self.param(
      'log_scale', nn.initializers.constant(self.initial_log_scale), self.event_shape
    )

  def initial_state(self, batch_size):
    return jnp.zeros((batch_size, *self.event_shape))

  def step(self, state, x_t, mask_t=None):
    log_prob = jax.scipy.stats.norm.logpdf(x_t, state, jnp.exp(self.log_scale))
    total = jnp.sum(log_prob.reshape(len(x_t), -1), axis=1)
    zero = jnp.zeros_like(total)
    return x_t, StepTerms(total, zero, zero, jnp.ones(total.shape, bool))

  def predict(self, state, temperature=1.0, limit=None):
    noise = jax.random.normal(self.make_rng('sample'), state.shape)
    x_t = state + temperature * jnp.exp(self.log_scale) * noise
    return x_t, x_t


class NoModel:
  """Not a model at all."""
