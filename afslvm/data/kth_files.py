"""The files of KTH Actions as they are published: 00sequences.txt, .avi videos, six zips.

Nothing is unpacked to disk; names, sizes and every line are checked before they are used.
"""

import contextlib
import dataclasses
import io
import os
import re
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO

from afslvm.data import video
from afslvm.data.sources import one_line
from afslvm.errors import DataError

RANGES = '00sequences.txt'
MAX_VIDEO_BYTES = 64 * 2**20  # the largest official one has 6 MB
MAX_FRAMES = 100_000

# Ranges of the official file that touch or overlap the one before, by a shared frame or a wrong
# digit, and what the AF paper's code has in their place.
CORRECTIONS = {
  ('person03_walking_d4', 338, 432): (339, 432),
  ('person12_handclapping_d4', 134, 238): (134, 237),
  ('person12_handclapping_d4', 237, 344): (238, 344),
  ('person15_handclapping_d2', 228, 285): (229, 285),
  ('person16_handwaving_d4', 212, 456): (312, 456),
  ('person17_boxing_d1', 110, 192): (111, 192),
  ('person21_boxing_d2', 153, 254): (163, 254),
  ('person21_handclapping_d1', 266, 500): (366, 500),
}

_VIDEO = re.compile(r'(person\d\d_[a-z]+_d\d)(?:_uncomp)?\.avi', re.IGNORECASE)
_LINE = re.compile(r'(person\d\d_[a-z]+_d\d)\s+(?:frames\s+([\d\s,-]+)|\*missing\*)')


@dataclasses.dataclass(frozen=True)
class Clip:
  """One subsequence: frames begin..end-1 of a video, counted from 0.

  `path` is the video, or the zip that has it as `member`.
  """

  name: str
  begin: int
  end: int
  size: int
  path: str = dataclasses.field(repr=False)
  member: str = dataclasses.field(default='', repr=False)

  @property
  def person(self) -> int:
    """Number of the person in it."""
    return person(self.name)

  @property
  def place(self) -> str:
    """What messages call the file."""
    return f'{self.path}, {self.member}' if self.member else self.path


def person(name: str) -> int:
  """The person's number in 'person01_boxing_d1'."""
  return int(name[6:8])


def clips(source: str) -> list[Clip]:
  """Lists the subsequences of all videos below `source`, by name and time.

  Raises:
    DataError: no directory, no or unreadable 00sequences.txt, a damaged zip, an oversized video.
  """
  listed, _ = ranges(source)
  found = videos(source)
  return [
    Clip(name, begin, end, *found[name])
    for name in sorted(listed)
    if name in found
    for begin, end in listed[name]
  ]


def cut_ranges(source: str) -> list[str]:
  """Says which ranges overlap the one before, and how they are cut."""
  return ranges(source)[1]


def ranges(source: str) -> tuple[dict[str, list[tuple[int, int]]], list[str]]:
  """Reads 00sequences.txt.

  Returns:
    {video: its ranges (begin, end) from 0, end exclusive and the last frame left out, in order of
    time}, and a line per range that had to be cut because it began before the one before ended.

  Raises:
    DataError: no such file below `source`, or a line that isn't understood.
  """
  path = _find_ranges(source)
  try:
    with open(path, encoding='ascii') as file:
      lines = file.read(2**20).splitlines()
  except (OSError, UnicodeDecodeError) as error:
    raise DataError(f"{path}: can't be read ({one_line(error)})") from error
  listed: dict[str, list[tuple[int, int]]] = {}
  cut: list[str] = []
  for number, line in enumerate(lines, 1):
    if not line.strip().startswith('person'):
      continue  # blank lines, and a heading in some copies
    match = _LINE.fullmatch(line.strip())
    if not match or match[1] in listed:
      raise DataError(f'{path}: line {number} is not understood: {line.strip()[:80]!r}')
    if match[2]:
      listed[match[1]] = _parse(match[1], match[2], f'{path}: line {number}', cut)
  return listed, cut


def _parse(name: str, text: str, place: str, cut: list[str]) -> list[tuple[int, int]]:
  pairs = []
  for part in filter(None, (part.strip() for part in text.split(','))):
    first, dash, last = part.partition('-')
    if not dash or not first.strip().isdigit() or not last.strip().isdigit():
      raise DataError(f'{place} has {part!r} where it should have FIRST-LAST')
    pairs.append(CORRECTIONS.get((name, int(first), int(last)), (int(first), int(last))))
  result: list[tuple[int, int]] = []
  for first, last in sorted(pairs):
    begin, end = first - 1, last - 1
    if result and begin < result[-1][1]:
      cut.append(f'{name}: {first}-{last} overlaps the range before and begins after it')
      begin = result[-1][1]
    if not 0 <= begin <= end - 2 or end > MAX_FRAMES:
      raise DataError(f'{place} has the range {first}-{last}, which is none of 2 frames or more')
    result.append((begin, end))
  return result


def _find_ranges(source: str) -> str:
  for path in _files(source):
    if os.path.basename(path) == RANGES:
      return path
  raise DataError(f'{source}: has no {RANGES}, which is published beside the videos of KTH Actions')


def _files(source: str) -> Iterator[str]:
  if not os.path.isdir(source):
    raise DataError(f'{source}: give a directory with {RANGES} and the .avi files or zips')
  for folder, folders, names in os.walk(source):
    folders.sort()
    yield from (os.path.join(folder, name) for name in sorted(names))


def videos(source: str) -> dict[str, tuple[int, str, str]]:
  """Finds all videos below `source`: {name: (size in bytes, path, member of that zip or '')}.

  A video that is there twice is taken from the first place, plain files before zips.
  """
  found: dict[str, tuple[int, str, str]] = {}
  zips = []
  for path in _files(source):
    if match := _VIDEO.fullmatch(os.path.basename(path)):
      found.setdefault(match[1].lower(), (_checked(os.path.getsize(path), path), path, ''))
    elif path.lower().endswith('.zip'):
      zips.append(path)
  for path in zips:
    for size, member in _members(path):
      name = _VIDEO.fullmatch(os.path.basename(member))[1].lower()
      found.setdefault(name, (size, path, member))
  return found


def _members(path: str) -> list[tuple[int, str]]:
  with video.unreadable(path, zipfile.BadZipFile, zlib.error), zipfile.ZipFile(path) as archive:
    entries = archive.infolist()
  for entry in entries:
    # Nothing is unpacked, so this is harmless here; but no official zip has such a name.
    if os.path.isabs(entry.filename) or '..' in entry.filename.split('/'):
      raise DataError(f'{path}: names a file outside of it, {entry.filename!r}; get it again')
  return [
    (_checked(entry.file_size, f'{path}, {entry.filename}'), entry.filename)
    for entry in entries
    if _VIDEO.fullmatch(os.path.basename(entry.filename))
  ]


def _checked(size: int, place: str) -> int:
  if size > MAX_VIDEO_BYTES:
    raise DataError(
      f'{place}: has {size} bytes, no video of KTH Actions has more than {MAX_VIDEO_BYTES}'
    )
  return size


@contextlib.contextmanager
def opened(clip: Clip) -> Iterator[IO[bytes] | str]:
  """What PyAV opens: the path, or the content of a zip's member in memory."""
  if not clip.member:
    yield clip.path
    return
  with (
    video.unreadable(clip.place, zipfile.BadZipFile, zlib.error),
    zipfile.ZipFile(clip.path) as archive,
    archive.open(clip.member) as file,
  ):
    content = file.read(clip.size + 1)  # reading past the end makes zipfile check its CRC
  if len(content) != clip.size:
    raise DataError(f'{clip.place}: has not the {clip.size} bytes that it claims')
  yield io.BytesIO(content)
