"""Files of polyphonic music, none of which is trusted: pickle, JSON, .mat, .npz and MIDI.

The pickle of 2012 is {'train', 'valid', 'test'} -> songs -> steps -> MIDI numbers, and JSON is the
same; there a number below zero is padding, and one that no piano has is refused. A .mat has
`traindata`, `validdata` and `testdata`, cells of [T, 88]; an .npz has `packed` uint8 [steps, 11],
the 88 notes of each step of all songs as np.packbits makes them, and `lengths` and `split` (0
train, 1 validation, 2 test) of every song. A folder of MIDI files is read by `midi_files`.
"""

import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from afslvm.data import base, closed_pickle, sources
from afslvm.data.sources import one_line
from afslvm.errors import DataError

LOWEST, NUM_NOTES = 21, 88  # MIDI numbers of a piano: 21..108
MAX_STEPS = 100_000  # of one song
MAX_TOTAL_STEPS = 4_000_000  # of all; MuseData, the largest set, has 392,296
MAX_NOTES = 256  # listed for one step
MAX_FILE_BYTES = 2**28
FORMATS = '.pickle or .pkl, .json, .mat, .npz'

_SPLIT_KEYS = {'train': ('train',), 'validation': ('valid', 'validation'), 'test': ('test',)}

Rolls = dict[str, list[np.ndarray]]


def read(source: str, well_known: Sequence[str], steps_per_beat: int) -> tuple[Rolls, list[str]]:
  """Reads the songs of all splits.

  Args:
    source: a file, a directory with one of the `well_known` files, or one of MIDI files.
    well_known: file names looked for in a directory.
    steps_per_beat: of MIDI files.

  Returns:
    {split: piano rolls uint8 [T, 88]}, and remarks for whoever prepares them.

  Raises:
    DataError: nothing there, or something unreadable.
  """
  if os.path.isdir(source):
    there = [name for name in well_known if os.path.isfile(os.path.join(source, name))]
    if len(there) > 1:
      raise DataError(f'{source}: holds {" and ".join(there)}; give one of them as the source')
    if not there:
      from afslvm.data import midi_files

      return midi_files.read(source, steps_per_beat)
    source = os.path.join(source, there[0])
  suffix = os.path.splitext(source)[1].lower()
  if suffix not in _READERS:
    raise DataError(f'{source}: songs are read from {FORMATS}, or a folder of MIDI files')
  if (size := os.path.getsize(source)) > MAX_FILE_BYTES:
    raise DataError(f'{source}: has {size} bytes, more than any of the four sets; is it one?')
  try:
    songs = _READERS[suffix](source)
  except (OSError, ValueError, RecursionError, MemoryError) as error:
    raise DataError(f"{source}: can't be read as {suffix} of songs ({one_line(error)})") from error
  return songs, []


# ---- .npz ----------------------------------------------------------------------------------------


def _read_npz(path: str) -> Rolls:
  wanted = {'packed': 2, 'lengths': 1, 'split': 1}
  found = sources.npz_arrays(path, wanted, MAX_TOTAL_STEPS * 11)
  packed, lengths = found['packed'], found['lengths'].astype(np.int64)
  if packed.dtype != np.uint8 or packed.shape[1] != 11:
    raise DataError(f'{path}: packed is {packed.dtype} {packed.shape}, not uint8 (steps, 11)')
  if lengths.min(initial=1) < 1 or lengths.max(initial=1) > MAX_STEPS:
    raise DataError(f'{path}: lengths must be in 1..{MAX_STEPS}')
  if lengths.sum() != len(packed) or len(found['split']) != len(lengths):
    raise DataError(
      f'{path}: {len(packed)} steps and {len(found["split"])} splits do not fit lengths of '
      f'{lengths.sum()} steps and {len(lengths)} songs'
    )
  if not np.isin(found['split'], (0, 1, 2)).all():
    raise DataError(f'{path}: split must be 0 (train), 1 (validation) or 2 (test)')
  rolls = np.split(np.unpackbits(packed, axis=1), np.cumsum(lengths)[:-1]) if len(lengths) else []
  songs: Rolls = {split: [] for split in base.SPLITS}
  for roll, split in zip(rolls, found['split'], strict=True):
    songs[base.SPLITS[int(split)]].append(roll)
  return songs


# ---- lists of numbers: pickle and JSON -----------------------------------------------------------


def _read_pickle(path: str) -> Rolls:
  with open(path, 'rb') as file:
    return _from_lists(closed_pickle.loads(file.read(MAX_FILE_BYTES)), path)


def _read_json(path: str) -> Rolls:
  with open(path, 'rb') as file:
    return _from_lists(json.load(file), path)


def _from_lists(content: Any, path: str) -> Rolls:
  """{'train', 'valid', 'test'} -> songs -> steps -> numbers, all of it checked."""
  if type(content) is not dict:
    raise DataError(
      f'{path}: is a {type(content).__name__}, not a dictionary of train, valid and test'
    )
  songs: Rolls = {}
  left = MAX_TOTAL_STEPS
  for split, names in _SPLIT_KEYS.items():
    found = [name for name in names if name in content]
    if len(found) != 1:
      raise DataError(f'{path}: needs one of {"/".join(names)}, has {_keys(content)}')
    songs[split] = []
    for number, song in enumerate(_listed(content[found[0]], left, f'{path}: {found[0]}')):
      place = f'{path}: {found[0]}, song {number}'
      steps = _listed(song, min(left, MAX_STEPS), place)
      left -= len(steps)
      songs[split].append(_roll(steps, place))
  return songs


def _keys(content: dict) -> str:
  return ', '.join(f'{key!r:.20}' for key in list(content)[:5]) or 'nothing'


def _listed(value: Any, most: int, place: str) -> list | tuple:
  if type(value) not in (list, tuple):
    raise DataError(f'{place}: is a {type(value).__name__}, not a list')
  if len(value) > most:
    raise DataError(f'{place}: lists {len(value)} items, more than {most}; is it one of the sets?')
  return value


def _roll(steps: list | tuple, place: str) -> np.ndarray:
  if not steps:
    raise DataError(f'{place}: has no step')
  roll = np.zeros((len(steps), NUM_NOTES), np.uint8)
  for t, step in enumerate(steps):
    for note in _listed(step, MAX_NOTES, f'{place}, step {t}'):
      if type(note) not in (int, float) or note != note or note >= LOWEST + NUM_NOTES:
        raise _no_note(note, f'{place}, step {t}')
      if note < 0:
        continue  # padding
      if note < LOWEST or note != int(note):
        raise _no_note(note, f'{place}, step {t}')
      roll[t, int(note) - LOWEST] = 1
  return roll


def _no_note(note: Any, place: str) -> DataError:
  highest = LOWEST + NUM_NOTES - 1
  shown = repr(note)[:40] if type(note) in (int, float, str) else f'a {type(note).__name__}'
  return DataError(f'{place}: {shown} is no MIDI number of a piano ({LOWEST}..{highest})')


# ---- .mat ----------------------------------------------------------------------------------------


def _read_mat(path: str) -> Rolls:
  import scipy.io

  keys = {split: f'{names[0]}data' for split, names in _SPLIT_KEYS.items()}
  try:
    content = scipy.io.loadmat(path, variable_names=list(keys.values()))
  except Exception as error:  # scipy has many ways to say that a file is damaged
    raise DataError(f"{path}: can't be read as a .mat of songs ({one_line(error)})") from error
  songs: Rolls = {}
  left = MAX_TOTAL_STEPS
  for split, key in keys.items():
    cells = content.get(key)
    if not isinstance(cells, np.ndarray) or cells.dtype != object:
      raise DataError(f'{path}: has no cells {key}; it needs {", ".join(keys.values())}')
    songs[split] = []
    for number, cell in enumerate(cells.ravel()):
      roll = _checked(cell, f'{path}: {key}, song {number}', min(left, MAX_STEPS))
      left -= len(roll)
      songs[split].append(roll)
  return songs


def _checked(cell: Any, place: str, most: int) -> np.ndarray:
  """One song, numbers [T, 88] that are all 0 or 1."""
  is_roll = isinstance(cell, np.ndarray) and cell.ndim == 2 and cell.dtype.kind in 'biuf'
  if not is_roll or cell.shape[1] != NUM_NOTES or not 1 <= len(cell) <= most:
    found = f'{cell.dtype} {cell.shape}' if isinstance(cell, np.ndarray) else type(cell).__name__
    raise DataError(f'{place}: is {found}, not numbers (steps, {NUM_NOTES})')
  if not np.isin(cell, (0, 1)).all():
    raise DataError(f'{place}: has values other than 0 and 1')
  return cell.astype(np.uint8)


_READERS = {
  '.npz': _read_npz,
  '.pickle': _read_pickle,
  '.pkl': _read_pickle,
  '.json': _read_json,
  '.mat': _read_mat,
}
