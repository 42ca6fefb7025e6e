"""What one step of a sequence is: a picture, notes of a piano roll, a piece of sound, or numbers.

This is the one place that decides; whatever draws or plays asks for the kind, never for the data
set or the model.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from afslvm.errors import DataError

FRAMES, ROLL, WAVEFORM, VECTORS = 'frames', 'roll', 'waveform', 'vectors'
LOWEST_NOTE, NUM_NOTES = 21, 88  # MIDI number of a roll's first column; a piano's keys
STEP_SECONDS = 0.25  # of a roll, which doesn't know its tempo

# Steps that are given and drawn after them, and that a page shows; a page shows all of frames.
_CONTEXT = {ROLL: 16}
_PREDICTED = {ROLL: 48, WAVEFORM: 40}
_SHOWN = {ROLL: 48, WAVEFORM: 120}


@dataclasses.dataclass(frozen=True)
class Event:
  """One step.

  Attributes:
    kind: one of `FRAMES`, `ROLL`, `WAVEFORM`, `VECTORS`.
    step_seconds: how long a step of a roll or waveform is; of a roll, as it is played.
    sample_rate: of a waveform, Hz.
    mean: of a waveform: stored values are (16-bit sample - mean) / std.
    std: see `mean`.
  """

  kind: str
  step_seconds: float = STEP_SECONDS
  sample_rate: int = 0
  mean: float = 0.0
  std: float = 1.0

  @property
  def is_heard(self) -> bool:
    """Whether it can be played."""
    return self.kind in (ROLL, WAVEFORM)

  @property
  def unit(self) -> str:
    """In which likelihoods of such data are reported."""
    return 'nats/step' if self.is_heard else 'nats/dim'

  @property
  def context_steps(self) -> int:
    """Steps that are usually given; the AF paper's samples of frames continue five."""
    return _CONTEXT.get(self.kind, 5)

  @property
  def predicted_steps(self) -> int:
    """Steps that are usually drawn after them."""
    return _PREDICTED.get(self.kind, 20)

  @property
  def shown_steps(self) -> int | None:
    """The most that a page shows of a sequence; None is all."""
    return _SHOWN.get(self.kind)


def kind_of(event_shape: Sequence[int], data_space: str) -> str:
  """The kind of step of data of some shape and space."""
  if len(event_shape) == 3:
    return FRAMES
  if data_space == 'pcm16':
    return WAVEFORM
  if data_space == 'binary' and tuple(event_shape) == (NUM_NOTES,):
    return ROLL
  return VECTORS


def event_of(builder: Any, step_seconds: float = STEP_SECONDS) -> Event:
  """The event of a builder's data.

  Of waveforms that were never prepared, whose scale isn't known, those of standardised samples:
  there is nothing to show of them anyway.
  """
  kind = kind_of(builder.event_shape, builder.data_space)
  if kind != WAVEFORM:
    return Event(kind, step_seconds)
  try:
    rate, mean, std = int(builder.sample_rate), float(builder.mean), float(builder.std)
  except DataError:
    return Event(VECTORS)
  return Event(kind, builder.event_shape[0] / rate, rate, mean, std)
