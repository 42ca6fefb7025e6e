"""KTH Actions (Schuldt et al., 2004): people who box, clap, wave, jog, run and walk."""

import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from afslvm.data import base, kth_files, recorded, video
from afslvm.data.kth_files import Clip
from afslvm.data.options import Choice, Integer
from afslvm.errors import DataError

# Persons of each split: the AF and AVF papers' (from their public code), and SVG's 20 for training
# and 5 for testing; `_persons` takes validation persons from SVG's training persons.
PERSONS = {
  'avf': {
    'train': tuple(range(11, 19)),
    'validation': (1, 4, 19, 20, 21, 23, 24, 25),
    'test': (2, 3, 5, 6, 7, 8, 9, 10, 22),
  },
  'svg': {'train': tuple(range(1, 21)), 'validation': (), 'test': tuple(range(21, 26))},
}


class Kth(recorded.RecordedBuilder):
  """KTH Actions, one record per official subsequence, grey, 8 bit, ragged [T, H, W, 1].

  Made from the official .avi files (160x120, 25 frames per second): `source` is a directory with
  00sequences.txt and the videos in any folders below it, or in the six zips as they are published.
  Frames are the luma, squeezed to a square without a crop by Pillow's bilinear filter. A range a-b
  of 00sequences.txt counts from 1 and gives frames a..b-1: the last one is left out, as in the AF
  paper's code; so clips have 23 to 361 frames. `kth_files` lists seven corrections of ranges.

  Options: `persons`, who is in which split, and `frame_size`. 'avf' (AF and AVF papers): train
  11-18, validation 01, 04, 19-21 and 23-25, test 02, 03, 05-10 and 22; 760, 768 and 863 sequences.
  'svg' (Denton and Fergus): train 1-20, test 21-25; it has no validation set, for which the last
  tenth of the training persons, at least one, is held out: 19 and 20 of the full set. An incomplete
  set is divided in the same way by those persons who are there.
  """

  OPTIONS = {
    'persons': Choice('avf', choices=tuple(PERSONS)),
    'frame_size': Integer(64, 'px', low=8, high=120),
  }
  data_space = '8bit'
  ragged = True
  num_frames = 361  # person12_boxing_d2, the longest of the official subsequences
  source_hint = 'a directory with 00sequences.txt and the .avi files or zips of KTH Actions'

  @property
  def event_shape(self) -> tuple[int, ...]:
    """See base class."""
    return (self.options.frame_size, self.options.frame_size, 1)

  def scan(self, source: str) -> Mapping[str, Sequence[Clip]]:
    """See base class."""
    clips = kth_files.clips(source)
    persons = _persons(self.options.persons, {clip.person for clip in clips})
    return {s: [clip for clip in clips if clip.person in persons[s]] for s in base.SPLITS}

  def why_empty(self, split: str) -> str:
    """See base class."""
    found = sorted({clip.person for clip in kth_files.clips(self.source)})
    wanted = PERSONS[self.options.persons][split] or PERSONS[self.options.persons]['train']
    return (
      f'persons={self.options.persons} takes {split} from {_numbers(wanted)}, '
      f'the videos show {_numbers(found) or "nobody"}'
    )

  def sequences(self, split: str) -> Iterator[np.ndarray]:
    """See base class; one video is in memory at a time."""
    for _, group in itertools.groupby(self.recordings[split], lambda clip: clip.name):
      clips = list(group)
      x = self._decode(clips)
      for clip in clips:
        yield self._cut(x, clip)

  def _decode(self, clips: list[Clip]) -> np.ndarray:
    """Returns the frames [T, H, W, 1] of the video that `clips` are of, as far as they need it."""
    last = max(clip.end for clip in clips)
    with kth_files.opened(clips[0]) as file:
      pictures = video.frames(file, clips[0].place, channels=1, limit=last)
      frames = [video.squeeze(picture, self.options.frame_size) for picture in pictures]
    return np.stack(frames) if frames else np.zeros((0, *self.event_shape), np.uint8)

  def _cut(self, x: np.ndarray, clip: Clip) -> np.ndarray:
    if len(x) < clip.begin + 2:
      raise DataError(
        f'{clip.place}: has {len(x)} frames and {kth_files.RANGES} lists a subsequence from frame '
        f'{clip.begin + 1}; is the file complete?'
      )
    if len(x) < clip.end:
      self.report(
        f'{self.name}: {clip.name} has {len(x)} frames, its range {clip.begin + 1}-{clip.end + 1} '
        'is cut there'
      )
    return x[clip.begin : clip.end]

  def notes(self) -> list[str]:
    """Says how much of the official set the source has, per split."""
    listed, _ = kth_files.ranges(self.source)
    there = {clip.name for split in base.SPLITS for clip in self.recordings[split]}
    wanted = dict(PERSONS[self.options.persons])
    if not wanted['validation']:
      wanted['validation'] = {clip.person for clip in self.recordings['validation']}
      wanted['train'] = set(wanted['train']) - wanted['validation']
    lines = [f'{_share(there, listed)} that {kth_files.RANGES} lists']
    for split in base.SPLITS:
      clips = self.recordings[split]
      of_split = {n: r for n, r in listed.items() if kth_files.person(n) in wanted[split]}
      found = _numbers(sorted({clip.person for clip in clips}))
      lines.append(f'{split}: {_share({clip.name for clip in clips}, of_split)}; {found}')
    missing = sorted(set(listed) - there)
    if missing:
      more = f' and {len(missing) - 3} more' if len(missing) > 3 else ''
      lines.append(f'missing: {", ".join(missing[:3])}{more}')
    return lines + kth_files.cut_ranges(self.source)


def _persons(convention: str, there: set[int]) -> dict[str, set[int]]:
  """Persons of every split, among those of whom there are videos."""
  split = {name: set(persons) & there for name, persons in PERSONS[convention].items()}
  if convention == 'svg':
    training = sorted(split['train'])
    held_out = max(1, len(training) // 10)
    split['train'] = set(training[:-held_out])
    split['validation'] = set(training[-held_out:])
  return split


def _share(names: set[str], listed: Mapping[str, Sequence]) -> str:
  sequences = sum(len(listed[name]) for name in names)
  total = sum(map(len, listed.values()))
  return f'{len(names)} of {len(listed):,} videos, {sequences:,} of {total:,} sequences'


def _numbers(persons: Sequence[int]) -> str:
  return f'persons {", ".join(map(str, persons))}' if persons else ''
