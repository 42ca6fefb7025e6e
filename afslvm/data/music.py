"""Polyphonic music as piano rolls (Boulanger-Lewandowski et al., 2012), and its transposition."""

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from afslvm.data import base, music_files, recorded
from afslvm.data.music_files import LOWEST, NUM_NOTES
from afslvm.data.options import Integer
from afslvm.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Song:
  """A piano roll uint8 [T, 88] of 0 and 1; its repr tells songs apart by content."""

  number: int
  digest: str
  roll: np.ndarray = dataclasses.field(repr=False, compare=False)


class MusicBuilder(recorded.RecordedBuilder):
  """Base of the four sets: piano rolls, 0 or 1, ragged [T, 88]; column j is MIDI note 21 + j.

  `source` is a file or a directory, as `music_files` describes: the 2012 pickle, the same as JSON,
  a .mat, an .npz, or a folder of MIDI files with subfolders train, valid and test. The official
  splits are kept, with all songs, however short, and with steps in which no note sounds.

  Options: `steps_per_beat`, how finely MIDI files are cut into steps; the other formats have steps.
  The manifest's constant `note_range` is the lowest and the highest column in use in training.
  """

  OPTIONS = {'steps_per_beat': Integer(1, 'perbeat', low=1, high=96)}
  data_space = 'binary'
  ragged = True
  num_frames = music_files.MAX_STEPS
  event_shape = (NUM_NOTES,)
  file_names: ClassVar[tuple[str, ...]] = ()  # well-known ones, looked for in a directory
  official: ClassVar[tuple[int, ...]] = ()  # songs of train, validation and test

  @property
  def source_hint(self) -> str:
    """See base class."""
    return (
      f'{self.file_names[0]}, a .json, .mat or .npz of the same songs, a directory with one of '
      'these, or one with MIDI files in train/, valid/ and test/'
    )

  def scan(self, source: str) -> Mapping[str, Sequence[Song]]:
    """See base class."""
    songs, self._remarks = music_files.read(source, self.file_names, self.options.steps_per_beat)
    return {
      split: [Song(number, _digest(roll), roll) for number, roll in enumerate(rolls)]
      for split, rolls in songs.items()
    }

  def sequences(self, split: str) -> Iterator[np.ndarray]:
    """See base class."""
    return (song.roll for song in self.recordings[split])

  def constants(self) -> dict[str, Any]:
    """See base class."""
    used = np.zeros(NUM_NOTES, bool)
    for song in self.recordings['train']:
      used |= song.roll.any(axis=0)
    columns = np.flatnonzero(used)
    return {'note_range': [int(columns[0]), int(columns[-1])] if len(columns) else None}

  def at(self, data_dir: str):
    """See base class."""
    builder = super().at(data_dir)
    builder._remarks = getattr(self, '_remarks', [])
    return builder

  def notes(self) -> list[str]:
    """Says whether the splits have the official sizes, and which notes are in use."""
    counts = tuple(len(self.recordings[split]) for split in base.SPLITS)
    sizes = '/'.join(map(str, self.official))
    is_official = 'the official splits' if counts == self.official else f'officially {sizes}'
    lines = [f'songs: {"/".join(map(str, counts))} (train/validation/test), {is_official}']
    if bounds := self.constants()['note_range']:
      lines.append(f'training notes: MIDI {bounds[0] + LOWEST}..{bounds[1] + LOWEST}')
    return lines + self._remarks


def _digest(roll: np.ndarray) -> str:
  return hashlib.sha256(np.packbits(roll, axis=1).tobytes()).hexdigest()[:16]


class PianoMidi(MusicBuilder):
  """Piano-midi.de: classical piano pieces; see `MusicBuilder`."""

  OPTIONS = {'steps_per_beat': Integer(2, 'perbeat', low=1, high=96)}
  file_names = (
    *('Piano-midi.de.pickle', 'piano_midi.pickle', 'Piano_midi.mat'),
    *('piano_midi.json', 'piano_midi.npz', 'music_piano_midi.npz'),
  )
  official = (87, 12, 25)


class MuseData(MusicBuilder):
  """MuseData: orchestral and piano music; see `MusicBuilder`."""

  file_names = (
    *('MuseData.pickle', 'muse_data.pickle', 'MuseData.mat'),
    *('muse_data.json', 'muse_data.npz', 'music_muse_data.npz'),
  )
  official = (524, 135, 124)


class Jsb(MusicBuilder):
  """JSB: chorales of J. S. Bach in four voices; see `MusicBuilder`."""

  file_names = (
    *('JSB Chorales.pickle', 'jsb.pickle', 'jsb-chorales-quarter.pkl', 'JSB_Chorales.mat'),
    *('jsb-chorales-quarter.json', 'jsb.json', 'jsb.npz', 'music_jsb.npz'),
  )
  official = (229, 76, 77)


class Nottingham(MusicBuilder):
  """Nottingham: folk tunes with chords; see `MusicBuilder`."""

  OPTIONS = {'steps_per_beat': Integer(2, 'perbeat', low=1, high=96)}
  file_names = (
    *('Nottingham.pickle', 'nottingham.pickle', 'Nottingham.mat'),
    *('nottingham.json', 'nottingham.npz', 'music_nottingham.npz'),
  )
  official = (694, 173, 170)


# ---- transposition -------------------------------------------------------------------------------


class Transposed:
  """A source of piano rolls whose training crops are shifted by some semitones; see `transposed`.

  The records themselves are as they were: the pipeline calls `augment` on what it has cut out.
  """

  def __init__(self, source, semitones: int):
    self._source, self.semitones = source, semitones
    self.lowest, self.highest = source.constants.get('note_range') or (0, NUM_NOTES - 1)

  def __len__(self) -> int:
    return len(self._source)

  def __getitem__(self, index) -> np.ndarray:
    return self._source[index]

  def __getattr__(self, name: str):
    if name.startswith('__') or name == '_source':  # not there while being unpickled
      raise AttributeError(name)
    return getattr(self._source, name)

  def __repr__(self) -> str:
    return f'{self._source!r} transposed by up to {self.semitones} semitones'

  def augment(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shifts all notes of x [T, 88] alike, by a shift that is uniform over those allowed.

    Allowed are -semitones..semitones, as far as no note leaves the range that the notes of the
    whole training split have.
    """
    used = np.flatnonzero(x.any(axis=0))
    low, high = (used[0], used[-1]) if len(used) else (self.highest, self.lowest)
    down = min(self.semitones, max(int(low) - self.lowest, 0))
    up = min(self.semitones, max(self.highest - int(high), 0))
    return np.roll(x, rng.integers(-down, up + 1), axis=1)


def transposed(source, semitones: int):
  """Returns `source` with the augmentation of `data.transpose`; itself for 0.

  Raises:
    ConfigError: not a number of semitones, or data that aren't piano rolls.
  """
  if type(semitones) is not int or not 0 <= semitones < NUM_NOTES:
    raise ConfigError(f'data.transpose={semitones!r}: needs semitones in 0..{NUM_NOTES - 1}')
  if not semitones:
    return source
  if source.data_space != 'binary' or tuple(source.event_shape) != (NUM_NOTES,):
    raise ConfigError(
      f'data.transpose={semitones}: {source.dataset} is no music, only piano rolls of {NUM_NOTES} '
      'notes are transposed; use 0'
    )
  return Transposed(source, semitones)
