"""One self-contained page about trained runs. It shows what models `sow` and never asks which."""

import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from afslvm.errors import ConfigError
from afslvm.evaluation.diagnostics import is_number
from afslvm.visualization import (
  clips,
  figures,
  frames,
  health,
  levels,
  markup,
  page,
  pictures,
  results,
  summary,
)
from afslvm.visualization.markup import Html, element
from afslvm.visualization.page import paragraphs
from afslvm.visualization.records import Run


def write(path: pathlib.Path, runs: list[Run], on_run: Callable[[str], None] = lambda title: None):
  """Writes the page.

  Args:
    path: of the HTML file; its folder is made.
    runs: at least one.
    on_run: called with the title of each run before its pictures are made.
  """
  content = build(runs, on_run)
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(path.name + '.tmp')
  temporary.write_text(content, encoding='utf-8')
  temporary.replace(path)


def build(runs: list[Run], on_run: Callable[[str], None] = lambda title: None) -> str:
  """The page as text; see `write`."""
  rows, continued, shown = [], [], set()
  for run in runs:
    on_run(run.title)
    labels, block = _rows(run)
    rows.append(block)
    shown |= labels
    continued.append(_continuations(run))
  sections = {
    'results': ('Results', summary.results(runs)),
    'training': ('Training', _training(runs)),
    'health': ('Health', health.section(runs)),
    'flows': (
      'What each model makes of a sequence',
      markup.join([_about_rows(shown, runs), *rows]),
    ),
    **({'levels': ('Levels', of_levels)} if (of_levels := levels.section(runs)) else {}),
    'continuations': ('Continuations', markup.join([_ABOUT_CONTINUATIONS, *continued])),
    'correlation': ('Correlation before and after', _correlation(runs)),
    'configs': ('Configs and receipts', markup.join([_about(run) for run in runs])),
  }
  *most, last = [run.title for run in runs]
  names = f'{", ".join(most)} and {last}' if most else last
  data = ', '.join(dict.fromkeys(run.dataset for run in runs))
  return page.page(f'{names} on {data}', summary.headlines(runs), sections)


def write_picture(path: pathlib.Path, run: Run):
  """The rows of a run's first sequence as a PNG file, with labels.

  Raises:
    ConfigError: the data of the run are neither frames nor sound, or there are none.
  """
  if run.sequences is None or not (run.shows_frames or run.event.is_heard):
    why = run.no_sequences or f'its data have shape {run.model.event_shape}'
    raise ConfigError(f'--picture={path}: {run.title} has nothing to show ({why})')
  rows = pictures.visual_rows(run, run.sequences)
  captions = {label: pictures.caption(label, rows) for label in rows}
  if run.event.is_heard:
    content = clips.picture({captions[label]: row[0] for label, row in rows.items()}, run.event)
  else:
    content = frames.labelled_picture(rows, 0, captions)
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(content)


# ---- training ------------------------------------------------------------------------------------


def _training(runs: list[Run]) -> Html:
  """One chart per kind of data, since their nats don't compare."""
  kinds: dict[tuple[str, ...], list[Run]] = {}
  for run in runs:
    if run.records.train or run.records.validation:
      kinds.setdefault((run.dataset, run.config['data']['dequantisation']), []).append(run)
  if not kinds:
    return paragraphs('No training records (metrics.jsonl) were found.')
  parts = [
    paragraphs(
      'Thin lines: the training batch of that step; thick lines with dots: the '
      'validation split (fixed crops of video, whole songs and utterances), which selects the '
      'checkpoint. Each run scores the steps after its own '
      'context, so compare models in the table above, not here. The steep beginning is cut off.'
    )
  ]
  for group in kinds.values():
    titles = ', '.join(run.title for run in group)
    alt = f'training and validation {group[0].event.unit} against steps: {titles}'
    parts.append(markup.two_tone(*figures.training_curves(group), alt=alt))
  absent = [run.title for run in runs if not (run.records.train or run.records.validation)]
  if absent:
    parts.append(paragraphs(f'No training records were found for {", ".join(absent)}.'))
  return markup.join(parts)


# ---- pictures ------------------------------------------------------------------------------------

_ABOUT_FLOWS = (
  'Flow by flow, shift is what the flow predicts from the past, scale how far it expects to be '
  'off, and y = (x − shift) / scale what it could not predict. A flow that works has a shift that '
  'shows the moving parts, a scale that is bright where they may be, along their edges above all, '
  'and a y that looks like noise.'
)
_ABOUT_MEANS = (
  'Mean is what a latent variable model decodes from a draw of its posterior, which has seen the '
  'step itself: without flows a reconstruction of x, under flows one of y, the remainder of the '
  'last flow. It is no prediction; and where y is noise, little of it can be reconstructed.'
)
_ABOUT_PREDICTIONS = (
  'Prediction is the frame that is drawn at temperature 0 given the true frames before it: the '
  'latents of every level are at their means, which is not an average of frames.'
)
_ABOUT_CONTINUATIONS = paragraphs(
  'The first steps, marked in the line of step numbers or by their colour, are given; the model '
  'makes the others. A sample draws all noise; the mean path sets it to zero and shows what the '
  'model expects, of notes those that are more likely than not. What a model makes feeds its next '
  'steps: one whose noise is independent from one dimension to the next dissolves into grain or '
  'hiss, however good its likelihood is.',
  element(
    'span',
    element('span', style=f'background:rgb{frames.CONTEXT_COLOUR}'),
    'given  ',
    element('span', style=f'background:rgb{frames.MODEL_COLOUR}'),
    'made by the model',
    class_='legend',
  ),
)


def _about_rows(shown: set[str], runs: list[Run]) -> Html:
  """What the rows are, of those that are there."""
  beside = 'the numbers beside a row are the values that are shown black and white.'
  names = {label.rpartition('/')[2] for label in shown}
  return paragraphs(
    'Random held-out sequences, one block each, aligned at the last step. x is the data'
    + (f'; {beside}' if any(run.shows_frames for run in runs) else '.'),
    _ABOUT_FLOWS if 'shift' in names else '',
    _ABOUT_MEANS if 'mean' in names else '',
    _ABOUT_PREDICTIONS if 'prediction' in names else '',
  )


def _rows(run: Run) -> tuple[set[str], Html]:
  """The labels of the rows, and the rows."""
  heading = element('h3', run.title)
  if run.sequences is None:
    return set(), markup.join([heading, paragraphs(f'No pictures: {run.no_sequences}')])
  rows = pictures.visual_rows(run, run.sequences)
  sentence = ' '.join(_explained(rows))
  if set(rows) == {'x'}:
    sentence = 'This model shows nothing but the data.'
  blocks = [
    markup.join([_name_of(run, place), pictures.rows_of_sequence(run, rows, place)])
    for place in range(len(run.sequences.indices))
  ]
  return set(rows), markup.join([heading, paragraphs(sentence, clips.about(run.event)), *blocks])


def _explained(rows: dict[str, np.ndarray]) -> Iterator[str]:
  """How much of x the first shift, the prediction or the reconstruction tells."""
  for label, name in pictures.FIRST_PREDICTIONS.items():
    part = pictures.explained(rows, label)
    if part is None:
      continue
    text = f'On these sequences the {name} accounts for {max(part, 0.0):.0%} of the variance of x'
    poor = label == '1/shift' and part <= 0.1
    yield text + (': this flow mostly scales and hardly predicts.' if poor else '.')


def _name_of(run: Run, place: int) -> Html:
  found = run.sequences
  assert found is not None
  name = f'{found.split} sequence {found.indices[place]} (drawn with seed {found.seed})'
  steps = found.x.shape[1]
  if found.lengths and found.lengths[place] > steps:
    name += f', the first {steps} of its {found.lengths[place]} steps'
  return element('p', name, class_='quiet')


def _continuations(run: Run) -> Html:
  heading = element('h3', run.title)
  if run.sequences is None:
    return markup.join([heading, paragraphs(f'No pictures: {run.no_sequences}')])
  if not (run.shows_frames or run.event.is_heard):
    shape = ' x '.join(map(str, run.model.event_shape))
    return markup.join(
      [
        heading,
        paragraphs(f'Left out: observations of shape {shape} are neither frames nor sound.'),
      ]
    )
  context = pictures.num_context(run, run.sequences)
  if context >= run.sequences.x.shape[1]:
    return markup.join(
      [heading, paragraphs(f'Left out: sequences end before a context of {context} steps.')]
    )
  rows = pictures.continued(run, run.sequences)
  blocks = [
    markup.join([_name_of(run, place), pictures.continuations_of_sequence(run, rows, place)])
    for place in range(len(next(iter(rows.values()))))
  ]
  if run.event.is_heard and run.model.min_context == 0:
    blocks += [paragraphs('Without any context:'), pictures.from_nothing(run, run.sequences)]
  return markup.join([heading, *blocks])


# ---- correlation, config, receipt ----------------------------------------------------------------


def _correlation(runs: list[Run]) -> Html:
  """Temporal correlation and standard deviation of x and of every y, per run and contract."""
  rows = []
  for run in runs:
    for evaluated in run.records.evaluations:
      contract = evaluated.results[0].contract
      for label, values in sorted(evaluated.decorrelation.items(), key=_from_x_on):
        rows.append(
          [
            run.title,
            f'{contract.protocol}, {results.scored_in_words(contract)}',
            pictures.caption(label, evaluated.decorrelation),
            _bar(values.get('temporal_correlation')),
            _three_digits(values.get('standard_deviation')),
          ]
        )
  if not rows:
    return paragraphs('Evaluations measure it; none was found.')
  other = any(
    evaluated.results[0].contract.dequantisation != run.config['data']['dequantisation']
    for run in runs
    for evaluated in run.records.evaluations
  )
  return markup.join(
    [
      paragraphs(
        'How much a step still tells about the next: the correlation of successive steps, averaged '
        'over dimensions, on scored steps only. If the flows leave nothing to predict, the last y '
        'has correlation zero and standard deviation one; both are needed, and neither says that '
        'y is free of structure within a step.',
        'Under a protocol whose noise is not that of training y has another standard deviation.'
        if other
        else '',
      ),
      markup.table(['model', 'contract', 'of', 'temporal correlation', 'standard deviation'], rows),
    ]
  )


def _from_x_on(item: tuple[str, dict[str, float]]) -> tuple[bool, str]:
  """The data first, then the levels by depth."""
  return item[0] != 'x', item[0]


def _bar(value: Any) -> Html:
  if not is_number(value):
    return markup.escape('–')
  bar = element('span', class_='bar', style=f'width:{8 * min(abs(value), 1.0):.3f}rem')
  return markup.join([bar, f'{value:+.3f}'])


def _three_digits(value: Any) -> str:
  return f'{value:.3f}' if is_number(value) else '–'


def _about(run: Run) -> Html:
  receipt = run.records.receipt
  checkpoint = json.dumps(run.checkpoint, indent=1, sort_keys=True)
  return markup.join(
    [
      element('h3', run.title),
      element('p', 'folder ', element('code', run.workdir)),
      markup.details('checkpoint', element('pre', checkpoint)),
      markup.details('config', element('pre', json.dumps(run.config, indent=1, sort_keys=True))),
      markup.details('receipt', element('pre', json.dumps(receipt, indent=1, sort_keys=True)))
      if receipt
      else paragraphs('There is no receipt: training has not ended yet.'),
    ]
  )
