"""Trivial models in the same contract; a model that isn't better than these has learned nothing."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import numpy as np

from afslvm.transforms import preprocessing

STATIC, COPY_LAST = 'static Gaussian', 'copy-last Gaussian'
FIT_SEED = 2
MAX_SEQUENCES = 2048


class References(NamedTuple):
  """Independent Gaussians per dimension, each parameter [*event], fitted to training data.

  `static` ignores time: N(mean, variance). `copy-last` expects no change: N(x_{t-1}, change).
  """

  mean: np.ndarray
  variance: np.ndarray
  change: np.ndarray

  def log_likelihoods(self, x: np.ndarray, mask: np.ndarray, first: int) -> dict[str, np.ndarray]:
    """Nats of the steps from `first` on, summed per sequence: {name: [B]}.

    Args:
      x: [B, T, *event], dequantised.
      mask: bool [B, T], False at padding, which isn't counted.
      first: the first scored step, at least 1.
    """
    now, before, real = x[:, first:], x[:, first - 1 : -1], mask[:, first:]
    return {
      STATIC: _log_normal(now - self.mean, self.variance, real),
      COPY_LAST: _log_normal(now - before, self.change, real),
    }


def _log_normal(residual: np.ndarray, variance: np.ndarray, real: np.ndarray) -> np.ndarray:
  log_prob = -0.5 * (residual**2 / variance + np.log(2 * np.pi * variance))
  per_step = log_prob.reshape(*real.shape, -1).sum(axis=2, dtype=np.float64)
  return np.where(real, per_step, 0.0).sum(axis=1)


def fit(
  batches: Iterable[dict[str, Any]],
  dequantisation: str,
  first: int,
  max_sequences: int = MAX_SEQUENCES,
) -> References:
  """Maximum likelihood over the steps from `first` on, with the protocol's own noise.

  Args:
    batches: of the training split, as the pipeline gives them.
    dequantisation: one of `preprocessing.DEQUANTISATIONS`.
    first: the first scored step, at least 1.
    max_sequences: the first so many are used.
  """
  count, total, squares, changes, left = 0, 0.0, 0.0, 0.0, max_sequences
  for index, batch in enumerate(batches):
    if left <= 0:
      break
    batch = {name: values[:left] for name, values in batch.items()}
    left -= len(batch['mask'])
    key = jax.random.fold_in(jax.random.key(FIT_SEED), index)
    x = np.asarray(preprocessing.dequantise(key, batch['x'], dequantisation), np.float64)
    real = batch['mask'][:, first:]
    now, before = x[:, first:][real], x[:, first - 1 : -1][real]  # [steps, *event]
    count += len(now)
    total = total + now.sum(axis=0)
    squares = squares + (now**2).sum(axis=0)
    changes = changes + ((now - before) ** 2).sum(axis=0)
  mean = np.asarray(total / count)
  return References(mean, np.asarray(squares / count) - mean**2, np.asarray(changes / count))
