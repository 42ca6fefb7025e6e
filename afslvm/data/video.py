"""Videos as arrays: decoded with PyAV frame by frame, brought to one size with Pillow."""

import contextlib
import itertools
import math
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from afslvm.data import sources
from afslvm.data.sources import one_line
from afslvm.errors import DataError, PlatformError

MAX_PIXELS = 2**25  # of one frame: 8K video
MAX_ARRAY_BYTES = 2**32  # of one array in an .npz
ARRAY_LAYOUT = 'uint8 [T, H, W] or [T, H, W, 1 or 3]'


def require_av() -> Any:
  """Imports PyAV, an optional package.

  Raises:
    PlatformError: it is not installed.
  """
  try:
    import av
  except ImportError as error:
    raise PlatformError(
      f'reading videos needs PyAV, which is not installed ({one_line(error)}); '
      "run: pip install 'av>=14'"
    ) from error
  return av


def frames(file, name: str, channels: int, limit: int | None = None) -> Iterator[np.ndarray]:
  """Decodes a video's first `limit` frames one by one.

  Args:
    file: a path, or a seekable binary file.
    name: what messages call it.
    channels: 1 for grey (luma, full range), 3 for RGB.
    limit: frames wanted; None for all.

  Yields:
    uint8 [H, W, channels].

  Raises:
    DataError: not a video, or a damaged one.
    PlatformError: PyAV is missing.
  """
  av = require_av()
  pixels = {1: 'gray', 3: 'rgb24'}[channels]
  with unreadable(name, av.error.FFmpegError), contextlib.closing(av.open(file)) as container:
    if not container.streams.video:
      raise ValueError('it has no picture')
    stream = container.streams.video[0]
    stream.thread_type = 'AUTO'
    for frame in itertools.islice(container.decode(stream), limit):
      if frame.width * frame.height > MAX_PIXELS:
        raise ValueError(f'frames of {frame.width}x{frame.height} pixels')
      picture = frame.to_ndarray(format=pixels)
      yield picture.reshape(*picture.shape[:2], channels)


def npz_videos(path: str, channels: int) -> Iterator[Iterator[np.ndarray]]:
  """Reads the videos of an .npz, one array each, without trusting it.

  Args:
    path: of an archive of arrays, uint8 [T, H, W] or [T, H, W, 1 or 3].
    channels: 1 for grey (luma of RGB), 3 for RGB.

  Yields:
    The frames of one video, uint8 [H, W, channels] each.

  Raises:
    DataError: no .npz, damaged, or of another shape or type.
  """
  with unreadable(path, zipfile.BadZipFile, zlib.error), zipfile.ZipFile(path) as archive:
    if not archive.infolist():
      raise ValueError('it holds no array')
    for entry in archive.infolist():
      with archive.open(entry) as file:
        shape, fortran, dtype = sources.array_header(file)
        frame_dims = len(shape) == 3 or (len(shape) == 4 and shape[3] in (1, 3))
        if dtype != np.uint8 or fortran or not frame_dims:
          raise ValueError(f'{entry.filename} is {dtype} {shape}, not {ARRAY_LAYOUT}')
        size = math.prod(shape)
        if size > MAX_ARRAY_BYTES or entry.file_size != file.tell() + size:
          raise ValueError(f'{entry.filename} has {entry.file_size} bytes for {shape}')
        x = np.frombuffer(file.read(size + 1), np.uint8).reshape(*shape[:3], *(shape[3:] or (1,)))
      yield (_in_color(picture, channels) for picture in x)


def _in_color(picture: np.ndarray, channels: int) -> np.ndarray:
  from PIL import Image

  if picture.shape[2] == channels:
    return picture
  if channels == 3:
    return np.repeat(picture, 3, axis=2)
  return np.asarray(Image.fromarray(picture).convert('L'))[..., None]


def center_square(picture: np.ndarray) -> np.ndarray:
  """Cuts the largest square out of the middle of [H, W, C]."""
  height, width = picture.shape[:2]
  size = min(height, width)
  top, left = (height - size) // 2, (width - size) // 2
  return picture[top : top + size, left : left + size]


def squeeze(picture: np.ndarray, size: int) -> np.ndarray:
  """Resizes uint8 [H, W, C] to [size, size, C], bilinearly and without regard to its shape.

  Pillow's bilinear filter averages over all pixels that a smaller one covers.
  """
  from PIL import Image

  grey = picture.shape[2] == 1
  image = Image.fromarray(picture[..., 0] if grey else picture)
  resized = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))
  return resized[..., None] if grey else resized


@contextlib.contextmanager
def unreadable(name: str, *more: type[Exception]) -> Iterator[None]:
  """Turns what a damaged file causes, and `more`, into a DataError that names it."""
  try:
    yield
  except (OSError, ValueError, EOFError, MemoryError, RuntimeError, *more) as error:
    raise DataError(f"{name}: can't be read as a video ({one_line(error)})") from error
