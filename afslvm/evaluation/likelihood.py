"""Scores a model and the trivial references on one split, under one contract."""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from afslvm.evaluation import references as references_lib
from afslvm.evaluation import visuals
from afslvm.evaluation.contract import LikelihoodContract, LikelihoodResult, result
from afslvm.evaluation.correlation import temporal_correlation
from afslvm.models.base import SequenceModel
from afslvm.objectives import elbo
from afslvm.transforms import preprocessing
from afslvm.types import PyTree

Batches = Callable[[str], Iterator[dict[str, Any]]]


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """A model to be scored.

  Attributes:
    name: of the model in tables.
    model: any sequence model.
    variables: its variables.
    batches: split -> finite iterator of fixed crops that end at the last scored step.
    contract: what is asked.
    num_samples: draws per sequence.
    seed: of the draws.
  """

  name: str
  model: SequenceModel
  variables: PyTree
  batches: Batches
  contract: LikelihoodContract
  num_samples: int
  seed: int = 0

  @property
  def first(self) -> int:
    """The first scored step."""
    return self.contract.scored_frames[0]

  def keys(self, batch: int, sample: int) -> tuple[jax.Array, jax.Array]:
    """Keys of the noise and of the model's own samples in one draw.

    Uniform noise is a latent variable of the 8-bit data and drawn anew each time; the noise of
    gauss256 is part of the data, and the same in every draw.
    """
    drawn_anew = self.contract.dequantisation == 'uniform'
    return self._pair(batch, sample if drawn_anew else 0)[0], self._pair(batch, sample)[1]

  def _pair(self, batch: int, sample: int) -> jax.Array:
    key = jax.random.fold_in(jax.random.key(self.seed), batch)
    return jax.random.split(jax.random.fold_in(key, sample))


def evaluate(
  evaluation: Evaluation, on_batch: Callable[[int], None] = lambda done: None
) -> list[LikelihoodResult]:
  """The model's results, then those of the references, on the same sequences and noise.

  With several draws there are two results of the model: the mean over draws, and the log of the
  mean likelihood over draws of whole sequences, which is a tighter bound (Burda et al. 2016).

  Args:
    evaluation: what to score.
    on_batch: called with the number of batches done.
  """
  contract, samples = evaluation.contract, evaluation.num_samples
  fitted = references_lib.fit(
    evaluation.batches('train'), contract.dequantisation, evaluation.first
  )
  score = jax.jit(
    functools.partial(
      elbo.bound_sums, evaluation.model, contract.dequantisation, first=evaluation.first
    )
  )
  draws: list[np.ndarray] = []  # each [samples, B]
  trivial: list[dict[str, np.ndarray]] = []  # each {name: [samples, B]}
  counts: list[np.ndarray] = []
  for index, batch in enumerate(evaluation.batches(contract.split)):
    real = batch['mask'].any(axis=1)
    sums, others = [], []
    for sample in range(samples):
      keys = evaluation.keys(index, sample)
      total, steps = score(evaluation.variables, batch, keys)
      sums.append(np.asarray(total, np.float64)[real])
      # The same noise as inside `bound_sums`.
      x = preprocessing.dequantise(keys[0], batch['x'], contract.dequantisation)
      x = np.asarray(x, np.float64)[real]
      others.append(fitted.log_likelihoods(x, batch['mask'][real], evaluation.first))
    draws.append(np.stack(sums))
    counts.append(np.asarray(steps)[real])
    trivial.append({name: np.stack([o[name] for o in others]) for name in others[0]})
    on_batch(index + 1)
  dims = np.concatenate(counts) * math.prod(evaluation.model.event_shape)
  named = {name: np.concatenate([t[name] for t in trivial], axis=1) for name in trivial[0]}
  return _summaries(evaluation, np.concatenate(draws, axis=1), named, dims)


def _summaries(
  evaluation: Evaluation, draws: np.ndarray, trivial: dict[str, np.ndarray], dims: np.ndarray
) -> list[LikelihoodResult]:
  """`draws` and each of `trivial` are [samples, sequences] nats."""
  contract, samples, seed = evaluation.contract, evaluation.num_samples, evaluation.seed
  # Uniform dequantisation bounds the 8-bit probability, so nothing is exact under it.
  exact = contract.dequantisation != 'uniform'
  kind = evaluation.model.bound if exact else 'elbo'

  def summary(name, kind, values):
    return result(name, kind, contract, values, dims, samples, seed)

  results = [summary(evaluation.name, kind, draws.mean(axis=0))]
  if samples > 1 and kind != 'exact':
    log_mean = np.logaddexp.reduce(draws, axis=0) - math.log(samples)
    results.append(summary(evaluation.name, f'iwae-{samples}', log_mean))
  for name, values in trivial.items():
    results.append(summary(name, 'exact' if exact else 'elbo', values.mean(axis=0)))
  return results


def decorrelation(evaluation: Evaluation, num_batches: int = 8) -> dict[str, dict[str, float]]:
  """What each flow leaves: temporal correlation and standard deviation of x and of every y.

  Over scored steps only. Keys are the labels of `visuals.visual_rows`.
  """
  rows: dict[str, list[np.ndarray]] = {}
  length = evaluation.contract.scored_frames[1] + 1 - evaluation.first
  batches = itertools.islice(evaluation.batches(evaluation.contract.split), num_batches)
  for index, batch in enumerate(batches):
    real = batch['mask'].any(axis=1)
    noise_key, sample_key = evaluation.keys(index, 0)
    x = preprocessing.dequantise(noise_key, batch['x'], evaluation.contract.dequantisation)
    shown = visuals.visual_rows(evaluation.model, evaluation.variables, x, sample_key)
    for label, values in shown.items():
      if label == 'x' or label.endswith('/y'):
        rows.setdefault(label, []).append(values[real][:, -length:])
  summary = {}
  for label, parts in rows.items():
    values = np.concatenate(parts)
    summary[label] = {
      'temporal_correlation': temporal_correlation(values),
      'standard_deviation': float(values.std()),
    }
  return summary
