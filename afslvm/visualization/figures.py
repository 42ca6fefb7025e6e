"""Charts as SVG, each in light and in dark ink on nothing; matplotlib without any display."""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from afslvm.visualization import frames, signals
from afslvm.visualization.events import FRAMES, VECTORS, Event
from afslvm.visualization.records import Run

INKS = ('#24292f', '#d0d7de')  # on light, on dark
COLOURS = ('#3b82f6', '#f97316', '#10b981', '#a855f7', '#eab308', '#ec4899')
MAX_LINES = 4


def both_inks(draw: Callable[[Any], None], width: float, height: float) -> tuple[bytes, bytes]:
  """`draw(figure)` as two SVG files, for light and for dark pages; sizes in inches."""
  return _svg(draw, width, height, INKS[0]), _svg(draw, width, height, INKS[1])


def png(draw: Callable[[Any], None], width: float, height: float, dpi: int = 120) -> bytes:
  """`draw(figure)` as a PNG file on white; sizes in inches."""
  import matplotlib
  from matplotlib.figure import Figure

  with matplotlib.rc_context(_style(INKS[0])):
    figure = Figure(figsize=(width, height), layout='constrained')
    draw(figure)
    file = io.BytesIO()
    figure.savefig(file, format='png', dpi=dpi, metadata={'Software': None})
  return file.getvalue()


def _style(ink: str) -> dict[str, Any]:
  keys = ('text.color', 'axes.labelcolor', 'axes.edgecolor', 'xtick.color', 'ytick.color')
  return dict.fromkeys(keys, ink) | {
    'svg.hashsalt': 'afslvm',  # the same picture is the same bytes
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.grid': True,
    'grid.alpha': 0.25,
    'font.size': 9,
    'legend.frameon': False,
  }


def _svg(draw: Callable[[Any], None], width: float, height: float, ink: str) -> bytes:
  import matplotlib
  from matplotlib.figure import Figure

  with matplotlib.rc_context(_style(ink)):
    figure = Figure(figsize=(width, height), layout='constrained')
    draw(figure)
    file = io.BytesIO()
    empty = {'Date': None, 'Creator': None}
    figure.savefig(file, format='svg', transparent=True, metadata=empty)
  return file.getvalue()


def training_curves(runs: list[Run]) -> tuple[bytes, bytes]:
  """Training (thin) and validation (thick) of several runs on like data, against steps."""
  unit = runs[0].event.unit

  def draw(figure):
    axis = figure.subplots()
    for run, colour in zip(runs, _cycle(len(runs)), strict=True):
      train, validation = _in_unit(run, run.records.train), _in_unit(run, run.records.validation)
      axis.plot(*_xy(train), color=colour, lw=0.9, alpha=0.55, label=f'{run.title}, training')
      axis.plot(
        *_xy(validation), color=colour, lw=2, marker='o', ms=4, label=f'{run.title}, validation'
      )
    axis.set(xlabel='optimiser step', ylabel=unit)
    axis.set_ylim(*_limits([_in_unit(r, r.records.train + r.records.validation) for r in runs]))
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
      first = run.config.get('objective', {}).get('first_scored', 0)
      begin = max(first, run.model.min_context)
      per_step.plot(range(begin, begin + len(last)), last, **style)
    kl.set(xlabel='optimiser step', ylabel='KL, nats/step')
    units.set(xlabel='optimiser step', ylabel='active units')
    units.yaxis.get_major_locator().set_params(integer=True)
    per_step.set(xlabel='step of the sequence', ylabel='KL, nats')
    for axis in (kl, units, per_step):
      axis.set_ylim(0, 1.08 * max(axis.dataLim.ymax, 1e-3))
      axis.xaxis.get_major_locator().set_params(integer=True)
    figure.legend(*kl.get_legend_handles_labels(), loc='outside upper left', ncols=3)

  return both_inks(draw, 8.4, 2.7)


def _in_unit(run: Run, curve: list[tuple[int, float]]) -> list[tuple[int, float]]:
  """Recorded nats/dim in the unit of the run's data."""
  return [(step, run.unit_dims * value) for step, value in curve]


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
  steps = max(row.shape[1] for row in rows.values())

  def draw(figure):
    panels = figure.subplots(len(rows), 1, sharex=True, squeeze=False)[:, 0]
    for panel, (label, row) in zip(panels, rows.items(), strict=True):
      values = row[index].reshape(row.shape[1], -1)[:, :MAX_LINES]
      for line, colour in zip(values.T, _cycle(values.shape[1]), strict=True):
        panel.plot(np.arange(steps - len(line), steps), line, color=colour, marker='.', ms=3, lw=1)
      panel.set_ylabel(captions[label], rotation=0, ha='right', va='center')
    panels[-1].set_xlabel('step')

  return both_inks(draw, 8.4, 0.4 + 0.95 * len(rows))


def bits_of_levels(
  cost: Mapping[str, Sequence[np.ndarray]], begins: Mapping[str, int]
) -> tuple[bytes, bytes]:
  """Bits of each level of a multi-scale flow against the step, one panel per run.

  Args:
    cost: by run, [T] of each level.
    begins: by run, the first step.
  """

  def draw(figure):
    panels = figure.subplots(1, len(cost), sharey=True, squeeze=False)[0]
    for panel, (title, levels) in zip(panels, cost.items(), strict=True):
      for number, (bits, colour) in enumerate(zip(levels, _cycle(len(levels)), strict=True)):
        steps = np.arange(begins[title], begins[title] + len(bits))
        panel.plot(steps, bits, color=colour, lw=1.6, marker='o', ms=3, label=f'level {number}')
      panel.set(xlabel='step of the sequence', title=title)
      panel.xaxis.get_major_locator().set_params(integer=True)
    panels[0].set_ylabel('bits/dim of the frame')
    panels[-1].legend()

  return both_inks(draw, 8.4, 2.7)


# ---- variational filtering -----------------------------------------------------------------------


def free_energy_per_iteration(runs: list[Run]) -> tuple[bytes, bytes]:
  """Free energy of a step before the first inference iteration and after each, of several runs."""

  def draw(figure):
    axis = figure.subplots()
    for run, colour in zip(runs, _cycle(len(runs)), strict=True):
      values = run.records.health[-1]['free_energy_per_iteration']
      axis.plot(range(len(values)), values, color=colour, lw=1.6, marker='o', ms=4, label=run.title)
    axis.set(xlabel='inference iteration (0: the prior)', ylabel='free energy, nats/step')
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.legend(loc='upper right')

  return both_inks(draw, 8.4, 2.5)


def free_energy_against_iterations(
  curves: Mapping[str, Sequence[tuple[int, float, float]]],
) -> tuple[bytes, bytes]:
  """Free energy against the number of inference iterations, as in AVF paper Figure 3.

  Args:
    curves: by label, such as 'trained with so many' or 'evaluated with so many': (iterations, mean
      nats/step, its standard error, which may be NaN) of every point.
  """

  def draw(figure):
    axis = figure.subplots()
    for (label, points), colour in zip(curves.items(), _cycle(len(curves)), strict=True):
      count, mean, error = np.array(sorted(points), float).T
      style = {'color': colour, 'lw': 1.6, 'marker': 'o', 'ms': 4, 'capsize': 3}
      axis.errorbar(count, mean, np.nan_to_num(error), label=label, **style)
    axis.set(xlabel='inference iterations', ylabel='free energy, nats/step')
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.legend(loc='upper right')

  return both_inks(draw, 5.6, 3.2)


def prediction_and_reconstruction(
  rows: Mapping[str, np.ndarray], event: Event
) -> tuple[bytes, bytes]:
  """Rows of one sequence above one another, as in AVF paper Figure 4.

  Args:
    rows: [T, *event] by name, from top to bottom: 'data', 'prediction' (decoded from the prior),
      'reconstruction' (from the posterior). Shorter ones end with the longest.
    event: what one step is.
  """
  if event.kind == VECTORS:
    batch = {name: row[None] for name, row in rows.items()}
    return vector_rows(batch, 0, {name: name for name in rows})
  if event.kind == FRAMES:
    return _frame_rows(rows)
  limits = signals.limits_of(rows, event)
  return both_inks(
    lambda figure: signals.draw(figure, rows, event, limits),
    signals.WIDTH,
    signals.height_of(len(rows), event, limits),
  )


def _frame_rows(rows: Mapping[str, np.ndarray]) -> tuple[bytes, bytes]:
  steps = max(map(len, rows.values()))
  strips = {
    name: frames.transparent_strip(frames.to_display(row, 'x'), steps) for name, row in rows.items()
  }
  height, width, _ = next(iter(strips.values())).shape
  left, inches = 0.15, 0.85 * signals.WIDTH * height / width  # of names, and of a row's height
  total = len(rows) * (inches + signals.MARGIN)

  def draw(figure):
    figure.set_layout_engine('none')
    for place, (name, strip) in enumerate(strips.items(), 1):
      bottom = 1 - place * (inches + signals.MARGIN) / total
      panel = figure.add_axes((left, bottom, 1 - left, inches / total), frame_on=False)
      panel.imshow(strip, interpolation='none', aspect='auto')
      panel.set(xticks=[], yticks=[])
      panel.text(-0.02, 0.5, name, transform=panel.transAxes, ha='right', va='center')

  return both_inks(draw, signals.WIDTH, total)
