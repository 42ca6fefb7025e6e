"""The base of standalone flows: independent N(0, I) at every step (AF paper Section 2.3)."""

import math

import jax
import jax.numpy as jnp

from afslvm.models.base import Limit, SequenceModel, StepTerms
from afslvm.types import Array, Temperature


class StandardNormal(SequenceModel):
  """y_t ~ N(0, I), without parameters and without memory."""

  @property
  def normal_on_data(self) -> bool:
    """What it is."""
    return True

  def initial_state(self, batch_size: int) -> Array:
    """Returns [B, 0]: nothing is remembered but the batch size."""
    return jnp.zeros((batch_size, 0))

  def step(self, state: Array, x_t: Array, mask_t: Array | None = None) -> tuple[Array, StepTerms]:
    """Scores log N(x_t; 0, I)."""
    del mask_t
    return state, self._terms(x_t)

  def predict(
    self, state: Array, temperature: Temperature = 1.0, limit: Limit | None = None
  ) -> tuple[Array, Array]:
    """Draws x_t, which is temperature * noise; of a pair the second is that of observations."""
    temperature = temperature[1] if isinstance(temperature, tuple) else temperature
    shape = (state.shape[0], *self.event_shape)
    x_t = temperature * jax.random.normal(self.make_rng('sample'), shape)
    return state, limit(x_t) if limit else x_t

  def sequence_terms(self, x: Array, mask: Array) -> StepTerms:
    """Scores all steps at once."""
    del mask
    return self._terms(x)

  def continue_in_parallel(self, context: Array, num_steps: int, temperature: Temperature) -> Array:
    """Draws all steps at once."""
    temperature = temperature[1] if isinstance(temperature, tuple) else temperature
    shape = (context.shape[0], num_steps, *self.event_shape)
    return temperature * jax.random.normal(self.make_rng('sample'), shape)

  def _terms(self, x: Array) -> StepTerms:
    event = tuple(range(-len(self.event_shape), 0))
    log_prob = -0.5 * jnp.sum(jnp.square(x) + math.log(2 * math.pi), axis=event)
    zeros = jnp.zeros_like(log_prob)
    return StepTerms(log_prob, zeros, zeros, jnp.ones(log_prob.shape, bool))
