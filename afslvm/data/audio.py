"""Sound as a sequence of frames: files to mono 16-bit samples to standardised values.

One way for all data sets: samples are cut into frames, what remains at the end is dropped, and all
values are (sample - mean) / std with the mean and the standard deviation of the training split. So
neighbouring values are `resolution` = 1 / std apart. libsndfile reads the files (RIFF and SPHERE
.wav, FLAC), through the optional package soundfile.
"""

import functools
import math
import os
import re
import struct
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from afslvm.data import base, folders, prepare, recorded
from afslvm.data.options import Integer
from afslvm.data.sources import one_line
from afslvm.errors import DataError, PlatformError

MAX_FRAMES = 1_000_000  # of one recording
FRAME_SIZE = Integer(200, 'samples', low=1, high=100_000)


class AudioBuilder(recorded.RecordedBuilder):
  """Base of sound: 16-bit mono, standardised, ragged [T, frame_size].

  A subclass tells its recordings in `scan`, and gives the samples of one in `samples`. Recordings
  shorter than one frame are left out. The manifest's constants are `mean` and `std` of the training
  split's samples, on the scale of 16-bit numbers, and `sample_rate`.

  Attributes of the class:
    rate: the only sample rate that the data set has (Hz); None where the files decide.
  Attributes of an instance, known once the data are prepared:
    mean, std, resolution (1 / std), sample_rate.
  """

  data_space = 'pcm16'
  ragged = True
  num_frames = MAX_FRAMES
  rate: ClassVar[int | None] = None

  @property
  def event_shape(self) -> tuple[int, ...]:
    """See base class."""
    return (self.options.frame_size,)

  def samples(self, recording) -> np.ndarray:
    """Returns the samples int16 [N] of one of the `recordings`."""
    return read(recording.path)

  def sample_rate_of(self, recording) -> int:
    """Returns the sample rate of one of the `recordings`, without reading its samples."""
    return rate_of(recording.path)

  # ---- constants --------------------------------------------------------------------------------

  @property
  def mean(self) -> float:
    """Of the training split's samples, on the scale of 16-bit numbers."""
    return self._constant('mean')

  @property
  def std(self) -> float:
    """Of the training split's samples, on the scale of 16-bit numbers."""
    return self._constant('std')

  @property
  def resolution(self) -> float:
    """See base class."""
    return 1.0 / self.std

  @property
  def sample_rate(self) -> int:
    """Samples per second."""
    return int(self._constant('sample_rate'))

  def _constant(self, name: str) -> float:
    constants = prepare.read_manifest(self).get('constants', {})
    value = constants.get(name) if isinstance(constants, dict) else None
    is_number = type(value) in (int, float) and math.isfinite(value)
    if not is_number or (name != 'mean' and value <= 0):
      raise DataError(
        f'{self.data_dir}: its manifest has {name} {value!r}; delete the directory, '
        f'then {prepare.remedy(self)}'
      )
    return value

  def constants(self) -> dict[str, Any]:
    """See base class."""
    mean, std = self._moments
    return {'mean': mean, 'std': std, 'sample_rate': self._common_rate}

  @functools.cached_property
  def _moments(self) -> tuple[float, float]:
    """Mean and standard deviation of the training split, by two passes in float64."""
    count, total, squares = 0, 0.0, 0.0
    for frames in self._frames('train', 'measuring the mean'):
      count, total = count + frames.size, total + float(frames.sum(dtype=np.float64))
    mean = total / max(count, 1)
    for frames in self._frames('train', 'measuring the deviation'):
      squares += float(np.square(frames - mean).sum())
    if not squares:
      found = 'digital silence' if count else f'shorter than {self.options.frame_size} samples'
      raise DataError(f'{self.source}: all recordings for training are {found}; is it complete?')
    return mean, math.sqrt(squares / count)

  # ---- frames -----------------------------------------------------------------------------------

  def _frames(self, split: str, what: str) -> Iterator[np.ndarray]:
    """Yields the samples int16 [T, frame_size] of all recordings that have a frame."""
    recordings, size = self.recordings[split], self.options.frame_size
    progress = base.Progress(self.report, f'{self.name}: {split}, {what}')
    for index, recording in enumerate(recordings):
      progress(index, len(recordings), 'recordings')
      samples = self.samples(recording)
      if (steps := len(samples) // size) > MAX_FRAMES:
        raise DataError(f'{self.source}: {recording} has more than {MAX_FRAMES} frames; cut it')
      if steps:
        yield samples[: steps * size].reshape(steps, size)

  def sequences(self, split: str) -> Iterator[np.ndarray]:
    """See base class."""
    mean, std = self._moments
    found = 0
    for frames in self._frames(split, 'writing'):
      found += 1
      yield ((frames - mean) / std).astype(np.float32)
    self._short = getattr(self, '_short', 0) + len(self.recordings[split]) - found
    if not found:
      raise DataError(
        f'{self.source}: all recordings for {split} are shorter than {self.options.frame_size} '
        'samples; lower data.frame_size'
      )

  def expected_size(self, split: str) -> None:
    """Which recordings are too short shows only when all are read."""

  def _split_generators(self, dl_manager):
    self._check_files()
    return super()._split_generators(dl_manager)

  def _check_files(self):
    folders.check_all(self, self.sample_rate_of, 'files', 'sound')
    _ = self._common_rate

  @functools.cached_property
  def _common_rate(self) -> int:
    """The sample rate of all recordings; that of the first training one unless `rate` is set."""
    wanted = self.rate
    for split in base.SPLITS:
      for recording in self.recordings[split]:
        found = self.sample_rate_of(recording)
        wanted = wanted or found
        if found != wanted:
          expected = f'{self.name} has' if self.rate else 'the others have'
          raise DataError(
            f'{recording.path}: has {found} samples per second, {expected} {wanted}; resample it, '
            f'for instance with: sox IN.wav -r {wanted} OUT.wav'
          )
    return wanted

  def notes(self) -> list[str]:
    """Says how many recordings there are, and what standardises them."""
    counts = '/'.join(f'{len(self.recordings[split]):,}' for split in base.SPLITS)
    mean, std = self._moments
    lines = [
      f'recordings: {counts} (train/validation/test)',
      f'mean {mean:.6g}, std {std:.6g} of 16-bit samples, {self._common_rate} per second',
    ]
    if short := getattr(self, '_short', 0):
      lines.append(f'{short} recordings are shorter than a frame and left out')
    return lines


# ---- files ---------------------------------------------------------------------------------------


def require_soundfile() -> Any:
  """Imports soundfile, an optional package.

  Raises:
    PlatformError: it is not installed.
  """
  try:
    import soundfile
  except (ImportError, OSError) as error:  # OSError: libsndfile is missing
    raise PlatformError(
      f'reading sound needs soundfile, which is not installed ({one_line(error)}); '
      "run: pip install 'soundfile>=0.13'"
    ) from error
  return soundfile


def rate_of(path: str) -> int:
  """Returns the sample rate of a file, having checked that it is whole.

  Raises:
    DataError: no sound, or cut off.
    PlatformError: soundfile is missing.
  """
  soundfile = require_soundfile()
  _check_header(path)
  try:
    return int(soundfile.info(path).samplerate)
  except (soundfile.SoundFileError, OSError, ValueError) as error:
    raise DataError(f"{path}: can't be read as sound ({one_line(error)})") from error


def read(path: str) -> np.ndarray:
  """Returns the samples of a file, int16 [N], channels averaged.

  What isn't of 16 bits is rounded to them.

  Raises:
    DataError: no sound, or a damaged file.
    PlatformError: soundfile is missing.
  """
  soundfile = require_soundfile()
  try:
    with soundfile.SoundFile(path) as file:
      if file.subtype == 'PCM_16' and file.channels == 1:
        return file.read(dtype='int16')
      samples = file.read(dtype='float64', always_2d=True).mean(axis=1)
  except (soundfile.SoundFileError, OSError, ValueError, MemoryError) as error:
    raise DataError(f"{path}: can't be read as sound ({one_line(error)})") from error
  if not np.isfinite(samples).all():
    raise DataError(f"{path}: can't be read as sound (it has samples that are no numbers)")
  return np.clip(np.rint(samples * 2**15), -(2**15), 2**15 - 1).astype(np.int16)


def _check_header(path: str):
  """Raises DataError where libsndfile would read less than there should be, or say little."""
  try:
    size = os.path.getsize(path)
    with open(path, 'rb') as file:
      head = file.read(1024)
  except OSError as error:
    raise DataError(f"{path}: can't be read as sound ({one_line(error)})") from error
  wanted = 0
  if head.startswith(b'NIST_1A'):
    if b'shorten' in head:
      raise DataError(
        f'{path}: is SPHERE compressed with shorten, which is not read; convert it with: '
        'sph2pipe -f rif IN.wav OUT.wav'
      )
    fields = dict(re.findall(rb'^(\w+) -i (\d{1,12})$', head, re.MULTILINE))
    names = (b'sample_count', b'sample_n_bytes', b'channel_count')
    wanted = 1024 + math.prod(int(fields.get(name, 1)) for name in names)
  elif head.startswith(b'RIFF') and len(head) >= 8:
    (length,) = struct.unpack('<I', head[4:8])
    wanted = 0 if length == 2**32 - 1 else length + 8  # that is what streams say
  if size < wanted:
    raise DataError(f'{path}: is cut off, {size} of {wanted} bytes; get it again')
