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
from afslvm.evaluation.contract import LikelihoodContract, LikelihoodResult, log_mean_exp, result
from afslvm.evaluation.correlation import temporal_correlation
from afslvm.models.base import PRIOR_CHAIN_ELBO, SequenceModel
from afslvm.objectives import elbo, fivo
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
    num_particles: of a particle filter that is run beside, if the model has latent variables; 0 is
      none.
    max_sequences: score the first so many of the split; 0 is all. The references are fitted to the
      training split as ever.
  """

  name: str
  model: SequenceModel
  variables: PyTree
  batches: Batches
  contract: LikelihoodContract
  num_samples: int
  seed: int = 0
  num_particles: int = 0
  max_sequences: int = 0

  def scored_batches(self) -> Iterator[dict[str, Any]]:
    """Of the contract's split, `max_sequences` in all; others in the last batch are padding."""
    left = self.max_sequences or math.inf
    for batch in self.batches(self.contract.split):
      if left <= 0:
        return
      counted = np.arange(len(batch['mask'])) < left
      left -= len(batch['mask'])
      yield {**batch, 'mask': batch['mask'] & counted[:, None]}

  @property
  def filters(self) -> bool:
    """Whether there is anything to filter."""
    return self.num_particles > 0 and self.model.bound != 'exact'

  @property
  def first(self) -> int:
    """The first scored step."""
    return self.contract.scored_frames[0]

  def keys(self, batch: int, sample: int) -> tuple[jax.Array, jax.Array]:
    """Keys of the noise and of the model's own samples in one draw.

    Uniform noise is a latent variable of the 8-bit data and drawn anew each time; the noise of
    gauss256 is part of the data, and the same in every draw.
    """
    noise_sample = sample if self.drawn_anew else 0
    return self._pair(batch, noise_sample)[0], self._pair(batch, sample)[1]

  @property
  def drawn_anew(self) -> bool:
    """Whether the noise of the data is another in every draw."""
    return self.contract.dequantisation == 'uniform'

  def _pair(self, batch: int, sample: int) -> jax.Array:
    key = jax.random.fold_in(jax.random.key(self.seed), batch)
    return jax.random.split(jax.random.fold_in(key, sample))


def evaluate(
  evaluation: Evaluation, on_batch: Callable[[int], None] = lambda done: None
) -> list[LikelihoodResult]:
  """The model's results, then those of the references, on the same sequences and noise.

  With several draws there are two results of the model: the mean over draws, and the log of the
  mean weight over draws of whole sequences, which is a tighter bound (Burda et al. 2016). With
  particles there is one more, the particle filter's (Maddison et al. 2017). Of a model whose prior
  has a chain of its own there is the mean over draws only.

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
  draws: list[elbo.BoundSums] = []  # each of [samples, B]
  filtered: list[np.ndarray] = []  # each [B]
  trivial: list[dict[str, np.ndarray]] = []  # each {name: [samples, B]}
  particles = _particle_filter(evaluation)
  for index, batch in enumerate(evaluation.scored_batches()):
    real = batch['mask'].any(axis=1)
    sums: list[elbo.BoundSums] = []  # each [B]
    others: list[dict[str, np.ndarray]] = []  # each {name: [B]}
    for sample in range(samples):
      keys = evaluation.keys(index, sample)
      scores = score(evaluation.variables, batch, keys)
      sums.append(elbo.BoundSums(*(np.asarray(v, np.float64)[real] for v in scores)))
      if others and not evaluation.drawn_anew:
        others.append(others[0])
        continue
      # The same noise as inside `bound_sums`.
      x = preprocessing.dequantise(keys[0], batch['x'], contract.dequantisation)
      x = np.asarray(x, np.float64)[real]
      others.append(fitted.log_likelihoods(x, batch['mask'][real], evaluation.first))
    draws.append(elbo.BoundSums(*(np.stack(values) for values in zip(*sums, strict=True))))
    if particles is not None:
      bound = particles(evaluation.variables, batch, evaluation.keys(index, 0))
      filtered.append(np.asarray(bound, np.float64)[real])
    trivial.append({name: np.stack([o[name] for o in others]) for name in others[0]})
    on_batch(index + 1)
  total = elbo.BoundSums(*(np.concatenate(v, axis=1) for v in zip(*draws, strict=True)))
  named = {name: np.concatenate([t[name] for t in trivial], axis=1) for name in trivial[0]}
  particle_bounds = np.concatenate(filtered) if filtered else None
  return _summaries(evaluation, total, named, particle_bounds)


def _particle_filter(evaluation: Evaluation) -> Callable[..., Any] | None:
  """(variables, batch, keys) -> the particle filter's bound [B]; None if there is none."""
  if not evaluation.filters:
    return None
  particles = fivo.ParticleFilter(
    evaluation.model, evaluation.num_particles, first=evaluation.first
  )

  def score(variables, batch, keys):
    x = preprocessing.dequantise(keys[0], batch['x'], evaluation.contract.dequantisation)
    return particles(variables, x, batch['mask'], keys[1]).bound

  return jax.jit(score)


def _summaries(
  evaluation: Evaluation,
  draws: elbo.BoundSums,
  trivial: dict[str, np.ndarray],
  filtered: np.ndarray | None,
) -> list[LikelihoodResult]:
  """`draws` and each of `trivial` are [samples, sequences], `filtered` is [sequences], in nats."""
  contract, samples, seed = evaluation.contract, evaluation.num_samples, evaluation.seed
  # Uniform dequantisation bounds the 8-bit probability, so nothing is exact under it.
  exact = contract.dequantisation != 'uniform'
  latent = evaluation.model.bound != 'exact'
  kind = evaluation.model.bound if latent or exact else 'elbo'
  dims = draws.steps[0] * math.prod(evaluation.model.event_shape)
  kl = float(draws.kl.mean(axis=0).sum() / draws.steps[0].sum())

  def summary(name, kind, values, samples=samples, kl=None):
    found = result(name, kind, contract, values, dims, samples, seed)
    normal = evaluation.model.normal_on_data if name == own else True  # references are normal
    return dataclasses.replace(found, kl_nats_per_step=kl, normal_on_data=normal)

  own = evaluation.name
  results = [summary(own, kind, draws.elbo.mean(axis=0), kl=kl if latent else None)]
  if samples > 1 and kind not in ('exact', PRIOR_CHAIN_ELBO):
    log_mean = log_mean_exp(np.asarray(draws.log_weight), axis=0)
    results.append(summary(own, f'iwae-{samples}', log_mean))
  if filtered is not None:
    count = evaluation.num_particles
    results.append(summary(own, f'fivo-{count}', filtered, samples=count))
  for name, values in trivial.items():
    results.append(summary(name, 'exact' if exact else 'elbo', values.mean(axis=0)))
  return results


def decorrelation(evaluation: Evaluation, num_batches: int = 8) -> dict[str, dict[str, float]]:
  """Returns what each flow leaves: temporal correlation and deviation of x and of every y.

  They are taken over scored steps only. Keys are the labels of `visuals.visual_rows`.
  """
  rows: dict[str, list[np.ndarray]] = {}
  length = evaluation.contract.scored_frames[1] + 1 - evaluation.first
  batches = itertools.islice(evaluation.scored_batches(), num_batches)
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
