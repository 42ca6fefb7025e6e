"""Continues held-out sequences by a trained run, and scores the continuations."""

import dataclasses
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from afslvm import building, own_arrays
from afslvm.errors import ConfigError
from afslvm.evaluation import prediction
from afslvm.transforms import preprocessing
from afslvm.visualization import events

if TYPE_CHECKING:
  from afslvm.runs import Run

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Options:
  """What is asked of a run.

  Attributes:
    num_context: given steps; None is 5, of music 16.
    num_frames: steps to predict after them; None is 20, of music 48, of speech 40.
    num_samples: continuations of each sequence.
    temperature: scales all standard deviations of the samples.
    likelihood_noise: False draws latent variables and takes the likelihood's mean.
    num_sequences: sequences to continue, a random choice.
    seed: of sequences, noise and samples.
    split: 'test', 'validation' or 'train'.
  """

  num_context: int | None = None
  num_frames: int | None = None
  num_samples: int = 8
  temperature: float = 1.0
  likelihood_noise: bool = True
  num_sequences: int = 32
  seed: int = 0
  split: str = 'test'


class Predicted(NamedTuple):
  """One sequence and its continuations, on the scale of the data; 8-bit values / 255."""

  index: int  # in the split
  stored: np.ndarray  # [C + F', *event], as on disk; F' steps of truth, F at most
  truth: np.ndarray  # the same, float32
  context: np.ndarray  # [C, *event], what the model was given
  samples: np.ndarray  # [N, F, *event]
  mean_path: np.ndarray  # [F, *event]
  scores: dict[str, prediction.Scores]  # by metric; {} without truth


def plan(run: 'Run', options: Options) -> tuple[prediction.PredictionProtocol, list[int]]:
  """Returns what the scores will answer, and the indices of the sequences.

  Raises:
    ConfigError: less context than the model needs or more than the data have, or a model without
      latent variables whose likelihood is to be without noise.
    DataError: the data are missing or damaged.
  """
  builder, event = run.dataset, events.event_of(run.dataset)
  if options.num_context is None:
    options = dataclasses.replace(options, num_context=event.context_steps)
  if options.num_frames is None:
    options = dataclasses.replace(options, num_frames=event.predicted_steps)
  if not options.likelihood_noise and run.model.bound == 'exact':
    raise ConfigError(
      '--likelihood_noise=0: this model has no latent variables; use --temperature=0 for its means'
    )
  precision = getattr(getattr(run.model.core, 'glow', None), 'compute_dtype', 'float32')
  if precision != 'float32':
    log.warning(
      'model.glow.compute_dtype=%s: the way back from latents to frames is not exact; train with '
      'float32 for samples',
      precision,
    )
  scored, indices = _choose(run.model.min_context, run.data[options.split], options)
  frames = are_frames(run)
  protocol = prediction.PredictionProtocol(
    dataset=building.dataset_label(builder),
    split=options.split,
    num_sequences=len(indices),
    context_frames=options.num_context,
    predicted_frames=options.num_frames,
    scored_frames=scored,
    num_samples=options.num_samples,
    temperature=options.temperature,
    seed=options.seed,
    data_range=1.0 if frames else None,
    likelihood_noise=options.likelihood_noise,
    clipped=frames,
    ssim_window=prediction.ssim_window(builder.event_shape) if frames else None,
  )
  return protocol, indices


def predict(
  run: 'Run', protocol: prediction.PredictionProtocol, indices: Sequence[int]
) -> Iterator[Predicted]:
  """Yields each sequence with its continuations and their scores.

  Raises:
    NumericsError: a continuation that is not finite.
  """
  context_frames, kind = protocol.context_frames, run.built.dequantisation
  source, metrics = run.data[protocol.split], metrics_of(run)
  sample = prediction.make_sampler(
    run.model,
    protocol.predicted_frames,
    protocol.num_samples,
    protocol.temperature,
    protocol.likelihood_noise,
  )
  for index in indices:
    stored = source[index][: context_frames + protocol.scored_frames]
    noise, key = jax.random.split(jax.random.fold_in(jax.random.key(protocol.seed), index))
    context = preprocessing.dequantise(noise, stored[:context_frames], kind)
    samples, mean_path = (
      own_arrays.shown(run, drawn) for drawn in sample(run.variables, context, key)
    )
    truth = np.asarray(stored, np.float32)
    if run.dataset.data_space == '8bit':
      truth = truth / 255
    scores = {}
    if protocol.scored_frames:
      last = truth[context_frames - 1] if context_frames else None
      future = truth[context_frames:]
      scores = {m.name: prediction.score(m, future, samples, mean_path, last) for m in metrics}
    yield Predicted(index, stored, truth, np.asarray(context), samples, mean_path, scores)


def at_temperatures(
  run: 'Run', protocol: prediction.PredictionProtocol, temperatures: Sequence[float]
) -> Callable[[Predicted], np.ndarray]:
  """Returns a function from a sequence to its continuations at each temperature, of one noise.

  They are [K, F, *event], on the scale of the data.
  """
  compare = prediction.make_comparison(run.model, protocol.predicted_frames, temperatures)

  def of_sequence(found: Predicted) -> np.ndarray:
    key = jax.random.fold_in(jax.random.key(protocol.seed), found.index)
    return own_arrays.shown(run, compare(run.variables, found.context, jax.random.split(key)[1]))

  return of_sequence


def metrics_of(run: 'Run') -> tuple[prediction.Metric, ...]:
  """Returns what measures predictions of the run's data."""
  return prediction.metrics_of(run.dataset.event_shape, run.dataset.data_space)


def are_frames(run: 'Run') -> bool:
  """Returns whether the data are frames of 8 bits."""
  kind = events.kind_of(run.dataset.event_shape, run.dataset.data_space)
  return kind == events.FRAMES and run.dataset.data_space == '8bit'


def _choose(min_context: int, source: Any, options: Options) -> tuple[int, list[int]]:
  """Returns how many predicted frames enough sequences have, and a choice of those sequences."""
  frames, given = source.num_frames, options.num_context
  if given < min_context:
    raise ConfigError(f'--num_context={given} is too short: this model needs {min_context}')
  if given > frames:
    raise ConfigError(
      f'--num_context={given} is too long: the sequences of split {options.split} have '
      f'{frames} frames'
    )
  lengths = np.full(len(source), frames) if source.lengths is None else source.lengths
  scored = prediction.common_frames(lengths, given, options.num_frames, options.num_sequences)
  candidates = np.flatnonzero(lengths >= given + scored)
  if len(candidates) < len(lengths):
    log.info('%d of %d sequences are long enough', len(candidates), len(lengths))
  if len(candidates) < options.num_sequences:
    log.info('all %d sequences are used, --num_sequences asks for more', len(candidates))
  order = np.random.default_rng(options.seed).permutation(candidates)
  return scored, [int(index) for index in order[: options.num_sequences]]
