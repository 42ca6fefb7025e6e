"""Figures 4, 6 and 7 of the AF paper, from whatever trained models show of themselves."""

import io
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from afslvm.errors import ConfigError
from afslvm.reproduction import plan
from afslvm.reproduction.tables import AF_1
from afslvm.visualization import frames

# Frames of the sequences that are shown; all rows then are as long as the shortest of them.
LAST_STEP = 16
PANEL_WIDTH, TITLE_HEIGHT, GAP = 640, 34, 24


class Panel(NamedTuple):
  """A picture of several rows of frames.

  Attributes:
    row: of the table: which model.
    title: under the picture.
    shown: {what the model calls it: what the figure calls it}, from top to bottom.
  """

  row: str
  title: str
  shown: Mapping[str, str]


LOW_LEVEL = {'x': 'x', '1/shift': 'shift', '1/scale': 'scale'}
FIGURE_4 = {**LOW_LEVEL, '1/y': 'y'}
PANELS = {
  'af_4': (
    Panel('af1', '(a) 1-AF', FIGURE_4),
    Panel('slvm_af1', '(b) SLVM + 1-AF', FIGURE_4),
  ),
  'af_7': (
    Panel('slvm_af2', 'SLVM + 2-AF, first flow', {**LOW_LEVEL}),
    Panel('slvm_af2', 'second flow', {'2/shift': 'shift 2', '2/scale': 'scale 2', '2/y': 'y'}),
  ),
}
PANELS['af_6'] = PANELS['af_4']


def panels(figure: str, model: str = '') -> tuple[Panel, ...]:
  """Of a figure, from left to right; with `model`, what that model would show there.

  Raises:
    ConfigError: the figure can't be drawn from that model.
  """
  if not model:
    return PANELS[figure]
  flows = {'af_7': ('af2', 'slvm_af2')}.get(figure, tuple(r for r in AF_1.rows if r != 'slvm'))
  if model not in flows:
    raise ConfigError(f'--model={model} does not show {figure}; it takes {", ".join(flows)}')
  if figure == 'af_7':
    return tuple(panel._replace(row=model) for panel in PANELS[figure])
  return (Panel(model, model, FIGURE_4),)


def run_folder(workdir: pathlib.Path, row: str) -> pathlib.Path:
  """The run of a row with the lowest seed.

  Raises:
    ConfigError: there is none.
  """
  seeds = [seed for _, seed in plan.found(workdir, [row])]
  if not seeds:
    raise ConfigError(
      f'{workdir} holds no run {row}-SEED; train it: python launch/reproduce.py --table=af_1 '
      f'--rows={row} --workdir={workdir} --dataset=NAME'
    )
  return workdir / plan.folder_name(row, min(seeds))


def check_data(figure: str, dataset: str, event_shape: Sequence[int]):
  """Raises ConfigError where a figure is of other data."""
  if len(event_shape) != 3:
    raise ConfigError(f'--figure={figure} shows frames; {dataset} has shape {tuple(event_shape)}')
  if (figure == 'af_6') != (dataset == 'kth'):
    other = 'af_6' if dataset == 'kth' else 'af_4'
    if figure != 'af_7':
      raise ConfigError(
        f'--figure={figure} is not of {dataset} data; the same figure of these is --figure={other}'
      )


def choose(source: Any, seed: int) -> int:
  """Index of a random sequence of `source` that is long enough.

  Raises:
    ConfigError: none is.
  """
  lengths = source.lengths
  long_enough = np.arange(len(source))
  if lengths is not None:
    long_enough = np.flatnonzero(lengths >= LAST_STEP)
  if not len(long_enough) or source.num_frames < LAST_STEP:
    raise ConfigError(f'{source.dataset} has no sequence of {LAST_STEP} frames to show')
  return int(np.random.default_rng(seed).choice(long_enough))


def draw(shown: Sequence[Panel], rows: Sequence[Mapping[str, np.ndarray]]) -> bytes:
  """A PNG file with the panels beside one another.

  Args:
    shown: the panels, from left to right.
    rows: of each panel's model, {label: [1, T, H, W, C]}; rows end at the same step.

  Raises:
    ConfigError: a model that doesn't show what a panel asks for.
  """
  from PIL import Image, ImageDraw, ImageFont

  steps = min(values.shape[1] for p, r in zip(shown, rows, strict=True) for values in _of(p, r))
  pictures = []
  for panel, values in zip(shown, rows, strict=True):
    cut = {k: v[:, -steps:] for k, v in zip(panel.shown, _of(panel, values), strict=True)}
    png = frames.labelled_picture(cut, 0, panel.shown, width=PANEL_WIDTH)
    pictures.append(Image.open(io.BytesIO(png)))
  width = sum(picture.width for picture in pictures) + GAP * (len(pictures) - 1)
  height = max(picture.height for picture in pictures)
  canvas = Image.new('RGB', (width, height + TITLE_HEIGHT), 'white')
  pen, left = ImageDraw.Draw(canvas), 0
  for panel, picture in zip(shown, pictures, strict=True):
    canvas.paste(picture, (left, 0))
    middle = left + picture.width / 2
    font = ImageFont.load_default(size=16)
    pen.text((middle, height + TITLE_HEIGHT / 2), panel.title, 'black', font, anchor='mm')
    left += picture.width + GAP
  file = io.BytesIO()
  canvas.save(file, 'PNG', optimize=True)
  return file.getvalue()


def _of(panel: Panel, rows: Mapping[str, np.ndarray]) -> list[np.ndarray]:
  missing = [label for label in panel.shown if label not in rows]
  if missing:
    raise ConfigError(f'{panel.row} does not show {", ".join(missing)}, only {", ".join(rows)}')
  return [np.asarray(rows[label]) for label in panel.shown]
