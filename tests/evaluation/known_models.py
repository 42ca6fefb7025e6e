"""Models whose likelihood is known on paper, and data to score them on."""

import jax.numpy as jnp
import numpy as np

from afslvm.evaluation.contract import LikelihoodContract
from afslvm.evaluation.likelihood import Evaluation
from afslvm.models.base import SequenceModel, StepTerms

EVENT = (3, 4, 1)
DIMS = 12
STEPS = 6
SCORED = (2, 5)


class Known(SequenceModel):
  """A model that scores each value by itself and remembers nothing."""

  def log_density(self, x):
    raise NotImplementedError

  def sequence_terms(self, x, mask):
    log_prob = self.log_density(x).sum(axis=tuple(range(2, x.ndim)))
    zeros = jnp.zeros_like(log_prob)
    return StepTerms(log_prob, zeros, zeros, zeros == 0)


class Uniform(Known):
  """The uniform density on [0, 1]."""

  def log_density(self, x):
    return jnp.zeros_like(x)


class TooGood(Known):
  """More than the noise of gauss256 allows anyone, -½ log(2πe / 256²) = 4.126."""

  def log_density(self, x):
    return jnp.full_like(x, 4.3)


class Gaussian(Known):
  """N(mean, variance) at every step, both nested tuples of the event's shape, or numbers."""

  mean: tuple | float = 0.0
  variance: tuple | float = 1.0
  normal_on_data = True

  def log_density(self, x):
    mean, variance = jnp.asarray(self.mean), jnp.asarray(self.variance)
    return -0.5 * (jnp.square(x - mean) / variance + jnp.log(2 * jnp.pi * variance))


def as_tuple(array):
  """Nested tuples, since the fields of a module are hashed."""
  return tuple(map(as_tuple, array)) if np.ndim(array) else float(array)


def still_frames(sequences=32, steps=STEPS, seed=0):
  """Sequences [B, T, *event] uint8 in which nothing moves, all the same picture."""
  picture = np.random.default_rng(seed).integers(0, 256, EVENT).astype(np.uint8)
  return np.broadcast_to(picture, (sequences, steps, *EVENT))


def moving_frames(sequences=32, steps=STEPS, seed=0):
  """White noise, uint8."""
  return np.random.default_rng(seed).integers(0, 256, (sequences, steps, *EVENT)).astype(np.uint8)


def batches_of(x, batch_size=8):
  """split -> batches as the pipeline gives them: the last one is padded with empty sequences."""

  def batches(split):
    del split
    for start in range(0, len(x), batch_size):
      part = x[start : start + batch_size]
      padding = np.zeros((batch_size - len(part), *x.shape[1:]), x.dtype)
      real = np.arange(batch_size) < len(part)
      mask = np.broadcast_to(real[:, None], (batch_size, x.shape[1]))
      yield {'x': np.concatenate([part, padding]), 'mask': mask}

  return batches


def contract(dequantisation='gauss256', **fields):
  """A contract with every field filled in."""
  values = {
    'protocol': 'af_paper',
    'dataset': 'still',
    'split': 'test',
    'data_space': 'continuous' if dequantisation == 'none' else '8bit',
    'dequantisation': dequantisation,
    'context_frames': SCORED[0],
    'scored_frames': SCORED,
  }
  return LikelihoodContract(**{**values, **fields})


def evaluation(model, x, dequantisation='gauss256', num_samples=1, seed=0, **fields):
  """The evaluation of a model named 'known'."""
  return Evaluation(
    name='known',
    model=model,
    variables={},
    batches=batches_of(x),
    contract=contract(dequantisation, **fields),
    num_samples=num_samples,
    seed=seed,
  )
