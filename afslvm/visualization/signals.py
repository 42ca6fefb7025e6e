"""Piano rolls and waveforms, drawn: rows of one sequence above one another, time to the right."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from afslvm.visualization.events import LOWEST_NOTE, ROLL, Event
from afslvm.visualization.frames import CONTEXT_COLOUR, MODEL_COLOUR

GIVEN = ('x', 'truth', 'data')  # rows that no model made
WIDTH = 8.4  # inches
NOTE_HEIGHT, WAVE_HEIGHT, SPECTRUM_HEIGHT = 0.032, 0.6, 0.75
AXIS_HEIGHT, MARGIN = 0.44, 0.07
FEWEST_OCTAVES = 3
COLUMNS = 420  # of a waveform's outline and of a spectrogram
BANDS, DECIBELS, GREYS = 96, 60.0, 32  # of a spectrogram: rows, range, shades
WINDOW_SECONDS = 0.025


@dataclasses.dataclass(frozen=True)
class Limits:
  """What rows that are to be compared share.

  Attributes:
    steps: of the longest row; shorter ones end with it.
    notes: of a roll: the lowest and the highest MIDI number that is drawn.
    amplitude: of a waveform, standardised.
    power: of a spectrogram's darkest shade.
  """

  steps: int
  notes: tuple[int, int] = (48, 71)
  amplitude: float = 1.0
  power: float = 1.0


def limits_of(rows: Mapping[str, np.ndarray], event: Event) -> Limits:
  """Limits that suit rows [T, D] in the unit of the data; at least one is needed."""
  steps = max(map(len, rows.values()))
  if event.kind == ROLL:
    played = np.any([(row > 0.25).any(axis=0) for row in rows.values()], axis=0)
    numbers = LOWEST_NOTE + np.flatnonzero(played)
    low, high = (numbers[0] // 12, numbers[-1] // 12) if len(numbers) else (4, 5)
    while high - low + 1 < FEWEST_OCTAVES:
      low -= 1
      high += high - low + 1 < FEWEST_OCTAVES
    return Limits(steps, notes=(max(12 * int(low), LOWEST_NOTE), min(12 * int(high) + 11, 108)))
  amplitude = max(float(np.nanmax(np.abs(row), initial=0.0)) for row in rows.values())
  power = max(float(_spectrum(row, event).max()) for row in rows.values())
  return Limits(steps, amplitude=max(amplitude, 1e-6), power=max(power, 1e-12))


def height_of(count: int, event: Event, limits: Limits) -> float:
  """Inches of a picture of so many rows."""
  panels = _heights(event, limits)
  return count * (sum(panels) + (len(panels) + 1) * MARGIN) + AXIS_HEIGHT


def _heights(event: Event, limits: Limits) -> list[float]:
  """Of the panels of a row, in inches."""
  if event.kind == ROLL:
    return [NOTE_HEIGHT * (limits.notes[1] + 1 - limits.notes[0])]
  return [WAVE_HEIGHT, SPECTRUM_HEIGHT]


def draw(
  figure: Any,
  rows: Mapping[str, np.ndarray],
  event: Event,
  limits: Limits,
  *,
  context: int = 0,
  names: bool = True,
):
  """Draws rows on a figure `WIDTH` wide and `height_of` high.

  Args:
    figure: of matplotlib.
    rows: [T, D] by name; those of `GIVEN` are blue, others from `context` on orange.
    event: a roll or a waveform.
    limits: see `limits_of`.
    context: how many first steps are given; a dashed line marks their end.
    names: whether rows are labelled at their left.
  """
  figure.set_layout_engine('none')
  left, width = (1.65 if names else 0.5), figure.get_figwidth()
  top, height = figure.get_figheight(), figure.get_figheight()
  panel = None
  for name, row in rows.items():
    given = len(row) if name in GIVEN else max(0, context - (limits.steps - len(row)))
    for place, inches in enumerate(_heights(event, limits)):
      top -= inches + MARGIN
      box = (left / width, top / height, (width - left - 0.12) / width, inches / height)
      panel = figure.add_axes(box)
      _prepare(panel, limits.steps * event.step_seconds, context * event.step_seconds)
      if event.kind == ROLL:
        _draw_roll(panel, row, event, limits, given)
      else:
        (_draw_spectrum if place else _draw_wave)(panel, row, event, limits, given)
      if names and not place:
        panel.text(
          -0.42 / (width - left), 0.5, name, transform=panel.transAxes, ha='right', va='center'
        )
    top -= MARGIN
  panel.tick_params(labelbottom=True, length=3)
  panel.set_xlabel('seconds, as played' if event.kind == ROLL else 'seconds')


def _prepare(panel: Any, seconds: float, context: float):
  panel.grid(visible=False)
  panel.set_xlim(0, seconds)
  panel.tick_params(labelbottom=False, length=0, labelsize=8)
  if 0 < context < seconds:
    panel.axvline(context, color=_ink(), lw=1.0, ls=(0, (4, 2)), alpha=0.8, zorder=3)


def _ink() -> str:
  import matplotlib

  return matplotlib.rcParams['axes.edgecolor']


def _shades(alpha: np.ndarray, given: int) -> np.ndarray:
  """uint8 [H, W, 4] of opacities [H, W]; columns are blue up to `given`, orange after it."""
  picture = np.zeros((*alpha.shape, 4), np.uint8)
  picture[:, :given, :3], picture[:, given:, :3] = CONTEXT_COLOUR, MODEL_COLOUR
  picture[..., 3] = np.round(255 * np.clip(np.nan_to_num(alpha), 0.0, 1.0))
  return picture


def _image(panel: Any, picture: np.ndarray, extent: tuple[float, float, float, float]):
  """Pixels with sharp edges, lowest first."""
  options = {'origin': 'lower', 'aspect': 'auto', 'interpolation': 'none'}
  panel.imshow(picture, extent=extent, **options)


# ---- rolls ---------------------------------------------------------------------------------------


def _draw_roll(panel: Any, row: np.ndarray, event: Event, limits: Limits, given: int):
  low, high = limits.notes
  shown = np.asarray(row, np.float64)[:, low - LOWEST_NOTE : high + 1 - LOWEST_NOTE]
  seconds, first = event.step_seconds, limits.steps - len(row)
  panel.set_ylim(low - 0.5, high + 0.5)
  extent = (first * seconds, limits.steps * seconds, low - 0.5, high + 0.5)
  _image(panel, _shades(shown.T, given), extent)
  octaves = [number for number in range(low, high + 1) if number % 12 == 0]
  for number in octaves:
    panel.axhline(number - 0.5, color=_ink(), lw=0.6, alpha=0.35, zorder=0)
  panel.set_yticks(octaves, [f'C{number // 12 - 1}' for number in octaves])


# ---- waveforms -----------------------------------------------------------------------------------


def _draw_wave(panel: Any, row: np.ndarray, event: Event, limits: Limits, given: int):
  del event
  samples = np.asarray(row, np.float64).reshape(-1)
  panel.set_ylim(-1.05 * limits.amplitude, 1.05 * limits.amplitude)
  panel.set_yticks([])
  panel.spines[['left', 'bottom']].set_visible(False)
  end = panel.get_xlim()[1]
  per_second = limits.steps * row[0].size / end
  offset = end - samples.size / per_second
  boundary = given * row[0].size
  for begin, stop, colour in (
    (0, boundary, CONTEXT_COLOUR),
    (boundary, samples.size, MODEL_COLOUR),
  ):
    if stop > begin:
      piece, start = samples[begin:stop], offset + begin / per_second
      _outline(panel, piece, start, per_second, end, colour)


def _outline(
  panel: Any, samples: np.ndarray, start: float, per_second: float, end: float, colour: Any
):
  """The least and greatest value of each of at most `COLUMNS` pieces of the whole axis."""
  size = max(1, int(np.ceil(end * per_second / COLUMNS)))
  padded = np.pad(samples, (0, -samples.size % size), mode='edge').reshape(-1, size)
  low, high = padded.min(axis=1), padded.max(axis=1)
  time = start + np.minimum((np.arange(len(low)) + 0.5) * size, samples.size) / per_second
  paint = tuple(value / 255 for value in colour)
  panel.fill_between(time, low, high, color=paint, lw=0.6)


def _spectrum(row: np.ndarray, event: Event) -> np.ndarray:
  """Power of short pieces of frames [T, F], [BANDS or fewer, COLUMNS or fewer], lowest first."""
  samples = np.nan_to_num(np.asarray(row, np.float64)).reshape(-1)
  size = 2 ** int(np.ceil(np.log2(max(16, WINDOW_SECONDS * event.sample_rate))))
  hop = max(size // 4, int(np.ceil(samples.size / COLUMNS)))
  padded = np.pad(samples, size // 2)
  starts = np.arange(0, samples.size, hop)
  pieces = padded[starts[:, None] + np.arange(size)] * np.hanning(size)
  power = np.square(np.abs(np.fft.rfft(pieces, axis=1)))[:, 1:].T
  pooled = max(1, len(power) // BANDS)
  return power[: len(power) // pooled * pooled].reshape(-1, pooled, len(starts)).mean(axis=1)


def _draw_spectrum(panel: Any, row: np.ndarray, event: Event, limits: Limits, given: int):
  power = _spectrum(row, event)
  decibels = 10 * np.log10(np.maximum(power, 1e-30) / limits.power)
  alpha = np.clip(1 + decibels / DECIBELS, 0.0, 1.0)
  alpha = np.round(alpha * GREYS) / GREYS
  share = given / len(row)
  top = event.sample_rate / 2000
  panel.set_ylim(0, top)
  panel.set_yticks([0, top])
  panel.set_ylabel('kHz', fontsize=8, labelpad=-4)
  end = limits.steps * event.step_seconds
  extent = (end - len(row) * event.step_seconds, end, 0, top)
  _image(panel, _shades(alpha, round(share * alpha.shape[1])), extent)
