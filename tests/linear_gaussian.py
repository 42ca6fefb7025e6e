"""A linear-Gaussian state space model as a leaf of the filtering engine, nothing learned.

Two dimensions by themselves; everything about them is known in closed form (`tests/oracles.py`).
"""

import jax
import jax.numpy as jnp
import numpy as np

from afslvm.distributions.normal import Normal
from afslvm.inference.base import Inference, Inferred
from afslvm.likelihoods.base import ConditionalLikelihood
from afslvm.models.state_space import StateSpaceModel

SIZE = 2
TRANSITION, EMISSION, NOISE = (0.9, -0.6), (1.3, 0.8), (0.5, 0.9)
OBSERVED, FIRST = (0.7, 0.4), (1.0, 1.4)
PARAMETERS = tuple(np.array(p) for p in (TRANSITION, EMISSION, NOISE, OBSERVED, FIRST))


class Emission(ConditionalLikelihood):
  """x_t ~ N(emission z_t, observed²)."""

  def distribution(self, features):
    loc = features * jnp.array(EMISSION)
    return Normal(loc, jnp.broadcast_to(jnp.log(jnp.array(OBSERVED)), loc.shape))

  def log_prob(self, features, x, mask=None):
    return self.distribution(features).log_prob(x).sum(axis=-1)

  def sample(self, features, key, temperature=1.0):
    return self.distribution(features).sample(jax.random.normal(key, features.shape), temperature)

  def predict(self, features):
    return self.distribution(features).loc

  def error(self, features, x):
    normal = self.distribution(features)
    return (x - normal.loc) * jnp.exp(-2 * normal.log_scale)


class Message(Inference):
  """prior times a message, which is p(x_t | z_t), or p(x_{t:T} | z_t) with `future`; or nothing.

  The mean can be moved by `shift` and the deviation stretched by exp(log_stretch), to be wrong.
  """

  future: bool = False
  blind: bool = False
  shift: float = 0.0
  log_stretch: float = 0.0

  def encode(self, x, mask):
    own = jnp.square(jnp.array(EMISSION) / jnp.array(OBSERVED)) * mask[..., None]
    weighted = x * jnp.array(EMISSION) / jnp.square(jnp.array(OBSERVED)) * mask[..., None]
    if not self.future:
      return jnp.concatenate([own, weighted], axis=-1) * (not self.blind)
    transition, noise = jnp.array(TRANSITION), jnp.array(NOISE)
    later, messages = (jnp.zeros_like(x[:, 0]),) * 2, []
    for t in reversed(range(x.shape[1])):
      precision, mean = own[:, t] + later[0], weighted[:, t] + later[1]
      messages.append(jnp.concatenate([precision, mean], axis=-1))
      shrunk = transition / (1 + noise**2 * precision)
      later = transition * shrunk * precision, shrunk * mean
    return jnp.stack(messages[::-1], axis=1)

  def infer(self, state, encoded, history, prior, free_energy=None):
    precision, weighted = jnp.split(encoded, 2, axis=-1)
    before = jnp.exp(-2 * prior.log_scale)
    loc = (before * prior.loc + weighted) / (before + precision)
    log_scale = -0.5 * jnp.log(before + precision)
    return Inferred(state, Normal(loc + self.shift, log_scale + self.log_stretch))


class LinearGaussian(StateSpaceModel):
  """The state is the prior of the next z."""

  def initial(self, batch_size):
    scale = jnp.broadcast_to(jnp.log(jnp.array(FIRST)), (batch_size, SIZE))
    return Normal(jnp.zeros((batch_size, SIZE)), scale)

  def prior(self, state, seen_t):
    return state

  def emission(self, state, z_t, seen_t, mask_t):
    return z_t

  def transition(self, state, z_t, seen_t):
    scale = jnp.broadcast_to(jnp.log(jnp.array(NOISE)), z_t.shape)
    return Normal(z_t * jnp.array(TRANSITION), scale)


def make(inference=None, **message):
  """The model with an inference procedure; by default the exact filtering posterior."""
  return LinearGaussian(
    (SIZE,),
    latent_shape=(SIZE,),
    likelihood=Emission((SIZE,)),
    inference=inference or Message(SIZE, **message),
  )


def sequences(count, steps, seed=0):
  """x [count, steps, 2] of the model itself."""
  rng = np.random.default_rng(seed)
  transition, emission, noise, observed, first = PARAMETERS
  z, x = first * rng.normal(size=(count, SIZE)), []
  for _ in range(steps):
    x.append(emission * z + observed * rng.normal(size=z.shape))
    z = transition * z + noise * rng.normal(size=z.shape)
  return np.stack(x, axis=1)
