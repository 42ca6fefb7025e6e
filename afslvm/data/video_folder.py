"""Any folder of videos as a data set: cut into clips, resized, divided by file."""

import os
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from afslvm.data import base, folders, recorded, video
from afslvm.data.options import Choice, Integer, Word
from afslvm.errors import ConfigError, DataError

SUFFIXES = ('.avi', '.gif', '.m4v', '.mkv', '.mov', '.mp4', '.npz', '.webm')


class VideoFile(folders.File):
  """A file of the folder."""


class VideoFolder(recorded.RecordedBuilder):
  """Videos of a folder, 8 bit, [T, H, W, C]: .mp4, .avi, .mov, .mkv, .webm, .gif, or .npz.

  An .npz holds one or more videos, uint8 [T, H, W] or [T, H, W, 1 or 3] each. Every video is cut
  into clips of `num_frames`, of which one begins every `stride` frames (0: one ends where the next
  begins). What remains at the end becomes a shorter clip if it has `min_frames` or more (0: as many
  as num_frames, so all clips are equally long); whole videos are clips with num_frames at least as
  long as any of them and min_frames=2. Frames are resized to `frame_size` squared with Pillow's
  bilinear filter, in whole (`fit='squeeze'`) or the middle square of them ('crop'); `color` is
  'grey' (luma) or 'rgb'. There is no resampling in time. `label` tells the data of one folder from
  those of another; of two folders with the same label and options, the second replaces the first.

  Splits are the subfolders train, validation (or valid, val) and test where train and test exist.
  Otherwise files are put in the order of the SHA-256 of their relative names; the first
  `percent_test` of them, at least one, are the test set, the next `percent_validation` validation.
  Without a folder for validation its files are taken from train in the same way. So clips of one
  file are always in one split.
  """

  OPTIONS = {
    'label': Word('videos'),
    'frame_size': Integer(64, 'px', low=8, high=256),
    'color': Choice('rgb', choices=('rgb', 'grey')),
    'num_frames': Integer(20, 'frames', low=2, high=10_000),
    'stride': Integer(0, 'stride', high=10_000),
    'min_frames': Integer(0, 'min', high=10_000),
    'fit': Choice('squeeze', choices=('squeeze', 'crop')),
    'percent_validation': Integer(10, 'val', low=1, high=49),
    'percent_test': Integer(10, 'test', low=1, high=49),
  }
  data_space = '8bit'
  source_hint = f'a folder of videos ({", ".join(SUFFIXES)})'

  def check_options(self):
    """See base class."""
    options = self.options
    options.stride = options.stride or options.num_frames
    options.min_frames = options.min_frames or options.num_frames
    if not 2 <= options.min_frames <= options.num_frames:
      raise ConfigError(
        f'data.min_frames={options.min_frames}: needs 2..{options.num_frames} (num_frames), or 0'
      )
    self._too_short = 0

  @property
  def ragged(self) -> bool:
    """Whether clips may be shorter than num_frames."""
    return self.options.min_frames < self.options.num_frames

  @property
  def event_shape(self) -> tuple[int, ...]:
    """See base class."""
    return (self.options.frame_size, self.options.frame_size, self._channels)

  @property
  def _channels(self) -> int:
    return {'grey': 1, 'rgb': 3}[self.options.color]

  # ---- which files ------------------------------------------------------------------------------

  def scan(self, source: str) -> Mapping[str, Sequence[VideoFile]]:
    """See base class."""
    if not os.path.isdir(source):
      raise DataError(f'{source}: give {self.source_hint}')
    percent = {'test': self.options.percent_test, 'validation': self.options.percent_validation}
    return folders.split(source, SUFFIXES, percent, VideoFile)

  def why_empty(self, split: str) -> str:
    """See base class."""
    return f'give {self.source_hint} with three files or more, or with files in train/ and test/'

  def expected_size(self, split: str) -> None:
    """How many clips there are shows only when all videos are decoded."""

  # ---- clips ------------------------------------------------------------------------------------

  def sequences(self, split: str) -> Iterator[np.ndarray]:
    """See base class; a clip is in memory at a time, of an .npz the whole array."""
    files, before = self.recordings[split], self._too_short
    progress, clips = base.Progress(self.report, f'{self.name}: {split}'), 0
    for index, file in enumerate(files):
      progress(index, len(files), 'videos')
      for pictures in self._videos(file):
        found = 0
        for clip in self._clips(pictures):
          found += 1
          yield clip
        self._too_short += not found
        clips += found
    if not clips:
      raise DataError(
        f'{self.source}: all {self._too_short - before} videos for {split} have fewer frames than '
        f'{self.options.min_frames}; lower data.num_frames, or data.min_frames'
      )

  def _videos(self, file: VideoFile) -> Iterator[Iterator[np.ndarray]]:
    if file.name.lower().endswith('.npz'):
      yield from video.npz_videos(file.path, self._channels)
    else:
      yield video.frames(file.path, file.path, self._channels)

  def _clips(self, pictures: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Cuts the frames [H, W, C] of one video into clips [T, size, size, C]."""
    options = self.options
    buffer: list[np.ndarray] = []
    begin = shown = end = 0  # of the buffer; frames that some clip has; frames read
    for end, picture in enumerate(pictures, 1):
      if end <= begin:
        continue
      buffer.append(self._resize(picture))
      if len(buffer) == options.num_frames:
        yield np.stack(buffer)
        shown, begin = end, begin + options.stride
        buffer = buffer[options.stride :]
    if len(buffer) >= options.min_frames and end > shown:
      yield np.stack(buffer)

  def _resize(self, picture: np.ndarray) -> np.ndarray:
    if self.options.fit == 'crop':
      picture = video.center_square(picture)
    return video.squeeze(np.ascontiguousarray(picture), self.options.frame_size)

  # ---- what is wrong with them ------------------------------------------------------------------

  def _split_generators(self, dl_manager):
    folders.check_all(self, self._check_readable, 'files', 'videos')
    return super()._split_generators(dl_manager)

  def _check_readable(self, file: VideoFile):
    """Decodes the first frame."""
    if not any(True for pictures in self._videos(file) for _ in _first(pictures)):
      raise DataError(f"{file.path}: can't be read as a video (it has no frame)")

  def notes(self) -> list[str]:
    """Says how many files each split has, and how many videos were too short."""
    counts = [f'{split} {len(self.recordings[split]):,}' for split in base.SPLITS]
    lines = [f'files: {", ".join(counts)}']
    if self._too_short:
      lines.append(f'{self._too_short} videos have fewer than {self.options.min_frames} frames')
    return lines


def _first(pictures: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
  for picture in pictures:
    yield picture
    return
