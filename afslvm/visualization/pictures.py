"""The pictures of one run: rows of whatever its model shows, and continuations."""

from collections.abc import Collection, Mapping

import jax
import numpy as np

from afslvm.evaluation import visuals
from afslvm.visualization import clips, figures, frames, markup
from afslvm.visualization import continuations as continuations_lib
from afslvm.visualization.markup import Html, element
from afslvm.visualization.records import Run, Sequences

NUM_SAMPLES = 3
CONTINUED_SEQUENCES = 2
TARGET_WIDTH = 1024  # pixels of a strip, so that it fits beside its label
MEANINGS = {
  'x': 'data',
  'shift': 'prediction',
  'scale': 'uncertainty',
  'y': 'remainder',
}
FIRST_PREDICTIONS = {
  '1/shift': 'first shift',
  '1/mean': 'reconstruction',
  '1/prediction': 'one-step prediction',
}
# Rows of the model inside all flows, which are about x, or about y of the last flow.
OF_THE_CORE = {'mean': 'reconstruction', 'prediction': 'prediction'}
ROLES = {
  'truth': 'what happened',
  'mean path': 'no noise',
}


# ---- rows of what a model shows ------------------------------------------------------------------


def visual_rows(run: Run, sequences: Sequences) -> dict[str, np.ndarray]:
  """Rows of the sequences' first steps: of frames as many as in training, else all there are."""
  x = sequences.x if run.event.is_heard else sequences.x[:, : run.config['data']['length']]
  return visuals.visual_rows(run.model, run.variables, x, jax.random.key(sequences.seed))


def caption(label: str, labels: Collection[str]) -> str:
  """'2/shift' -> 'shift 2', or 'shift' if no other row is called that."""
  depth, _, name = label.rpartition('/')
  alike = [other for other in labels if other.rpartition('/')[2] == name]
  return f'{name} {depth}' if len(alike) > 1 else name


def meaning(label: str, labels: Collection[str]) -> str:
  """What a row is, in a word or two; '' if only its model knows.

  A likelihood's mean reconstructs what the likelihood is of: x, or y of the flow outside of it.
  """
  depth, _, name = label.rpartition('/')
  if name not in OF_THE_CORE:
    return MEANINGS.get(name, '')
  outside = f'{int(depth) - 1}/y'
  return f'{OF_THE_CORE[name]} of {caption(outside, labels) if outside in labels else "x"}'


def explained(rows: Mapping[str, np.ndarray], label: str = '1/shift') -> float | None:
  """The part of the variance of x that a row of the same unit accounts for; None without it."""
  shift = rows.get(label)
  if shift is None or not shift.size:
    return None
  x = rows['x'][:, rows['x'].shape[1] - shift.shape[1] :]
  variance = float(np.var(x))
  return 1.0 - float(np.mean((x - shift) ** 2)) / variance if variance else None


def rows_of_sequence(run: Run, rows: Mapping[str, np.ndarray], index: int) -> Html:
  """All rows of one sequence under one another, aligned at the last step."""
  captions = {label: caption(label, rows) for label in rows}
  if run.event.is_heard:
    named = {label: (captions[label], meaning(label, rows)) for label in rows}
    return clips.blocks({label: row[index] for label, row in rows.items()}, run.event, named)
  if not run.shows_frames:
    return markup.two_tone(*figures.vector_rows(rows, index, captions), alt='rows of one sequence')
  steps = rows['x'].shape[1]
  shown = []
  for label, row in rows.items():
    low, high = frames.display_range(row[index], label)
    limits = f'{low:.2g}\N{NO-BREAK SPACE}…\N{NO-BREAK SPACE}{high:.2g}'.replace('-', '−')
    about = f'{meaning(label, rows)} {limits}'.strip()
    strip = frames.transparent_strip(frames.to_display(row[index], label), steps)
    shown.append((captions[label], about, strip))
  return strips(shown, steps, run.model.event_shape[1], context=0)


# ---- continuations -------------------------------------------------------------------------------


def num_context(run: Run, sequences: Sequences) -> int:
  """Steps that are given: as is usual for such data, but no more than half where they are short."""
  usual = min(run.event.context_steps, max(1, sequences.x.shape[1] // 2))
  if run.shows_frames:
    usual = run.event.context_steps
  return continuations_lib.context_length(run.model, usual)


def continued(run: Run, sequences: Sequences) -> dict[str, np.ndarray]:
  """See `continuations.continuations`; the samples have the sequences' seed."""
  key, x = jax.random.key(sequences.seed), sequences.x[:CONTINUED_SEQUENCES]
  context = num_context(run, sequences)
  return continuations_lib.continuations(
    run.model, run.variables, x, NUM_SAMPLES, key, num_context=context
  )


def from_nothing(run: Run, sequences: Sequences) -> Html:
  """Samples without any context, as long as the sequences; of models that need none."""
  steps, key = sequences.x.shape[1], jax.random.fold_in(jax.random.key(sequences.seed), NUM_SAMPLES)
  drawn = continuations_lib.from_nothing(run.model, run.variables, steps, NUM_SAMPLES, key)
  rows = {f'sample {number}': row for number, row in enumerate(drawn, 1)}
  return clips.blocks(rows, run.event, {name: (name, 'drawn from nothing') for name in rows})


def continuations_of_sequence(run: Run, rows: Mapping[str, np.ndarray], index: int) -> Html:
  """Strips and an animation of one sequence of frames; pictures and sound of others."""
  assert run.sequences is not None
  context = num_context(run, run.sequences)
  if run.event.is_heard:
    named = {label: (label, ROLES.get(label, 'drawn')) for label in rows}
    one = {label: row[index] for label, row in rows.items()}
    return clips.blocks(one, run.event, named, context)
  shown = {label: frames.to_display(row[index], 'x') for label, row in rows.items()}
  steps, width = rows['truth'].shape[1], run.model.event_shape[1]
  pictures = [
    (label, ROLES.get(label, 'drawn'), frames.transparent_strip(row, steps, context))
    for label, row in shown.items()
  ]
  return element(
    'div', strips(pictures, steps, width, context), _animation(shown, context), class_='continued'
  )


def _animation(shown: Mapping[str, np.ndarray], context: int) -> Html:
  """All rows side by side in one animation, so that they keep in step."""
  panels = [frames.framed(row, context) for row in shown.values()]
  together = np.concatenate(panels, axis=2)
  _, height, width, _ = together.shape
  scale = max(1, min(8, TARGET_WIDTH // (2 * width)))
  picture = element(
    'img',
    src=markup.data_uri(frames.gif(together), 'image/gif'),
    width=width * scale,
    height=height * scale,
    alt=f'animation of {", ".join(shown)}',
    class_='pixels',
  )
  names = [element('span', label) for label in shown]
  columns = element('div', *names, class_='names', style=f'width:{width * scale}px')
  return element('div', element('figure', picture, columns), class_='scroll')


# ---- layout --------------------------------------------------------------------------------------


def strips(
  rows: list[tuple[str, str, np.ndarray]], steps: int, frame_width: int, context: int
) -> Html:
  """Labelled strips under a line of step numbers, enlarged without smoothing.

  Args:
    rows: (label, what it is, uint8 [H, W, 4]).
    steps: frames of a strip.
    frame_width: pixels of a frame, without the gap.
    context: how many of the steps are given; their numbers are marked.
  """
  scale = max(1, min(6, TARGET_WIDTH // (steps * (frame_width + 1))))
  place = f'width:{(frame_width + 1) * scale}px'
  numbers = [
    element('span', step, style=place, class_='given' if step < context else None)
    for step in range(steps)
  ]
  lines = [element('div', element('b', 'step'), element('div', *numbers), class_='steps')]
  for label, about, picture in rows:
    height, width, _ = picture.shape
    image = element(
      'img',
      src=markup.data_uri(frames.png(picture), 'image/png'),
      width=width * scale,
      height=height * scale,
      alt=f'{label}: {about}' if about else label,
      class_='pixels',
    )
    heading = element('b', label, element('small', about, class_='line'))
    lines.append(element('div', heading, image))
  return element('div', *lines, class_='scroll strips')
