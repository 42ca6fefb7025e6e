"""Any folder of sound files as a data set."""

import os
from collections.abc import Mapping, Sequence

from afslvm.data import audio, folders
from afslvm.data.options import Integer, Word
from afslvm.errors import DataError

SUFFIXES = ('.wav', '.flac')


class AudioFolder(audio.AudioBuilder):
  """Sound files of a folder, 16 bit, standardised, ragged [T, frame_size].

  Files are .wav (RIFF or SPHERE) and .flac, all of one sample rate. Channels are averaged, other
  depths rounded to 16 bits. `label` tells the data of one folder from those of another; of two
  folders with the same label and options, the second replaces the first. Other options:
  `frame_size` in samples, `percent_validation` and `percent_test` where the folder has no
  subfolders for splits (`folders.split`).
  """

  OPTIONS = {
    'label': Word('sounds'),
    'frame_size': audio.FRAME_SIZE,
    'percent_validation': Integer(10, 'val', low=1, high=49),
    'percent_test': Integer(10, 'test', low=1, high=49),
  }
  source_hint = f'a folder of sound files ({", ".join(SUFFIXES)})'

  def scan(self, source: str) -> Mapping[str, Sequence[folders.File]]:
    """See base class."""
    if not os.path.isdir(source):
      raise DataError(f'{source}: give {self.source_hint}')
    percent = {'test': self.options.percent_test, 'validation': self.options.percent_validation}
    return folders.split(source, SUFFIXES, percent)

  def why_empty(self, split: str) -> str:
    """See base class."""
    return f'give {self.source_hint} with three files or more, or with files in train/ and test/'
