"""Sound of waveforms and of piano rolls, as 16-bit mono wav files."""

import io
import wave
from collections.abc import Iterator

import numpy as np

from afslvm.visualization.events import LOWEST_NOTE, ROLL, Event

ROLL_RATE = 16_000  # Hz; the highest key of a piano has 4,186
LOUDNESS = 0.8  # the greatest amplitude of a roll's sound
# A struck string, roughly: partial k is weaker by k^-1.4 and dies away faster than the first.
PARTIALS, DECAY = 6, 1.6  # and e-folds per second of the first one
ATTACK, RELEASE, FADE = 0.006, 0.05, 0.03  # seconds
HELD_PROBABILITY = 0.5  # from which on a note of a roll sounds


def wav_of(row: np.ndarray, event: Event, max_seconds: float | None = None) -> bytes:
  """A wav file of a row [T, D] of a roll or waveform, cut after whole steps if it is too long."""
  if max_seconds is not None:
    row = row[: max(1, int(max_seconds / event.step_seconds + 1e-6))]
  if event.kind == ROLL:
    return wav(play(row, event.step_seconds), ROLL_RATE)
  return wav(samples_of(row, event), event.sample_rate)


def wav(samples: np.ndarray, rate: int) -> bytes:
  """A mono wav file of int16 samples [N]."""
  file = io.BytesIO()
  with wave.open(file, 'wb') as out:
    out.setnchannels(1)
    out.setsampwidth(2)
    out.setframerate(rate)
    out.writeframes(np.asarray(samples, '<i2').tobytes())
  return file.getvalue()


def samples_of(row: np.ndarray, event: Event) -> np.ndarray:
  """Standardised frames [T, F] laid end to end, as int16 [T F]; what is too loud is clipped."""
  values = np.nan_to_num(np.asarray(row, np.float64).reshape(-1)) * event.std + event.mean
  return np.clip(np.round(values), -32768, 32767).astype(np.int16)


def notes(roll: np.ndarray) -> Iterator[tuple[int, int, int]]:
  """(MIDI number, first step, step after the last) of every note of a roll [T, 88].

  A roll can't tell a note that is held from one that is struck again: neighbours are one note.
  """
  sounding = np.asarray(roll) > HELD_PROBABILITY
  padded = np.pad(sounding, [(1, 1), (0, 0)]).astype(np.int8)
  changes = np.diff(padded, axis=0)
  for column in np.flatnonzero(sounding.any(axis=0)):
    begins, ends = (np.flatnonzero(changes[:, column] == sign) for sign in (1, -1))
    for begin, end in zip(begins, ends, strict=True):
      yield LOWEST_NOTE + int(column), int(begin), int(end)


def play(roll: np.ndarray, step_seconds: float) -> np.ndarray:
  """int16 samples at `ROLL_RATE` of a roll [T, 88]; additive synthesis, silent without notes."""
  length = round(len(roll) * step_seconds * ROLL_RATE)
  mixed = np.zeros(length)
  for number, begin, end in notes(roll):
    first = round(begin * step_seconds * ROLL_RATE)
    tone = _tone(number, (end - begin) * step_seconds)[: length - first]
    mixed[first : first + len(tone)] += tone
  fade = min(round(FADE * ROLL_RATE), length)
  mixed[length - fade :] *= np.linspace(1.0, 0.0, fade)
  greatest = np.abs(mixed).max(initial=0.0)
  return np.round(32767 * LOUDNESS * mixed / greatest if greatest else mixed).astype(np.int16)


def _tone(number: int, seconds: float) -> np.ndarray:
  """One note, with its release after `seconds`."""
  frequency = 440.0 * 2.0 ** ((number - 69) / 12)
  time = np.arange(round((seconds + RELEASE) * ROLL_RATE)) / ROLL_RATE
  tone = np.zeros_like(time)
  for partial in range(1, PARTIALS + 1):
    if partial * frequency < 0.45 * ROLL_RATE:
      decay = np.exp(-DECAY * np.sqrt(partial) * time)
      tone += partial**-1.4 * decay * np.sin(2 * np.pi * partial * frequency * time)
  envelope = np.minimum(time / ATTACK, 1.0) * np.clip((seconds + RELEASE - time) / RELEASE, 0, 1)
  return tone * envelope
