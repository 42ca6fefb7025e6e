"""Rows of a piano roll or waveform on the page: a picture of each, and a player that sounds it."""

from collections.abc import Mapping

import numpy as np

from afslvm.visualization import figures, markup, signals, sound
from afslvm.visualization.events import ROLL, Event
from afslvm.visualization.markup import Html, element

MAX_SECONDS = 12.0  # that a player holds: about half a megabyte of a piano roll
# Rows in the unit of the data, which can be played; others are drawn with limits of their own.
PLAYED = (*signals.GIVEN, '1/shift', '1/mean')


def about(event: Event) -> str:
  """What a reader should know about the players; '' for what can't be heard."""
  if not event.is_heard:
    return ''
  bound = f'A player holds at most {MAX_SECONDS:g} seconds.'
  if event.kind != ROLL:
    return (
      f'{bound} Sound is standardised samples times their deviation plus their mean, at '
      f'{event.sample_rate:,} Hz, clipped to 16 bits. Above: least and greatest sample of short '
      f'pieces; below: the spectrogram, {signals.DECIBELS:g} dB from nothing to full colour.'
    )
  return (
    f'{bound} The data do not say how long a step is: it is played as {event.step_seconds:g} '
    'seconds. The strength of a note is its probability; it sounds from one half on. Neighbouring '
    'steps of one pitch are one note, for a roll can not tell a note held from one struck again.'
  )


def can_be_played(label: str) -> bool:
  """Whether a row is in the unit of the data."""
  return '/' not in label or label in PLAYED


def picture(rows: Mapping[str, np.ndarray], event: Event, context: int = 0) -> bytes:
  """A PNG file of rows [T, D] in the unit of the data, by name, above one another."""
  limits = signals.limits_of(rows, event)

  def draw(figure):
    signals.draw(figure, rows, event, limits, context=context)

  return figures.png(draw, signals.WIDTH, signals.height_of(len(rows), event, limits))


def blocks(
  rows: Mapping[str, np.ndarray],
  event: Event,
  captions: Mapping[str, tuple[str, str]],
  context: int = 0,
) -> Html:
  """One block per row of one sequence, on one scale.

  Args:
    rows: [T, D] by label.
    event: what one step is.
    captions: (name, what it is) by label.
    context: how many of the first steps are given.
  """
  shared = signals.limits_of({k: v for k, v in rows.items() if can_be_played(k)}, event)
  parts = []
  for label, row in rows.items():
    limits = shared if can_be_played(label) else signals.limits_of({label: row}, event)
    parts.append(_block(label, row, event, limits, captions[label], context))
  return markup.join(parts)


def _block(
  label: str,
  row: np.ndarray,
  event: Event,
  limits: signals.Limits,
  caption: tuple[str, str],
  context: int,
) -> Html:
  def draw(figure):
    signals.draw(figure, {label: row}, event, limits, context=context, names=False)

  name, meaning = caption
  picture = figures.both_inks(draw, signals.WIDTH, signals.height_of(1, event, limits))
  heading = [element('b', name), element('small', meaning)]
  if can_be_played(label):
    data = markup.data_uri(sound.wav_of(row, event, MAX_SECONDS), 'audio/wav')
    heading.append(element('audio', controls='', preload='metadata', src=data, aria_label=name))
  return element(
    'div',
    element('div', *heading),
    markup.two_tone(*picture, alt=f'{name}: {meaning}' if meaning else name),
    class_='clip',
  )
