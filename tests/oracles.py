"""Independent ways to compute what the library computes: slow, obvious, and not using it."""

import jax
import jax.numpy as jnp
import numpy as np

from afslvm.models.base import SequenceModel, StepTerms


def dense_log_det(function, x):
  """log |det d function / dx| of a function of one array, by its full Jacobian, in float64."""
  jacobian = jax.jacobian(lambda flat: function(flat.reshape(x.shape)).ravel())(x.ravel())
  sign, log_det = np.linalg.slogdet(np.asarray(jacobian, np.float64))
  assert sign != 0, 'the Jacobian is singular'
  return log_det


def particle_coefficients(num_frames, first):
  """The best linear predictor of x_t from x_{t-1} alone, for a particle of Eq. 10-14, sigma = 1.

  By brute force over the exact covariance of x: x_t is a sum of (t - s + 1) w_s.

  Returns:
    The coefficient, and the mean squared residual over steps first..num_frames-1.
  """
  weights = np.maximum(np.arange(num_frames)[:, None] - np.arange(num_frames)[None] + 1, 0)
  covariance = weights @ weights.T
  steps = np.arange(first, num_frames)
  cross = covariance[steps, steps - 1].mean()
  past = covariance[steps - 1, steps - 1].mean()
  now = covariance[steps, steps].mean()
  coefficient = cross / past
  return coefficient, now - coefficient * cross


class GivenNoise(SequenceModel):
  """A base model whose samples are given: entry k of `noise` is the k-th step after the context."""

  noise: tuple = ()

  def initial_state(self, batch_size):
    return jnp.zeros((batch_size, 1), jnp.int32)

  def step(self, state, x_t, mask_t=None):
    zeros = jnp.zeros(x_t.shape[0])
    return state, StepTerms(zeros, zeros, zeros, zeros == 0)

  def predict(self, state, temperature=1.0):
    noise = jnp.asarray(self.noise, jnp.float32).reshape(state.shape[0], -1, *self.event_shape)
    return state + 1, jnp.take(noise, state[0, 0], axis=1)

  def continue_in_parallel(self, context, num_steps, temperature):
    noise = jnp.asarray(self.noise, jnp.float32)
    return noise.reshape(context.shape[0], -1, *self.event_shape)[:, :num_steps]
