"""Folders of MIDI files as piano rolls, cut into steps of a beat or a part of one."""

import os
import warnings

import numpy as np

from afslvm.data import base, folders, music_files
from afslvm.data.sources import one_line
from afslvm.errors import DataError, PlatformError

SUFFIXES = ('.mid', '.midi')


def require_pretty_midi():
  """Imports pretty_midi, an optional package.

  Raises:
    PlatformError: it is not installed.
  """
  try:
    import pretty_midi
  except ImportError as error:
    raise PlatformError(
      f'reading MIDI files needs pretty_midi, which is not installed ({one_line(error)}); '
      "run: pip install 'pretty_midi>=0.2.11'"
    ) from error
  return pretty_midi


def read(source: str, steps_per_beat: int) -> tuple[dict[str, list[np.ndarray]], list[str]]:
  """Reads the files in train/, valid/ (or validation/) and test/, in the order of their names.

  Args:
    source: the folder.
    steps_per_beat: how many steps a quarter note has.

  Returns:
    {split: piano rolls uint8 [T, 88]}, and remarks for whoever prepares them.

  Raises:
    DataError: no files, or some that can't be read, all of which are named.
    PlatformError: pretty_midi is missing.
  """
  found = {}
  for split, names in folders.FOLDERS.items():
    folder = folders.first_folder(source, names)
    found[split] = folders.files(folder, source, SUFFIXES) if folder else []
    if not found[split]:
      raise DataError(
        f'{source}: has no MIDI files in {names[0]}/; give one of {music_files.FORMATS}, '
        'or a folder with MIDI files in train/, valid/ and test/'
      )
  require_pretty_midi()
  songs: dict[str, list[np.ndarray]] = {split: [] for split in base.SPLITS}
  dropped, errors = 0, []
  for split, files in found.items():
    for file in files:
      try:
        roll, outside = song(file.path, steps_per_beat)
      except DataError as error:
        errors.append((file.path, error))
        continue
      songs[split].append(roll)
      dropped += outside
  folders.raise_all(errors, 'MIDI')
  return songs, [f'{dropped} notes that no piano has are left out'] if dropped else []


def song(path: str, steps_per_beat: int) -> tuple[np.ndarray, int]:
  """Reads one file, which counts in beats: tempo does not matter.

  A note sounds from the step nearest to its beginning to that nearest to its end, one step at
  least. Percussion is left out, and so are notes that no piano has. The song begins at its first
  beat, be it silent, and ends with its last note.

  Returns:
    The piano roll uint8 [T, 88], and the number of notes that no piano has.

  Raises:
    DataError: no MIDI, damaged, without any note, or too long.
  """
  pretty_midi = require_pretty_midi()
  if os.path.getsize(path) > music_files.MAX_FILE_BYTES:
    raise DataError(f"{path}: can't be read as MIDI (it is too large)")
  try:
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')  # of tempo changes, which don't matter here
      music = pretty_midi.PrettyMIDI(path)
    notes = [n for part in music.instruments if not part.is_drum for n in part.notes]
    times = np.array([[music.time_to_tick(t) for t in (n.start, n.end)] for n in notes])
    pitches = np.array([n.pitch for n in notes], np.int64) - music_files.LOWEST
    if music.resolution < 1:
      raise ValueError('it counts in seconds, not in beats')
    ticks = music.resolution / steps_per_beat
  except Exception as error:  # mido and pretty_midi have many ways to say that a file is damaged
    raise DataError(f"{path}: can't be read as MIDI ({one_line(error)})") from error
  inside = (pitches >= 0) & (pitches < music_files.NUM_NOTES)
  if not inside.any():
    raise DataError(f"{path}: can't be read as MIDI of a song (no piano has any of its notes)")
  steps = np.floor(times[inside] / ticks + 0.5).astype(np.int64)
  begin, end = steps[:, 0], np.maximum(steps[:, 1], steps[:, 0] + 1)
  if end.max() > music_files.MAX_STEPS:
    raise DataError(f'{path}: has {end.max()} steps, more than {music_files.MAX_STEPS}')
  roll = np.zeros((end.max(), music_files.NUM_NOTES), np.uint8)
  for first, last, column in zip(begin, end, pitches[inside], strict=True):
    roll[first:last, column] = 1
  return roll, int((~inside).sum())
