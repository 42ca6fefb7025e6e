"""TFRecord files and the tf.train.Examples in them, without TensorFlow.

A record is the length of its content (uint64), the masked CRC-32C of those 8 bytes, the content,
and the content's masked CRC-32C; all little-endian.
"""

import struct
from typing import IO, Any

from afslvm.data.sources import one_line
from afslvm.errors import DataError, PlatformError

MAX_RECORD_BYTES = 2**28

_HEADER = struct.Struct('<QI')
_FOOTER = struct.Struct('<I')


def require_crc32c() -> Any:
  """Imports google_crc32c, an optional package: in Python the checksums of BAIR would take days.

  Raises:
    PlatformError: it is not installed.
  """
  try:
    import google_crc32c
  except ImportError as error:
    raise PlatformError(
      f'reading TFRecords needs google-crc32c, which is not installed ({one_line(error)}); '
      "run: pip install 'google-crc32c>=1.6'"
    ) from error
  return google_crc32c


def masked_crc(content: bytes) -> int:
  """The CRC-32C of `content`, rotated right by 15 bits, plus a constant (TFRecord's definition)."""
  crc = require_crc32c().value(content)
  return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def index(file: IO[bytes], begin: int, size: int, name: str) -> list[tuple[int, int]]:
  """Finds the records of a TFRecord file without reading their contents.

  Args:
    file: seekable; the TFRecord file is bytes begin..begin+size-1 of it.
    begin: its first byte.
    size: its bytes.
    name: what messages call it.

  Returns:
    (position in `file`, length) of the content of every record.

  Raises:
    DataError: a damaged header, or a file that ends inside a record.
  """
  found, position, end = [], begin, begin + size
  while position < end:
    place = f'{name}: record {len(found)} at byte {position - begin}'
    file.seek(position)
    header = file.read(min(_HEADER.size, end - position))
    if len(header) != _HEADER.size:
      raise DataError(f'{place} is cut off; the file is incomplete, get it again')
    length, crc = _HEADER.unpack(header)
    if masked_crc(header[:8]) != crc or length > MAX_RECORD_BYTES:
      raise DataError(f'{place} has a damaged header, or this is no TFRecord file; get it again')
    found.append((position + _HEADER.size, length))
    position += _HEADER.size + length + _FOOTER.size
    if position > end:
      raise DataError(f'{place} is cut off; the file is incomplete, get it again')
  return found


def read(file: IO[bytes], position: int, length: int, name: str) -> Any:
  """Reads one record as `index` found it, a tf.train.Example.

  The context of a tf.train.SequenceExample has the same encoding, and is read as well.

  Returns:
    A mapping from names to tf.train.Feature.

  Raises:
    DataError: another checksum, or content that isn't an Example.
  """
  from tensorflow_datasets.proto import tf_example_pb2

  file.seek(position)
  content = file.read(length + _FOOTER.size)
  if len(content) != length + _FOOTER.size:
    raise DataError(f'{name} is cut off; the file is incomplete, get it again')
  if masked_crc(content[:length]) != _FOOTER.unpack(content[length:])[0]:
    raise DataError(f'{name} is damaged, its checksum differs; get the file again')
  try:
    return tf_example_pb2.Example.FromString(content[:length]).features.feature
  except Exception as error:  # the protobuf package has several implementations
    raise DataError(f'{name} is no tf.train.Example ({one_line(error)})') from error
