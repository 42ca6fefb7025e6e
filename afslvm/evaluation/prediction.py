"""How far predicted steps are from what happened: N samples, their mean, the best of them.

PSNR and SSIM are those of dm-pix, per frame, for frames of 8-bit data; other data have the squared
error. The reference is the last step of the context, repeated.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from afslvm.errors import NumericsError
from afslvm.models.base import SequenceModel
from afslvm.types import Array, PyTree

MAX_PSNR = 100.0  # dB; frames that are equal would have infinitely many
SSIM_WINDOW = 11  # pixels of the Gaussian window of Wang et al. (2004), whose deviation is 1.5
MEAN, BEST, EACH = 'mean of samples', 'best of samples', 'each sample'
MEAN_PATH, COPY_LAST = 'mean path', 'copy last'


# ---- metrics -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Metric:
  """A number for every step.

  Attributes:
    name: of the metric.
    unit: of it, '' if it has none.
    higher_is_better: or lower.
    of: (predicted, truth), both [..., *event], to [...].
  """

  name: str
  unit: str
  higher_is_better: bool
  of: Callable[[np.ndarray, np.ndarray], np.ndarray]

  def best(self, values: np.ndarray) -> int:
    """The index of the best of `values`."""
    return int(np.argmax(values) if self.higher_is_better else np.argmin(values))


def psnr(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
  """Peak signal-to-noise ratio of frames [..., H, W, C] in [0, 1], in dB, at most `MAX_PSNR`."""
  return np.minimum(_per_frame(_jitted('psnr'), predicted, truth), MAX_PSNR)


def ssim(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
  """Structural similarity (Wang et al. 2004) of frames [..., H, W, C] in [0, 1], at most 1."""
  window = ssim_window(truth.shape[-3:])
  return _per_frame(_jitted('ssim', filter_size=window), predicted, truth)


def squared_error(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
  """Mean squared error of each step, [..., D] -> [...]."""
  return np.mean(np.square(predicted - truth), axis=-1)


def ssim_window(event_shape: Sequence[int]) -> int:
  """11 pixels, or as many as a smaller frame has, but an odd number."""
  smallest = min(SSIM_WINDOW, *event_shape[:2])
  return smallest - (smallest + 1) % 2


def metrics_of(event_shape: Sequence[int], data_space: str) -> tuple[Metric, ...]:
  """Returns what measures predictions of such data; see `Metric`."""
  if len(event_shape) == 3 and data_space == '8bit':
    return (Metric('psnr', 'dB', True, psnr), Metric('ssim', '', True, ssim))

  def flat(values):
    return values.reshape(*values.shape[: values.ndim - len(event_shape)], -1)

  def error(predicted, truth):
    return squared_error(flat(predicted), flat(truth))

  return (Metric('mse', '', False, error),)


_JITTED: dict[tuple[str, tuple[tuple[str, Any], ...]], Callable] = {}


def _jitted(name: str, **options: Any) -> Callable:
  """A function of dm-pix, compiled once."""
  import dm_pix

  key = name, tuple(options.items())
  if key not in _JITTED:
    function = getattr(dm_pix, name)
    _JITTED[key] = jax.jit(lambda a, b: function(a, b, **options))
  return _JITTED[key]


def _per_frame(function: Callable, predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
  """`function` of pairs [N, H, W, C] on frames with any leading axes, which broadcast."""
  predicted, truth = np.broadcast_arrays(predicted, truth)
  lead, frame = predicted.shape[:-3], predicted.shape[-3:]
  pairs = [np.asarray(v, np.float32).reshape(-1, *frame) for v in (predicted, truth)]
  return np.asarray(function(*pairs), np.float64).reshape(lead)


# ---- one sequence --------------------------------------------------------------------------------


def make_sampler(
  model: SequenceModel,
  num_frames: int,
  num_samples: int,
  temperature: float,
  likelihood_noise: bool = True,
) -> Callable[[PyTree, Array, Array], tuple[np.ndarray, np.ndarray]]:
  """Builds `(variables, context [C, *event], key) -> (samples [N, F, *event], mean path [F, ...])`.

  Every sample has a key of its own, so that a sample does not depend on how many there are. The
  mean path is drawn with temperature zero: all noise of the continuation is at its mean. Without
  `likelihood_noise`, of latent variable models only, samples differ by their latent variables, and
  every step is the likelihood's mean (the mode, of binary data).
  """
  temperatures: Any = jnp.asarray([0.0, *[temperature] * num_samples], jnp.float32)
  if not likelihood_noise:
    temperatures = temperatures, jnp.zeros_like(temperatures)

  @jax.jit
  def draw(variables, context, key):
    def one(number, temperature):
      rngs = {'sample': jax.random.fold_in(key, number)}
      return model.apply(
        variables, context[None], num_frames, temperature, rngs=rngs, method='generate'
      )[0]

    return jax.vmap(one)(jnp.arange(1 + num_samples), temperatures)

  def sample(variables, context, key):
    drawn = np.asarray(draw(variables, context, key))
    bad = np.flatnonzero(~np.isfinite(drawn).reshape(len(drawn), -1).all(axis=1))
    if len(bad):
      name = f'sample {bad[0]}' if bad[0] else MEAN_PATH
      raise NumericsError(f'{name} is not finite; try a lower --temperature or fewer --num_frames')
    return drawn[1:], drawn[0]

  return sample


def make_comparison(
  model: SequenceModel, num_frames: int, temperatures: Sequence[float]
) -> Callable[[PyTree, Array, Array], np.ndarray]:
  """Builds `(variables, context [C, *event], key) -> continuations [K, F, *event]`.

  There is one for each of K temperatures, all of the same noise. A continuation may not be finite.
  """
  scales = jnp.asarray(temperatures, jnp.float32)

  @jax.jit
  def draw(variables, context, key):
    def one(temperature):
      return model.apply(
        variables, context[None], num_frames, temperature, rngs={'sample': key}, method='generate'
      )[0]

    return jax.lax.map(one, scales)

  return lambda variables, context, key: np.asarray(draw(variables, context, key))


@dataclasses.dataclass(frozen=True)
class Scores:
  """One metric on one sequence.

  Attributes:
    rows: by predictor, of every scored step, [F].
    best: the number of the best sample, from 0.
  """

  rows: dict[str, np.ndarray]
  best: int


def score(
  metric: Metric,
  truth: np.ndarray,
  samples: np.ndarray,
  mean_path: np.ndarray,
  last: np.ndarray | None,
) -> Scores:
  """Scores predictions of one sequence, on as many steps as the truth has.

  Args:
    metric: see `Metric`.
    truth: [F, *event], F at least 1.
    samples: [N, F' >= F, *event].
    mean_path: [F', *event].
    last: the last step of the context [*event], if there is one.

  Returns:
    Rows `EACH` (the metric of each sample, averaged over samples), `MEAN` (the metric of their mean
    frame), `BEST` (the metric of the sample whose average over the steps is the best), `MEAN_PATH`
    and `COPY_LAST`.
  """
  steps = len(truth)
  values = metric.of(samples[:, :steps], truth[None])  # [N, F]
  best = metric.best(values.mean(axis=1))
  rows = {
    MEAN: metric.of(samples[:, :steps].mean(axis=0), truth),
    BEST: values[best],
    EACH: values.mean(axis=0),
    MEAN_PATH: metric.of(mean_path[:steps], truth),
  }
  if last is not None:
    rows[COPY_LAST] = metric.of(np.broadcast_to(last, truth.shape), truth)
  return Scores(rows, best)


def common_frames(
  lengths: np.ndarray, num_context: int, num_frames: int, num_sequences: int
) -> int:
  """How many of `num_frames` after the context as many as `num_sequences` sequences have.

  So a few long ones among sequences of different lengths don't decide; 0 where most end before.
  """
  enough = np.sort(lengths)[::-1][min(num_sequences, len(lengths)) - 1]
  return int(np.clip(enough - num_context, 0, num_frames))


# ---- all sequences -------------------------------------------------------------------------------


def summarise(scores: Sequence[Scores]) -> dict[str, dict[str, Any]]:
  """Averages over sequences, as plain values.

  Returns:
    {predictor: {'mean', 'standard_error', 'per_frame'}}: the mean over steps and sequences, its
    standard error over sequences (None of a single one), and the mean over sequences of each step.
  """
  summary = {}
  for name in scores[0].rows:
    values = np.stack([each.rows[name] for each in scores])  # [sequences, F]
    own = values.mean(axis=1)
    error = float(own.std(ddof=1) / math.sqrt(len(own))) if len(own) > 1 else None
    summary[name] = {
      'mean': float(own.mean()),
      'standard_error': error,
      'per_frame': [float(value) for value in values.mean(axis=0)],
    }
  return summary


@dataclasses.dataclass(frozen=True)
class PredictionProtocol:
  """What a prediction score answers; two are comparable exactly when these are equal.

  Attributes:
    dataset: name of the data set, with its variant.
    split: 'test', 'validation' or 'train'.
    num_sequences: continued.
    context_frames: given steps, from the first.
    predicted_frames: steps that are drawn.
    scored_frames: how many of them the data have.
    num_samples: N.
    temperature: of the samples.
    seed: of the sequences, their noise and the samples.
    data_range: of what is compared; None if it has no limits.
    likelihood_noise: whether samples have the noise of the model's likelihood, or are its means,
      given latent variables.
    clipped: whether predictions are clipped to it before they are compared.
    ssim_window: pixels, None without SSIM.
  """

  dataset: str
  split: str
  num_sequences: int
  context_frames: int
  predicted_frames: int
  scored_frames: int
  num_samples: int
  temperature: float
  seed: int
  data_range: float | None = None
  likelihood_noise: bool = True
  clipped: bool = False
  ssim_window: int | None = None

  def in_words(self) -> str:
    """Lines that let a reader compare the numbers with other people's."""
    first, last = self.context_frames, self.context_frames + self.predicted_frames - 1
    lines = [
      f'{self.num_sequences} sequences of {self.dataset} {self.split}: {self.context_frames} '
      f'frames given, frames {first}..{last} predicted, {self.num_samples} samples each, '
      f'temperature {self.temperature:g}, seed {self.seed}.',
      self._scored_in_words(),
    ]
    if not self.likelihood_noise:
      lines.append(
        'Latent variables are drawn, and every step is the mean of its likelihood given them, from '
        'which the model goes on, as in papers that score a decoder’s mean.'
      )
    if self.clipped:
      noise = 'with the noise of its likelihood, ' if self.likelihood_noise else ''
      hint = '; papers that score a decoder’s mean leave that noise out' if noise else ''
      lines.append(
        f'Truth: stored values / 255, without noise. Samples are of the whole model, {noise}'
        f'clipped to [0, 1] before anything else{hint}. Data range {self.data_range:g}. PSNR is at '
        f'most {MAX_PSNR:g} dB; SSIM has a Gaussian window of {self.ssim_window} x '
        f'{self.ssim_window} pixels, deviation 1.5.'
      )
    if self.scored_frames:
      lines.append(
        'A score is per frame, then averaged over frames, then over sequences; ± is one standard '
        'error over sequences.'
      )
      lines += [f'{name}: {meaning}' for name, meaning in MEANINGS.items()]
    return '\n'.join(lines)

  def _scored_in_words(self) -> str:
    first, last = self.context_frames, self.context_frames + self.scored_frames - 1
    if not self.scored_frames:
      return 'The data end with the context: there is no truth to compare with, and no score.'
    if self.scored_frames < self.predicted_frames:
      return f'The data end at frame {last}: scored on frames {first}..{last} only.'
    return f'Scored on all predicted frames, {first}..{last}.'


MEANINGS = {
  MEAN: 'the samples’ mean frame is scored',
  BEST: 'per sequence and metric, the sample that is best on average over the scored frames; it is '
  'chosen with the truth in view, and rises with the number of samples',
  EACH: 'every sample is scored, and the scores averaged',
  MEAN_PATH: 'one continuation of temperature 0',
  COPY_LAST: 'the last given frame again and again',
}


def table(
  metric: Metric, summary: dict[str, dict[str, Any]], first: int, num_columns: int = 5
) -> str:
  """A plain-text table of one metric: over all frames, and at some of them.

  Args:
    metric: see `Metric`.
    summary: of `summarise`.
    first: the number of the first scored frame.
    num_columns: frames to show.
  """
  count = len(next(iter(summary.values()))['per_frame'])
  shown = np.unique(np.linspace(0, count - 1, num_columns).round().astype(int))
  unit = f', {metric.unit}' if metric.unit else ''
  better = 'higher' if metric.higher_is_better else 'lower'
  frames = [f'frame {first + place}' for place in shown]
  cells = [[f'{metric.name.upper()}{unit} ({better} is better)', 'all frames', '± s.e.', *frames]]
  for name, values in summary.items():
    error = values['standard_error']
    cells.append(
      [
        name,
        f'{values["mean"]:.3f}',
        '–' if error is None else f'{error:.3f}',
        *(f'{values["per_frame"][place]:.3f}' for place in shown),
      ]
    )
  widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
  return '\n'.join(
    '  '.join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells
  )
