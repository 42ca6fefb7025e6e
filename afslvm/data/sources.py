"""Files that data sets are made from: MNIST as idx or npz, the published Moving MNIST as npy.

Nothing here is trusted: no pickles, shapes and sizes are checked before memory is taken, and every
defect ends in a `DataError` that names the file and what was expected of it.
"""

import contextlib
import gzip
import hashlib
import math
import os
import tokenize
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from afslvm.errors import DataError

MNIST_COUNTS = (60_000, 10_000)  # training and test images
PUBLISHED_SHAPE = (20, 10_000, 64, 64)  # mnist_test_seq.npy: T, N, H, W
MNIST_LAYOUT = (
  'a directory with train-images-idx3-ubyte[.gz] and t10k-images-idx3-ubyte[.gz], '
  'or an .npz with x_train and x_test'
)

MNIST_FILES = ('train-images-idx3-ubyte.gz', 't10k-images-idx3-ubyte.gz')

_MNIST_URL = 'https://storage.googleapis.com/cvdf-datasets/mnist/'
_PUBLISHED_URL = 'https://www.cs.toronto.edu/~nitish/unsupervised_video/'
DOWNLOADS = {  # name: (address of its directory, SHA-256)
  'train-images-idx3-ubyte.gz': (
    _MNIST_URL,
    '440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609',
  ),
  't10k-images-idx3-ubyte.gz': (
    _MNIST_URL,
    '8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6',
  ),
  'mnist_test_seq.npy': (
    _PUBLISHED_URL,
    'c2a3e8d3939c001ab77bf543f130157424efa486bb4d0974d2cebb773b13f8b3',
  ),
}

# RuntimeError: what zipfile says of encryption and of methods that it lacks.
_READ_ERRORS = (
  *(OSError, ValueError, EOFError, RuntimeError, MemoryError, OverflowError),
  *(zlib.error, zipfile.BadZipFile, tokenize.TokenError),
)


def load_mnist(source: str, counts: tuple[int, int] = MNIST_COUNTS):
  """Reads MNIST images.

  Args:
    source: a directory of idx files (gzip or plain) or with an mnist.npz, or an .npz file.
    counts: numbers of training and test images that must be there.

  Returns:
    (train, test): uint8 [N, 28, 28].

  Raises:
    DataError: missing, damaged or unexpected content.
  """
  if os.path.isfile(source):
    if not source.endswith('.npz'):
      raise DataError(f'{source}: MNIST is read from {MNIST_LAYOUT}')
    return _read_npz(source, counts)
  if not os.path.isdir(source):
    raise DataError(f'{source}: no such file or directory; MNIST is read from {MNIST_LAYOUT}')
  if os.path.isfile(npz := os.path.join(source, 'mnist.npz')):
    return _read_npz(npz, counts)
  stems = ('train-images', 't10k-images')
  return tuple(_read_idx(_find_idx(source, s), n) for s, n in zip(stems, counts, strict=True))


def open_published(path: str, shape: tuple[int, ...] = PUBLISHED_SHAPE) -> np.ndarray:
  """Maps the published mnist_test_seq.npy into memory, read only.

  Returns:
    uint8 [T, N, H, W].

  Raises:
    DataError: missing, truncated, or of another shape or type.
  """
  expected = f'the published mnist_test_seq.npy, uint8 {shape}'
  with _one_line(path, expected):
    videos = np.load(path, mmap_mode='r', allow_pickle=False)
  if not isinstance(videos, np.ndarray) or videos.shape != shape or videos.dtype != np.uint8:
    raise DataError(f'{path}: expected {expected}, found {_describe(videos)}')
  return videos


def fetch(name: str, folder: str, report: Callable[[str], None]) -> str:
  """Downloads one of `DOWNLOADS` into `folder`, unless it is there already.

  Returns:
    The file's path.

  Raises:
    DataError: no network, or a checksum that differs.
  """
  (url, digest), path = DOWNLOADS[name], os.path.join(folder, name)
  if not os.path.isfile(path) or sha256(path) != digest:
    report(f'downloading {url + name}')
    download(url + name, path, digest)
  return path


def download(url: str, path: str, digest: str, max_bytes: int = 2**30):
  """Downloads `url` to `path`, which appears only when its SHA-256 is `digest`.

  Raises:
    DataError: a failed transfer, a file above `max_bytes`, or another checksum.
  """
  if not url.startswith('https://'):
    raise DataError(f'{url}: only https addresses are downloaded')
  partial = f'{path}.partial-{os.getpid()}'
  try:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with urllib.request.urlopen(url, timeout=30) as response, open(partial, 'wb') as file:
      size = 0
      while chunk := response.read(2**20):
        size += len(chunk)
        if size > max_bytes:
          raise DataError(f'{url}: longer than {max_bytes} bytes; download abandoned')
        file.write(chunk)
    if (found := sha256(partial)) != digest:
      raise DataError(f'{url}: SHA-256 is {found}, expected {digest}; nothing was kept')
    os.replace(partial, path)
  except (OSError, ValueError) as error:
    raise DataError(f'could not download {url} ({one_line(error)})') from error
  finally:
    with contextlib.suppress(OSError):
      os.remove(partial)


def sha256(path: str) -> str:
  """Returns the hexadecimal SHA-256 of a file."""
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def one_line(error: BaseException) -> str:
  """Returns type and message of an exception on one line of moderate length."""
  text = ' '.join(str(error).split())
  return f'{type(error).__name__}: {text[:200]}' if text else type(error).__name__


def _find_idx(folder: str, stem: str) -> str:
  for name in (f'{stem}-idx3-ubyte', f'{stem}.idx3-ubyte'):
    for suffix in ('', '.gz'):
      if os.path.isfile(path := os.path.join(folder, name + suffix)):
        return path
  raise DataError(f'{folder}: no {stem}-idx3-ubyte[.gz]; MNIST is read from {MNIST_LAYOUT}')


def _read_idx(path: str, count: int) -> np.ndarray:
  """Reads [count, 28, 28] images: big-endian magic 0x803, three sizes, then the pixels."""
  header = np.array([0x803, count, 28, 28], '>u4').tobytes()
  size = len(header) + count * 28 * 28
  expected = f'{count} images of 28x28 in idx format'
  opener = gzip.open if path.endswith('.gz') else open
  with _one_line(path, expected), opener(path, 'rb') as file:
    content = file.read(size + 1)
  if content[: len(header)] != header:
    raise DataError(f'{path}: expected {expected}, found another header')
  if len(content) != size:
    found = f'only {len(content)}' if len(content) < size else 'more'
    raise DataError(f'{path}: expected {size} bytes ({expected}), found {found}')
  return np.frombuffer(content, np.uint8, offset=len(header)).reshape(count, 28, 28)


def _read_npz(path: str, counts: tuple[int, int]):
  names = ('x_train', 'x_test')
  with _one_line(path, 'an .npz with x_train and x_test'), zipfile.ZipFile(path) as archive:
    for name in names:
      if f'{name}.npy' not in archive.namelist():
        raise DataError(f'{path}: has no array {name}, only {", ".join(archive.namelist())}')
    return tuple(
      _read_member(path, archive, n, (c, 28, 28)) for n, c in zip(names, counts, strict=True)
    )


def _read_member(path: str, archive: zipfile.ZipFile, name: str, shape) -> np.ndarray:
  """Reads one array, looking at its header before taking any memory for its content."""
  with archive.open(f'{name}.npy') as file:
    found, fortran, dtype = array_header(file)
    if found != shape or dtype != np.uint8 or fortran:
      raise DataError(f'{path}: {name} should be uint8 {shape}, found {dtype} {found}')
    return np.frombuffer(_read_exactly(file, int(np.prod(shape))), np.uint8).reshape(shape)


def npz_arrays(path: str, wanted: Mapping[str, int], max_bytes: int) -> dict[str, np.ndarray]:
  """Reads arrays of numbers out of an .npz, looking at headers before taking any memory.

  Args:
    path: of the archive.
    wanted: {name: number of axes}; all must be there, and what else is there is not read.
    max_bytes: the most that one array may have.

  Raises:
    DataError: no archive, a missing array, or one of another form.
  """
  found = {}
  with _one_line(path, f'an .npz with {", ".join(wanted)}'), zipfile.ZipFile(path) as archive:
    for name, axes in wanted.items():
      if f'{name}.npy' not in archive.namelist():
        raise DataError(f'{path}: has no array {name}; it needs {", ".join(wanted)}')
      with archive.open(f'{name}.npy') as file:
        shape, fortran, dtype = array_header(file)
        size = math.prod(shape) * dtype.itemsize
        if len(shape) != axes or dtype.kind not in 'biu' or size > max_bytes:
          raise DataError(f'{path}: {name} is {dtype} {shape}, not integers with {axes} axes')
        values = np.frombuffer(_read_exactly(file, size), dtype)
        found[name] = values.reshape(shape, order='F' if fortran else 'C')
  return found


def npz_words(path: str, name: str) -> list[str]:
  """Reads a short array of words [N] out of an .npz.

  Raises:
    DataError: no archive, no such array, or one of another form.
  """
  with _one_line(path, f'an .npz with {name}'), zipfile.ZipFile(path) as archive:
    if f'{name}.npy' not in archive.namelist():
      raise DataError(f'{path}: has no array {name}')
    with archive.open(f'{name}.npy') as file:
      shape, _, dtype = array_header(file)
      size = math.prod(shape) * dtype.itemsize
      if len(shape) != 1 or dtype.kind != 'U' or size > 2**20:
        raise DataError(f'{path}: {name} is {dtype} {shape}, not words')
      return np.frombuffer(_read_exactly(file, size), dtype).tolist()


def array_header(file) -> tuple[tuple[int, ...], bool, np.dtype]:
  """Reads the header of an .npy file: shape, whether the order is Fortran's, type.

  Raises:
    ValueError: it is damaged.
  """
  version = np.lib.format.read_magic(file)
  read_header = {(1, 0): np.lib.format.read_array_header_1_0}.get(
    version, np.lib.format.read_array_header_2_0
  )
  try:
    return read_header(file)
  except tokenize.TokenError as error:  # numpy looks for numbers as Python 2 wrote them
    raise ValueError(f'a damaged header ({one_line(error)})') from error


def _read_exactly(file, size: int) -> bytes:
  content = file.read(size + 1)  # reading past the end makes zipfile check its CRC
  if len(content) != size:
    raise ValueError(f'{size} bytes of values expected, {len(content)} found')
  return content


def _describe(array) -> str:
  return f'{array.dtype} {array.shape}' if isinstance(array, np.ndarray) else 'an archive'


@contextlib.contextmanager
def _one_line(path: str, expected: str) -> Iterator[None]:
  try:
    yield
  except _READ_ERRORS as error:
    raise DataError(
      f'{path}: expected {expected}, but reading failed ({one_line(error)})'
    ) from error
