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


def box_logistic(x, shift, log_scale, log_weights=None):
  """log F, log(1 - F) and log p of a logistic variable plus uniform noise of width 1/256.

  By the definition, with the 64 bits of a long double's mantissa. With `log_weights` [..., K] it is
  the mixture of K such variables, whose other parameters have a last axis more, too.
  """
  if log_weights is not None:
    weights = np.exp(np.asarray(log_weights, np.longdouble))
    parts = box_logistic(np.asarray(x)[..., None], shift, log_scale)
    with np.errstate(divide='ignore'):
      return tuple(np.log(np.sum(weights * np.exp(part), axis=-1)) for part in parts)
  given = (np.asarray(value, np.float32) for value in (x, shift, log_scale))
  x, shift, log_scale = (value.astype(np.longdouble) for value in given)
  a, b = ((x - shift + side * np.longdouble(1) / 512) * np.exp(-log_scale) for side in (1, -1))

  def softplus(z):
    return np.logaddexp(np.longdouble(0), z)

  def sigmoid(z):
    return np.exp(-softplus(-z))

  below, above = softplus(a) - softplus(b), softplus(-b) - softplus(-a)
  inside = np.where(a + b < 0, sigmoid(a) - sigmoid(b), sigmoid(-b) - sigmoid(-a))
  with np.errstate(divide='ignore'):
    return np.log(below / (a - b)), np.log(above / (a - b)), np.log(256 * inside)


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
  """Returns the same from the covariance of all of x_{1:T} at once."""
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


# ---- Glow and VideoFlow --------------------------------------------------------------------------
# tensor2tensor's definitions (Kumar et al. 2020) in float64: maps are [N, h, w, C], or with slots
# of time [N, T, h, w, C]; `p` are the parameters of a layer. Where a kernel has room for one more
# channel, that is the edge's: 0 inside, 1 in the padding.


def edge_conv(p, x, rate=1):
  """A convolution, padded before in time and around in space, the edge's channel concatenated."""
  kernel = p['kernel']
  if plane := kernel.ndim == 4:
    kernel, x = kernel[None], x[:, None]
  around = (rate * (kernel.shape[1] // 2),) * 2
  padding = [(0, 0), (len(kernel) - 1, 0), around, around]
  padded = np.pad(x, [*padding, (0, 0)])
  if kernel.shape[3] > x.shape[-1]:
    edge = np.pad(np.zeros(x.shape[:-1]), padding, constant_values=1.0)
    padded = np.concatenate([padded, edge[..., None]], axis=-1)
  steps, h, w = x.shape[1:4]
  y = 0.0
  for t, i, j in np.ndindex(kernel.shape[:3]):
    a, b = rate * i, rate * j
    y = y + padded[:, t : t + steps, a : a + h, b : b + w] @ kernel[t, i, j]
  return y[:, 0] if plane else y


def actnorm(p, x, seen=None):
  """(x - shift) exp(-3 log_scale), with parameters of channels or of slots and channels."""
  shift, log_scale = (v[:, None, None] if v.ndim == 2 else v for v in (p['shift'], p['log_scale']))
  y = (x - shift) * np.exp(-3 * log_scale)
  if seen is not None:
    seen.append(y)
  return y


def gained(p, x):
  return (x + p['bias']) * np.exp(3 * p['gain'])


def sigmoid(x):
  return 1 / (1 + np.exp(-x))


def hidden_layers(p, x, activation, rate=1, seen=None):
  """3 x 3, ReLU, 1 x 1, and the last activation, with an actnorm before each of them."""
  h = np.maximum(actnorm(p['first_norm'], edge_conv(p['first'], x, rate), seen), 0.0)
  second = p['second']
  value = actnorm(second['value_norm'], h @ second['value']['Dense_0']['kernel'], seen)
  if activation == 'relu':
    return np.maximum(value, 0.0)
  gate = actnorm(second['gate_norm'], h @ second['gate']['Dense_0']['kernel'], seen)
  return np.tanh(value) * sigmoid(gate)


def zero_conv(p, x):
  return gained(p['output'], edge_conv(p['conv'], x))


def glow_stack(p, x, activation='gated', seen=None):
  return zero_conv(p['last'], hidden_layers(p, x, activation, seen=seen))


def plane_prior(p, window, level_mean, depth):
  """The slots of a window [N, window, h, w, C] and the level's mean, side by side."""
  h = np.concatenate([*window.swapaxes(0, 1), *([] if level_mean is None else [level_mean])], -1)
  for k in range(depth):
    h = h + glow_stack(p[f'block_{k}'], h)
  return gained(p['last']['output'], h @ p['last']['linear']['kernel'])


def spacetime_prior(p, window, level_mean, depth, rates):
  """`conv3d_net`: the level's mean beside each slot, and branches of several dilations."""
  h = window
  if level_mean is not None:
    h = np.concatenate([h, np.stack([level_mean] * window.shape[1], axis=1)], axis=-1)
  for k in range(depth):
    branches = [(rate, p[f'block_{k}_dilation_{rate}']) for rate in rates]
    h = h + sum(
      gained(b['output'], edge_conv(b['last'], hidden_layers(b, h, 'gated', rate), rate))
      for rate, b in branches
    )
  return gained(p['last']['output'], h[:, -1] @ p['last']['linear']['kernel'])


def flow_step(p, constants, x, condition=None, coupling='affine', activation='gated', seen=None):
  """Actnorm, 1 x 1, coupling: the second half is scaled by sigmoid(raw + 2).

  Returns:
    y, and log |det dy/dx| [N].
  """
  (_, h, w, channels), factors = x.shape, p['linear']['factors']
  log_diagonal = np.diag(factors)
  lower = np.tril(factors, -1) + np.eye(channels)
  upper = np.triu(factors, 1) + np.diag(constants['sign'] * np.exp(log_diagonal))
  y = actnorm(p['norm'], x, seen) @ (constants['permutation'] @ lower @ upper)
  log_det = h * w * (np.sum(log_diagonal) - 3 * np.sum(p['norm']['log_scale']))
  kept, moved = np.split(y, 2, axis=-1)
  shown = kept if condition is None else np.concatenate([kept, condition], axis=-1)
  raw = glow_stack(p['coupling']['network'], shown, activation, seen)
  if coupling == 'additive':
    return np.concatenate([kept, moved - raw], axis=-1), np.full(len(x), log_det)
  shift, raw = np.split(raw, 2, axis=-1)
  scale = sigmoid(raw + 2)
  y = np.concatenate([kept, (moved - shift) * scale], axis=-1)
  return y, log_det + np.log(scale).sum(axis=(1, 2, 3))


def glow(p, constants, x, conditions=None, seen=None, **options):
  """All levels; `constants` of each level are [depth, ...], as are its parameters.

  Returns:
    The latents, finest first, what is above each but the last, and log |det| [N].
  """
  latents, above, total = [], [], 0.0
  for level, own in enumerate(constants):
    n, h, w, c = x.shape
    x = x.reshape(n, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 5, 2, 4)
    x = x.reshape(n, h // 2, w // 2, 4 * c)
    for k in range(len(own['sign'])):
      step, fixed = (jax.tree.map(lambda v, k=k: v[k], t) for t in (p[f'level_{level}'], own))
      condition = None if conditions is None else conditions[level]
      x, log_det = flow_step(step, fixed, x, condition, seen=seen, **options)
      total = total + log_det
    if level < len(constants) - 1:
      x, z = np.split(x, 2, axis=-1)
      latents, above = [*latents, z], [*above, x]
  return [*latents, x], above, total
