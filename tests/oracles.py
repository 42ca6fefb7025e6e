"""Independent ways to compute what the library computes: slow, obvious, and not using it."""

import jax
import jax.numpy as jnp
import numpy as np

from afslvm.models.base import SequenceModel, StepTerms


def dense_log_det(function, x):
  """log |det d function / dx| of a function of one array, by its full Jacobian, in float64."""
  of_flat = jax.jacobian(lambda flat: function(flat.reshape(x.shape)).ravel())
  jacobian = jax.jit(of_flat)(x.ravel())  # eagerly, every operation compiles by itself
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

  def predict(self, state, temperature=1.0, limit=None):
    noise = jnp.asarray(self.noise, jnp.float32).reshape(state.shape[0], -1, *self.event_shape)
    return state + 1, jnp.take(noise, state[0, 0], axis=1)

  def continue_in_parallel(self, context, num_steps, temperature):
    noise = jnp.asarray(self.noise, jnp.float32)
    return noise.reshape(context.shape[0], -1, *self.event_shape)[:, :num_steps]


# ---- linear-Gaussian state space models ----------------------------------------------------------
# z_1 ~ N(0, first²), z_t ~ N(transition z_{t-1}, noise²), x_t ~ N(emission z_t, observed²), for
# several dimensions by themselves: every parameter is [Z], x is [T, Z].


def kalman_log_likelihood(x, transition, emission, noise, observed, first):
  """log p(x_{1:T}) by the prediction errors of a Kalman filter."""
  mean, variance, total = np.zeros_like(transition), first**2, 0.0
  for x_t in x:
    spread = emission**2 * variance + observed**2
    error = x_t - emission * mean
    total += -0.5 * np.sum(error**2 / spread + np.log(2 * np.pi * spread))
    gain = variance * emission / spread
    mean, variance = mean + gain * error, (1 - gain * emission) * variance
    mean, variance = transition * mean, transition**2 * variance + noise**2
  return total


def dense_log_likelihood(x, transition, emission, noise, observed, first):
  """The same from the covariance of all of x_{1:T} at once."""
  total = 0.0
  for k in range(x.shape[1]):
    times = np.arange(len(x))
    powers = np.where(times[:, None] >= times, transition[k] ** (times[:, None] - times + 0.0), 0.0)
    sources = np.diag(np.where(times == 0, first[k], noise[k]) ** 2)
    covariance = emission[k] ** 2 * powers @ sources @ powers.T
    covariance += observed[k] ** 2 * np.eye(len(x))
    sign, log_det = np.linalg.slogdet(2 * np.pi * covariance)
    assert sign == 1
    total += -0.5 * (x[:, k] @ np.linalg.solve(covariance, x[:, k]) + log_det)
  return total


def backward_messages(x, transition, emission, noise, observed, future=True):
  """p(x_{t:T} | z_t), or p(x_t | z_t), up to a factor: precisions and precision-weighted means."""
  precision, weighted = np.zeros_like(x), np.zeros_like(x)
  later = np.zeros_like(transition), np.zeros_like(transition)
  for t in reversed(range(len(x))):
    precision[t] = (emission / observed) ** 2 + later[0]
    weighted[t] = emission * x[t] / observed**2 + later[1]
    if future:
      shrunk = transition / (1 + noise**2 * precision[t])
      later = transition * shrunk * precision[t], shrunk * weighted[t]
  return precision, weighted


def affine_posterior(x, parameters, future=False, shift=0.0, log_stretch=0.0):
  """p(z_t | z_{t-1}, x_t), or with `future` p(z_t | z_{t-1}, x_{t:T}), and others like it.

  Returns:
    Slope on z_{t-1}, intercept and standard deviation, [T, Z] each; the intercept is moved by
    `shift`, the deviation stretched by exp(log_stretch).
  """
  transition, _, noise, _, first = parameters
  precision, weighted = backward_messages(x, *parameters[:4], future)
  spread = np.concatenate([first[None], np.broadcast_to(noise, (len(x) - 1, len(noise)))])
  total = 1 / spread**2 + precision
  return transition / spread**2 / total, weighted / total + shift, total**-0.5 * np.exp(log_stretch)


def affine_elbo(x, parameters, posterior):
  """The bound of q(z_t | z_{t-1}) = N(slope z_{t-1} + intercept, deviation²), in closed form.

  Returns:
    The bound, and Σ_t E_q[log p(x_t | z_{t-1})], which it is at p(z_t | z_{t-1}, x_t).
  """
  transition, emission, noise, observed, first = parameters
  mean, variance = np.zeros_like(transition), np.zeros_like(transition)
  bound = predictive = 0.0
  for t, x_t in enumerate(x):
    slope, intercept, deviation = (part[t] for part in posterior)
    spread = noise if t else first
    predicted = emission**2 * spread**2 + observed**2
    error = (x_t - emission * transition * mean) ** 2 + (emission * transition) ** 2 * variance
    predictive += -0.5 * np.sum(error / predicted + np.log(2 * np.pi * predicted))
    distance = ((slope - transition) * mean + intercept) ** 2 + (slope - transition) ** 2 * variance
    kl = np.log(spread / deviation) + (deviation**2 + distance) / (2 * spread**2) - 0.5
    mean, variance = slope * mean + intercept, slope**2 * variance + deviation**2
    error = ((x_t - emission * mean) ** 2 + emission**2 * variance) / observed**2
    bound += np.sum(-0.5 * (error + np.log(2 * np.pi * observed**2)) - kl)
  return bound, predictive


def prior_chain_elbo(x, parameters, posterior):
  """The bound whose prior at t is given c_{t-1}, which c_t = transition c_{t-1} + noise decides.

  No observation corrects c, so its moments are those of z before anything is seen. The posterior
  N(slope c_{t-1} + intercept, deviation²) sees it through the prior.
  """
  transition, emission, noise, observed, first = parameters
  bound, variance = 0.0, np.zeros_like(transition)
  for t, x_t in enumerate(x):
    slope, intercept, deviation = (part[t] for part in posterior)
    spread = noise if t else first
    distance = intercept**2 + (slope - transition) ** 2 * variance
    kl = np.log(spread / deviation) + (deviation**2 + distance) / (2 * spread**2) - 0.5
    of_z = slope**2 * variance + deviation**2
    error = ((x_t - emission * intercept) ** 2 + emission**2 * of_z) / observed**2
    bound += np.sum(-0.5 * (error + np.log(2 * np.pi * observed**2)) - kl)
    variance = transition**2 * variance + spread**2
  return bound


def apart_log_likelihood(x, transition, emission, noise, observed, first):
  """Σ_t log p(x_t), as if no step knew of another."""
  total, variance = 0.0, first**2
  for x_t in x:
    spread = emission**2 * variance + observed**2
    total += -0.5 * np.sum(x_t**2 / spread + np.log(2 * np.pi * spread))
    variance = transition**2 * variance + noise**2
  return total
