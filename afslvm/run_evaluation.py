"""Scores a trained run under a named protocol; an evaluation that is there is used again."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from afslvm import building, schema
from afslvm.evaluation import contract, likelihood, protocols, sequences, store
from afslvm.evaluation.contract import LikelihoodResult
from afslvm.training import receipt

if TYPE_CHECKING:
  from afslvm.runs import Run

# Called with how many of how many are done, and what they are.
OnProgress = Callable[[int, int, str], None]


def evaluate(run: 'Run', protocol: str = '', **options: Any) -> list[LikelihoodResult]:
  """Scores a run on held-out data: its own results, then those of the trivial references.

  The results are written to the run's folder, `evaluation/`; what stands there is used again if it
  answers the same question. `afslvm.evaluation.contract.table` prints them.

  Args:
    run: a trained run.
    protocol: one of `afslvm.evaluation.protocols.PROTOCOLS`; by default that of the data.
    **options: the fields of `Options`: split, num_context, num_samples, num_particles,
      num_sequences, inference_iterations, batch_size, seed.

  Raises:
    ConfigError: an option that does not fit the run.
    DataError: the data are missing or damaged.
  """
  asked = schema.construct(Options, {'protocol': protocol, **options}, 'evaluate')
  report, _ = evaluate_to_file(run, asked)
  return [LikelihoodResult.from_json(result) for result in report['results']]


@dataclasses.dataclass(frozen=True)
class Options:
  """What is asked of a run.

  Attributes:
    protocol: named; '' is that of the data.
    split: 'test', 'validation' or 'train'.
    num_context: given steps; 0 is what protocol and model need.
    num_samples: draws per sequence; 0 is what the protocol says.
    num_particles: of a particle filter whose bound is computed too; 0 is none.
    num_sequences: the first so many of the split; 0 is all.
    inference_iterations: of an iterative inference; -1 is as trained.
    batch_size: sequences at a time.
    seed: of the noise.
  """

  protocol: str = ''
  split: str = 'test'
  num_context: int = 0
  num_samples: int = 0
  num_particles: int = 0
  num_sequences: int = 0
  inference_iterations: int = -1
  batch_size: int = 32
  seed: int = 0

  limits: ClassVar = {
    'num_context': (0, None),
    'num_samples': (0, None),
    'num_particles': (0, None),
    'num_sequences': (0, None),
    'inference_iterations': (-1, None),
    'batch_size': (1, None),
    'seed': (0, 2**31 - 1),
  }


def evaluate_to_file(
  run: 'Run', options: Options, on_progress: OnProgress = lambda done, total, what: None
) -> tuple[dict[str, Any], pathlib.Path]:
  """As `evaluate`; returns what the file holds ('results', 'decorrelation', ...) and its path."""
  from afslvm.data import prepare

  run, iterations = _with_iterations(run, options.inference_iterations)
  builder, model = run.dataset, run.model
  protocol = protocols.find(options.protocol, builder.data_space, run.built.dequantisation)
  frames = protocols.scored_frames(protocol, model, builder.num_frames, options.num_context)
  prepare.open_split(builder, options.split)
  label = building.dataset_label(builder)
  asked = protocols.contract(protocol, model, builder, label, options.split, frames)
  options = dataclasses.replace(options, num_samples=options.num_samples or protocol.num_samples)
  path = store.path_of(run.path, asked, options.num_context, iterations)
  identity = _identity(run, asked, options, iterations)
  report = store.read_if_current(path, identity)
  if report is None:
    score = _whole_sequences if asked.whole_sequences else _crops
    results, decorrelation = score(run, asked, options, on_progress)
    about = {'parameters': run.num_parameters(), 'git_commit': receipt.git_commit()}
    report = store.write(path, identity, results, decorrelation, **about)
  return report, path


def _with_iterations(run: 'Run', asked: int) -> tuple['Run', int | None]:
  """The run with the number of inference iterations asked for, and that, or None as trained."""
  if asked < 0:
    return run, None
  built = building.with_iterations(run.built, asked)
  if built.config == run.config:
    return run, None
  return dataclasses.replace(run, built=built), asked


def _identity(
  run: 'Run', asked: contract.LikelihoodContract, options: Options, iterations: int | None
) -> dict[str, Any]:
  """All that decides the numbers."""
  from afslvm.data import prepare

  names = ('num_samples', 'num_particles', 'num_sequences', 'seed')
  settings = {name: getattr(options, name) for name in names}
  if not asked.whole_sequences:
    settings['batch_size'] = options.batch_size  # it decides the keys of the noise
  if iterations is not None:
    settings['inference_iterations'] = iterations
  return store.identity(asked, run.checkpoint, prepare.fingerprint(run.dataset), **settings)


def _crops(
  run: 'Run', asked: contract.LikelihoodContract, options: Options, on_progress: OnProgress
) -> tuple[list[LikelihoodResult], dict[str, Any]]:
  """Results of fixed crops, and what the flows leave."""
  length, split = asked.scored_frames[1] + 1, options.split
  evaluation = likelihood.Evaluation(
    name=run.label,
    model=run.model,
    variables=run.variables,
    batches=building.evaluation_batches(run.built, options.batch_size, length),
    contract=asked,
    num_samples=options.num_samples,
    seed=options.seed,
    num_particles=options.num_particles,
    max_sequences=options.num_sequences,
  )
  available = run.dataset.split_size(split)
  total = -(-min(available, options.num_sequences or available) // options.batch_size)
  results = likelihood.evaluate(
    evaluation, lambda done: on_progress(done, total, f'{split} batches')
  )
  return results, likelihood.decorrelation(evaluation)


def _whole_sequences(
  run: 'Run', asked: contract.LikelihoodContract, options: Options, on_progress: OnProgress
) -> tuple[list[LikelihoodResult], dict[str, Any]]:
  """Results of whole sequences; of flows nothing is said."""
  builder, split, size = run.dataset, options.split, options.batch_size
  evaluation = sequences.SequenceEvaluation(
    name=run.label,
    model=run.model,
    variables=run.variables,
    scored=sequences.batches(builder, split, size, options.num_sequences),
    training=sequences.batches(builder, 'train', size),
    contract=asked,
    num_samples=options.num_samples,
    seed=options.seed,
    num_particles=options.num_particles,
  )
  available = len(run.data[split])
  total = min(available, options.num_sequences or available)
  results = sequences.evaluate(
    evaluation, lambda done: on_progress(done, total, f'{split} sequences')
  )
  return results, {}
