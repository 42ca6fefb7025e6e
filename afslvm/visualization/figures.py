"""Charts as SVG, each in light and in dark ink on nothing; matplotlib without any display."""

import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from afslvm.visualization.records import Run

INKS = ('#24292f', '#d0d7de')  # on light, on dark
COLOURS = ('#3b82f6', '#f97316', '#10b981', '#a855f7', '#eab308', '#ec4899')
MAX_LINES = 4


def both_inks(draw: Callable[[Any], None], width: float, height: float) -> tuple[bytes, bytes]:
  """`draw(figure)` as two SVG files, for light and for dark pages; sizes in inches."""
  return _svg(draw, width, height, INKS[0]), _svg(draw, width, height, INKS[1])


def _svg(draw: Callable[[Any], None], width: float, height: float, ink: str) -> bytes:
  import matplotlib
  from matplotlib.figure import Figure

  keys = ('text.color', 'axes.labelcolor', 'axes.edgecolor', 'xtick.color', 'ytick.color')
  style = dict.fromkeys(keys, ink) | {
    'svg.hashsalt': 'afslvm',  # the same picture is the same bytes
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.grid': True,
    'grid.alpha': 0.25,
    'font.size': 9,
    'legend.frameon': False,
  }
  with matplotlib.rc_context(style):
    figure = Figure(figsize=(width, height), layout='constrained')
    draw(figure)
    file = io.BytesIO()
    empty = {'Date': None, 'Creator': None}
    figure.savefig(file, format='svg', transparent=True, metadata=empty)
  return file.getvalue()


def training_curves(runs: list[Run]) -> tuple[bytes, bytes]:
  """Training (thin) and validation (thick) nats/dim of several runs against steps."""

  def draw(figure):
    axis = figure.subplots()
    for run, colour in zip(runs, _cycle(len(runs)), strict=True):
      train, validation = run.records.train, run.records.validation
      axis.plot(*_xy(train), color=colour, lw=0.9, alpha=0.55, label=f'{run.title}, training')
      axis.plot(
        *_xy(validation), color=colour, lw=2, marker='o', ms=4, label=f'{run.title}, validation'
      )
    axis.set(xlabel='optimiser step', ylabel='nats/dim')
    axis.set_ylim(*_limits([r.records.train + r.records.validation for r in runs]))
    axis.legend(loc='upper right')

  return both_inks(draw, 8.4, 3.4)


def health(runs: list[Run]) -> tuple[bytes, bytes]:
  """KL and active units of latent variable models over training, and KL of each step at its end."""

  def draw(figure):
    kl, units, per_step = figure.subplots(1, 3)
    for run, colour in zip(runs, _cycle(len(runs)), strict=True):
      history = run.records.health
      style = {'color': colour, 'lw': 1.6, 'marker': 'o', 'ms': 3}
      for axis, key in ((kl, 'kl'), (units, 'active_units')):
        points = [(values['step'], values[key]) for values in history if key in values]
        axis.plot(*_xy(points), label=run.title, **style)
      last = history[-1].get('kl_per_step', [])
      end = run.config['data']['length']
      per_step.plot(range(end - len(last), end), last, **style)
    kl.set(xlabel='optimiser step', ylabel='KL, nats/step')
    units.set(xlabel='optimiser step', ylabel='active units')
    units.yaxis.get_major_locator().set_params(integer=True)
    per_step.set(xlabel='step of the sequence', ylabel='KL, nats')
    for axis in (kl, units, per_step):
      axis.set_ylim(0, 1.08 * max(axis.dataLim.ymax, 1e-3))
      axis.xaxis.get_major_locator().set_params(integer=True)
    figure.legend(*kl.get_legend_handles_labels(), loc='outside upper left', ncols=3)

  return both_inks(draw, 8.4, 2.7)


def _cycle(count: int) -> list[str]:
  return [COLOURS[index % len(COLOURS)] for index in range(count)]


def _xy(curve: list[tuple[int, float]]) -> tuple[list[int], list[float]]:
  return [step for step, _ in curve], [value for _, value in curve]


def _limits(curves: list[list[tuple[int, float]]]) -> tuple[float, float]:
  """Limits that leave out the steep beginning, the first twentieth of the steps."""
  last = max(step for curve in curves for step, _ in curve)
  values = [v for curve in curves for step, v in curve if step >= last / 20 or step == last]
  low, high = min(values), max(values)
  margin = 0.06 * (high - low) + 1e-3
  return low - margin, high + margin


def vector_rows(
  rows: Mapping[str, np.ndarray], index: int, captions: Mapping[str, str]
) -> tuple[bytes, bytes]:
  """Rows [B, T, D] of one sequence as lines against the step, one panel per row."""
  steps = rows['x'].shape[1]

  def draw(figure):
    panels = figure.subplots(len(rows), 1, sharex=True, squeeze=False)[:, 0]
    for panel, (label, row) in zip(panels, rows.items(), strict=True):
      values = row[index].reshape(row.shape[1], -1)[:, :MAX_LINES]
      for line, colour in zip(values.T, _cycle(values.shape[1]), strict=True):
        panel.plot(np.arange(steps - len(line), steps), line, color=colour, marker='.', ms=3, lw=1)
      panel.set_ylabel(captions[label], rotation=0, ha='right', va='center')
    panels[-1].set_xlabel('step')

  return both_inks(draw, 8.4, 0.4 + 0.95 * len(rows))
