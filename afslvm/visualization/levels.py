"""What a multi-scale flow does at each of its levels: their cost, what is left of time, a line."""

import jax
import numpy as np

from afslvm.evaluation import levels
from afslvm.evaluation.levels import Level
from afslvm.visualization import figures, frames, markup, pictures
from afslvm.visualization.markup import Html, element
from afslvm.visualization.page import paragraphs
from afslvm.visualization.records import Run


def section(runs: list[Run]) -> Html:
  """Cost and correlation of every level, and frames between two frames; '' without any levels."""
  found = {run.title: (run, _levels_of(run)) for run in runs}
  found = {title: both for title, both in found.items() if both[1]}
  if not found:
    return Html('')
  cost = {title: [level.bits_per_dim for level in of_run] for title, (_, of_run) in found.items()}
  begins = {title: run.model.min_context for title, (run, _) in found.items()}
  alt = f'bits of each level against steps: {", ".join(found)}'
  return markup.join(
    [
      paragraphs(
        'Levels are counted from the finest. Their bits are those of their latents given the past '
        'and the coarser levels, per dimension of the frame, on the sequences above; together with '
        'the log-determinant of the map, which the levels share, they make up the number of the '
        'table.'
      ),
      markup.two_tone(*figures.bits_of_levels(cost, begins), alt=alt),
      _correlations({title: of_run for title, (_, of_run) in found.items()}),
      *(_between_frames(run) for run, _ in found.values()),
    ]
  )


def _levels_of(run: Run) -> list[Level]:
  if run.sequences is None or not run.shows_frames:
    return []
  x = run.sequences.x[:, : run.config['data']['length']]
  return levels.of_sequences(run.model, run.variables, x, jax.random.key(run.sequences.seed))


def _correlations(found: dict[str, list[Level]]) -> Html:
  rows = [
    [title, number, f'{level.correlation:+.3f}', f'{level.moved_correlation:+.3f}']
    for title, of_run in found.items()
    for number, level in enumerate(of_run)
  ]
  header = ['model', 'level', 'of its latents', 'of what its prior is left to predict']
  return markup.join(
    [
      paragraphs(
        'The temporal correlation of latents, before and after the shift and scale that the prior '
        'of their level takes from the past: the difference to the last step, or a flow.'
      ),
      markup.table(header, rows),
    ]
  )


def _between_frames(run: Run) -> Html:
  """Strips from the last frame of a sequence to that of another, in latents and in pixels."""
  assert run.sequences is not None
  ends = run.sequences.x[0, -1], run.sequences.x[-1 if len(run.sequences.x) > 1 else 0, 0]
  line = levels.interpolated(run.model, run.variables, *ends)
  if line is None:
    return Html('')
  weights = np.linspace(0, 1, len(line)).reshape(-1, 1, 1, 1)
  rows = {'in latents': line, 'in pixels': (1 - weights) * ends[0] + weights * ends[1]}
  shown = [
    (name, 'from frame to frame', frames.transparent_strip(frames.to_display(row, 'x'), len(row)))
    for name, row in rows.items()
  ]
  return markup.join(
    [
      element('h3', f'{run.title}: between two held-out frames'),
      pictures.strips(shown, len(line), run.model.event_shape[1], context=0),
    ]
  )
