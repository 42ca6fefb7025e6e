"""Scores whole sequences of different lengths, each with random numbers of its own.

The key of a sequence comes from its position in the split, and each is scored by itself (`vmap`),
so neither its bucket nor the batch it is in changes its number, beyond rounding.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from afslvm.evaluation import contract as contract_lib
from afslvm.evaluation import sequence_references
from afslvm.evaluation.contract import LikelihoodContract, LikelihoodResult
from afslvm.models.base import PRIOR_CHAIN_ELBO, SequenceModel
from afslvm.objectives import elbo, fivo
from afslvm.transforms import preprocessing
from afslvm.types import Array, PyTree

Batches = Callable[[], Iterator[dict[str, Any]]]
# Numbers of x in one batch, above which it has fewer sequences; a decoder of frames needs a few
# hundred times as much memory.
MAX_VALUES = 2**22
MAX_STEPS = 2**16
# Particles, of all sequences of a batch, that are moved at a time.
MAX_PARTICLES = 256


@dataclasses.dataclass(frozen=True)
class SequenceEvaluation:
  """A model to be scored on whole sequences.

  Attributes:
    name: of the model in tables.
    model: any sequence model.
    variables: its variables.
    scored: -> batches of what is scored, as `pipeline.whole_sequences` gives them.
    training: -> those of the whole training split, for the references.
    contract: what is asked.
    num_samples: draws per sequence.
    seed: of the draws.
    num_particles: of a particle filter that is run beside, if the model has latent variables; 0 is
      none.
  """

  name: str
  model: SequenceModel
  variables: PyTree
  scored: Batches
  training: Batches
  contract: LikelihoodContract
  num_samples: int = 1
  seed: int = 0
  num_particles: int = 0

  @property
  def first(self) -> int:
    """The first scored step."""
    return self.contract.scored_frames[0]


class Scores(NamedTuple):
  """What is known of N sequences, in nats."""

  position: np.ndarray  # [N], in the split
  draws: elbo.BoundSums  # each [N, samples]
  filtered: np.ndarray | None  # [N]
  trivial: dict[str, np.ndarray]  # each [N]


def evaluate(
  evaluation: SequenceEvaluation, on_sequences: Callable[[int], None] = lambda done: None
) -> list[LikelihoodResult]:
  """The model's results, then those of the references, on the same sequences.

  With several draws there are two results of the model, the mean over draws and IWAE-K; with
  particles there is FIVO-K, too. Of a model whose prior has a chain of its own there is the mean
  over draws only. Sequences with no step to score are left out.

  Args:
    evaluation: what to score.
    on_sequences: called with the number of sequences done.

  Raises:
    ContractError: there is nothing to score.
  """
  fitted = sequence_references.fit(evaluation.training(), evaluation.contract)
  score, particles = _scorer(evaluation), _particle_filter(evaluation)
  parts, done, names = [], 0, []
  for batch in evaluation.scored():
    real = np.asarray(batch['index']) >= 0
    done += int(real.sum())
    inputs = (batch['x'], batch['mask'], np.maximum(batch['index'], 0).astype(np.uint32))
    sums = jax.device_get(score(evaluation.variables, *inputs))
    filtered = None
    if particles is not None:
      filtered = np.asarray(particles(evaluation.variables, *inputs), np.float64)
    trivial = _trivial(evaluation, fitted, batch)
    names = list(trivial)
    scores = Scores(np.asarray(batch['index']), sums, filtered, trivial)
    counted = real & (sums.steps[:, 0] > 0)
    parts.append(jax.tree.map(functools.partial(_rows, counted), scores))
    on_sequences(done)
  if not parts or not sum(len(part.position) for part in parts):
    raise contract_lib.ContractError(
      f'no sequence of {evaluation.contract.dataset}, split {evaluation.contract.split}, is longer '
      f'than the {evaluation.first} steps that are given; use a smaller --num_context'
    )
  scores = jax.tree.map(lambda *values: np.concatenate(values), *parts)
  scores = jax.tree.map(functools.partial(_rows, np.argsort(scores.position)), scores)
  # Going through a tree has sorted them.
  return _results(evaluation, scores._replace(trivial={n: scores.trivial[n] for n in names}))


def _rows(chosen: np.ndarray, values: np.ndarray) -> np.ndarray:
  values = np.asarray(values)[chosen]
  return values.astype(np.float64) if values.dtype == np.float32 else values


def _scorer(evaluation: SequenceEvaluation) -> Callable[..., elbo.BoundSums]:
  """(variables, x [B, T, *event], mask [B, T], index [B]) -> sums, each [B, samples]."""
  kind = evaluation.contract.dequantisation

  def one(variables, x, mask, index, sample):
    key = _key(evaluation.seed, index, sample)
    batch = {'x': x[None], 'mask': mask[None]}
    # No noise is added to such data: the key is all the model's own.
    sums = elbo.bound_sums(
      evaluation.model, kind, variables, batch, (key, key), first=evaluation.first
    )
    return jax.tree.map(lambda value: value[0], sums)

  def score(variables, x, mask, index):
    def draw(sample):
      return jax.vmap(one, in_axes=(None, 0, 0, 0, None))(variables, x, mask, index, sample)

    # One draw after the other, to need the memory of one.
    draws = jax.lax.map(draw, jnp.arange(evaluation.num_samples, dtype=jnp.uint32))
    return jax.tree.map(jnp.transpose, draws)

  return jax.jit(score)


def _key(seed: int, index: Array, sample: Array | int) -> Array:
  return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), index), sample)


def _particle_filter(evaluation: SequenceEvaluation) -> Callable[..., Array] | None:
  """Arguments as of `_scorer` -> the particle filter's bound [B]; None if there is none."""
  count = evaluation.num_particles
  if not count or evaluation.model.bound == 'exact':
    return None
  particles = fivo.ParticleFilter(evaluation.model, count, first=evaluation.first)

  def bound(variables, x, mask, index):
    def one(row):
      x, mask, index = row
      key = _key(evaluation.seed, index, 0)
      values = preprocessing.dequantise(key, x[None], evaluation.contract.dequantisation)
      return particles(variables, values, mask[None], key).bound[0]

    return jax.lax.map(one, (x, mask, index), batch_size=max(1, MAX_PARTICLES // count))

  return jax.jit(bound)


def _trivial(evaluation: SequenceEvaluation, fitted: Any, batch: dict[str, Any]):
  """Returns what the references give each sequence, {name: [B]}."""
  kind = evaluation.contract.dequantisation
  x = np.asarray(preprocessing.dequantise(jax.random.key(0), batch['x'], kind))
  counted = np.asarray(batch['mask']) & (np.arange(x.shape[1]) >= evaluation.first)
  found = fitted.log_likelihoods(x)
  return {name: np.where(counted, values, 0.0).sum(axis=1) for name, values in found.items()}


def _results(evaluation: SequenceEvaluation, scores: Scores) -> list[LikelihoodResult]:
  contract, seed = evaluation.contract, evaluation.seed
  samples, kind = evaluation.num_samples, evaluation.model.bound
  steps, per_step = scores.draws.steps[:, 0], math.prod(evaluation.model.event_shape)

  def summary(name, kind, values, samples=samples):
    found = contract_lib.result(name, kind, contract, values, steps * per_step, samples, seed)
    return contract_lib.with_steps(found, values, steps, per_step)

  results = [summary(evaluation.name, kind, scores.draws.elbo.mean(axis=1))]
  if kind != 'exact':
    kl = float(scores.draws.kl.mean(axis=1).sum() / steps.sum())
    results[0] = dataclasses.replace(results[0], kl_nats_per_step=kl)
    if samples > 1 and kind != PRIOR_CHAIN_ELBO:
      log_mean = contract_lib.log_mean_exp(np.asarray(scores.draws.log_weight), axis=1)
      results.append(summary(evaluation.name, f'iwae-{samples}', log_mean))
  if scores.filtered is not None:
    count = evaluation.num_particles
    results.append(summary(evaluation.name, f'fivo-{count}', scores.filtered, count))
  return results + [
    summary(name, 'exact', values, samples=1) for name, values in scores.trivial.items()
  ]


# ---- sequences of a data set ---------------------------------------------------------------------


class FirstOf:
  """The first sequences of a source."""

  def __init__(self, source: Any, count: int):
    self._source, self._count = source, min(count, len(source))
    lengths = getattr(source, 'lengths', None)
    self.lengths = None if lengths is None else lengths[: self._count]
    self.num_frames = source.num_frames if self.lengths is None else int(self.lengths.max())

  def __len__(self) -> int:
    return self._count

  def __getitem__(self, index: int) -> np.ndarray:
    return self._source[index]

  def __getattr__(self, name: str) -> Any:
    return getattr(self._source, name)


def batches(builder: Any, split: str, batch_size: int, max_sequences: int = 0) -> Batches:
  """Whole sequences of a split in buckets of similar length, again with every call.

  Args:
    builder: of prepared data.
    split: 'test', 'validation' or 'train'.
    batch_size: sequences at a time, fewer where they are long.
    max_sequences: only the first so many; 0 is all.

  Raises:
    DataError: missing or damaged data.
  """
  from afslvm.data import pipeline, prepare

  source = prepare.open_split(builder, split)
  chosen = FirstOf(source, max_sequences) if max_sequences else source
  max_steps = max(1, min(MAX_STEPS, MAX_VALUES // math.prod(builder.event_shape)))
  return lambda: iter(pipeline.whole_sequences(chosen, batch_size=batch_size, max_steps=max_steps))
