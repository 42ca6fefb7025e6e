"""Files of polyphonic music, none of which is trusted: pickle, JSON, .mat, .npz and MIDI.

The pickle of 2012 is {'train', 'valid', 'test'} -> songs -> steps -> MIDI numbers, and JSON is the
same; there a number below zero is padding, and one that no piano has is refused. A .mat has
`traindata`, `validdata` and `testdata`, cells of [T, 88]; an .npz has `packed` uint8 [steps, 11],
the 88 notes of each step of all songs as np.packbits makes them, and `lengths` and `split` (0
train, 1 validation, 2 test) of every song. A folder of MIDI files is read by `midi_files`.
"""

import os
from collections.abc import Sequence

import numpy as np

from afslvm.data import base, sources
from afslvm.data.sources import one_line
from afslvm.errors import DataError

LOWEST, NUM_NOTES = 21, 88  # MIDI numbers of a piano: 21..108
MAX_STEPS = 100_000  # of one song
MAX_TOTAL_STEPS = 4_000_000  # of all; MuseData, the largest set, has 392,296
MAX_NOTES = 256  # listed for one step
MAX_FILE_BYTES = 2**28
FORMATS = '.pickle or .pkl, .json, .mat, .npz'

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


_READERS = {'.npz': _read_npz}
