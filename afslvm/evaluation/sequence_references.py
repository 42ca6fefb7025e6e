"""Trivial models of whole sequences, each given a first step too, in the measure of the contract.

Fitted to all steps of the training split, whatever is scored.
"""

import functools
from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from afslvm.distributions import discretized_normal
from afslvm.distributions.normal import Normal
from afslvm.evaluation.contract import LikelihoodContract
from afslvm.evaluation.references import COPY_LAST, STATIC
from afslvm.transforms import preprocessing

INDEPENDENT, MARKOV = 'independent notes', 'per-note Markov'
LEVEL = 1 / 255  # the spacing of 8-bit values without noise
Batches = Iterable[dict[str, Any]]


class StepReferences(Protocol):
  """Anything that scores steps by rules of thumb."""

  def log_likelihoods(self, x: np.ndarray) -> dict[str, np.ndarray]:
    """Nats of every step of x [B, T, *event], values as models see them: {name: [B, T]}."""


class Notes(NamedTuple):
  """Bernoulli of every note, by itself, or given the note one step before; each [D]."""

  on: np.ndarray
  stays: np.ndarray
  starts: np.ndarray

  def log_likelihoods(self, x: np.ndarray) -> dict[str, np.ndarray]:
    """See `StepReferences`; the first step has none before it and is scored by itself."""
    independent = _log_bernoulli(x, self.on)
    later = _log_bernoulli(x[:, 1:], np.where(x[:, :-1] > 0.5, self.stays, self.starts))
    return {
      INDEPENDENT: independent,
      MARKOV: np.concatenate([independent[:, :1], later], axis=1),
    }


def _log_bernoulli(x: np.ndarray, probability: np.ndarray) -> np.ndarray:
  return np.where(x > 0.5, np.log(probability), np.log1p(-probability)).sum(axis=-1)


def fit_notes(batches: Batches) -> Notes:
  """Counts, with one half added to each of the two outcomes.

  Args:
    batches: of the training split, `x` [B, T, D] of zeros and ones and `mask` [B, T].
  """
  steps = steps_later = 0
  on = ons_before = stays = later = np.zeros(())  # [D] from the first batch on
  for batch in batches:
    x, mask = np.asarray(batch['x'], np.float64), np.asarray(batch['mask'])
    now, before = x[:, 1:][mask[:, 1:]], x[:, :-1][mask[:, 1:]]  # padding is at the end
    steps, on = steps + int(mask.sum()), on + x[mask].sum(axis=0)
    ons_before, steps_later = ons_before + before.sum(axis=0), steps_later + len(now)
    stays, later = stays + (now * before).sum(axis=0), later + now.sum(axis=0)
  return Notes(
    on=(on + 0.5) / (steps + 1.0),
    stays=(stays + 0.5) / (ons_before + 1.0),
    starts=(later - stays + 0.5) / (steps_later - ons_before + 1.0),
  )


class Gaussians(NamedTuple):
  """Independent Gaussians per dimension, each parameter [*event].

  Attributes:
    mean, variance: of all steps.
    change: mean squared difference of successive steps.
    width: of bins, whose probability is given; None gives densities.
    levels: the bins are those of [0, 1], the outermost of which are open.
  """

  mean: np.ndarray
  variance: np.ndarray
  change: np.ndarray
  width: float | None = None
  levels: bool = False

  def log_likelihoods(self, x: np.ndarray) -> dict[str, np.ndarray]:
    """See `StepReferences`; the first step has none to copy and is scored by the static one."""
    static = self._log_prob(x, self.mean, self.variance)
    copied = self._log_prob(x[:, 1:], x[:, :-1], self.change)
    return {STATIC: static, COPY_LAST: np.concatenate([static[:, :1], copied], axis=1)}

  def _log_prob(self, x: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    log_scale = jnp.asarray(0.5 * np.log(variance), jnp.float32)
    values = np.asarray(_log_prob(x, mean, log_scale, self.width, self.levels), np.float64)
    return values.reshape(*x.shape[:2], -1).sum(axis=2)


@functools.partial(jax.jit, static_argnums=(3, 4))
def _log_prob(x, mean, log_scale, width, levels):
  normal = Normal(jnp.asarray(mean, jnp.float32), log_scale)
  if width is None:
    return normal.log_prob(x)
  log_bin = discretized_normal.log_level if levels else discretized_normal.log_bin
  return log_bin(normal, x, width)


def fit_gaussians(
  batches: Batches, dequantisation: str, width: float | None, levels: bool
) -> Gaussians:
  """Moments over all steps; of binned values no variance is below that of a uniform bin.

  Args:
    batches: of the training split.
    dequantisation: one without noise.
    width: of bins, None for densities.
    levels: see `Gaussians`.
  """
  count = later = 0
  total = squares = changes = np.zeros(())  # [*event] from the first batch on
  for batch in batches:
    values = preprocessing.dequantise(jax.random.key(0), batch['x'], dequantisation)
    x, mask = np.asarray(values, np.float64), np.asarray(batch['mask'])
    own, difference = x[mask], (x[:, 1:] - x[:, :-1])[mask[:, 1:]]
    count, later = count + len(own), later + len(difference)
    total, squares = total + own.sum(axis=0), squares + (own**2).sum(axis=0)
    changes = changes + (difference**2).sum(axis=0)
  mean = np.asarray(total / count)
  least = width**2 / 12.0 if width else np.finfo(np.float32).tiny
  variance, change = np.asarray(squares / count) - mean**2, np.asarray(changes / max(later, 1))
  return Gaussians(mean, np.maximum(variance, least), np.maximum(change, least), width, levels)


def fit(batches: Batches, contract: LikelihoodContract) -> StepReferences:
  """The references of a data space, in the measure of the contract.

  Args:
    batches: of the training split, whole sequences.
    contract: what is asked.
  """
  if contract.data_space == 'binary':
    return fit_notes(batches)
  levels = contract.data_space == '8bit'
  width = LEVEL if levels else contract.resolution
  if contract.measure == 'density':
    width = None
  return fit_gaussians(batches, contract.dequantisation, width, levels)
