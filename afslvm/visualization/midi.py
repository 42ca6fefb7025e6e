"""Piano rolls as MIDI files, with pretty_midi, which only the extra `music` installs."""

import importlib.util
import io

import numpy as np

from afslvm.visualization import sound

VELOCITY = 80
REMEDY = "pip install 'pretty-midi>=0.2.11'"


def is_available() -> bool:
  """Whether MIDI files can be written here."""
  return importlib.util.find_spec('pretty_midi') is not None


def midi(roll: np.ndarray, step_seconds: float) -> bytes:
  """A MIDI file of a roll [T, 88], one piano; a beat is two steps, neighbours are one note."""
  import pretty_midi

  song = pretty_midi.PrettyMIDI(initial_tempo=30.0 / step_seconds)
  piano = pretty_midi.Instrument(program=0, name='piano')
  for number, begin, end in sound.notes(roll):
    start, stop = begin * step_seconds, end * step_seconds
    piano.notes.append(pretty_midi.Note(VELOCITY, number, start, stop))
  song.instruments.append(piano)
  file = io.BytesIO()
  song.write(file)
  return file.getvalue()
