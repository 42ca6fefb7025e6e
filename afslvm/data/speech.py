"""Speech: TIMIT, read sentences, and the free spoken digits."""

import collections
import dataclasses
import hashlib
import os
import re
from collections.abc import Mapping, Sequence

import numpy as np

from afslvm.data import audio, base, folders, sources
from afslvm.errors import DataError

TIMIT_SIZES = (4620, 1680)  # training and test sentences
MAX_NPZ_BYTES = 2**30


class Timit(audio.AudioBuilder):
  """TIMIT (LDC93S1): sentences read by 630 people, 16 kHz, standardised, ragged [T, frame_size].

  `source` is the directory with TRAIN and TEST, in capital or small letters, of SPHERE or RIFF
  .wav; where a sentence is there as X.WAV and X.WAV.wav, the first is read. The 4,620 and 1,680
  sentences of those folders are training and test. 5 % of the training sentences, 231, are for
  validation: those that come first in the order of the SHA-256 of '1234/' and their names in small
  letters, as in '1234/dr1/fcjf0/sa1', whatever the order of the directory. (The AVF paper's code
  shuffles the directory's order with that seed.) Option: `frame_size` in samples.
  """

  OPTIONS = {'frame_size': audio.FRAME_SIZE}
  rate = 16_000
  source_hint = 'the directory of TIMIT with TRAIN and TEST'

  def scan(self, source: str) -> Mapping[str, Sequence[folders.File]]:
    """See base class."""
    train, test = (_sentences(source, part) for part in ('train', 'test'))
    return {**folders.held_out(train, {'validation': 5}, key='1234/'), 'test': test}

  def notes(self) -> list[str]:
    """Says how much of the corpus the source has."""
    sizes = {split: len(self.recordings[split]) for split in base.SPLITS}
    found = (sizes['train'] + sizes['validation'], sizes['test'])
    of = [f'{n:,} of {m:,}' for n, m in zip(found, TIMIT_SIZES, strict=True)]
    return [f'{of[0]} training and {of[1]} test sentences', *super().notes()]


def _sentences(source: str, part: str) -> list[folders.File]:
  """Files of one part, named in small letters from below its folder, without suffix."""
  inside = [name for name in _listing(source) if name.lower() == part]
  if len(inside) != 1:
    has = f'{len(inside)} folders' if inside else 'no folder'
    raise DataError(f'{source}: has {has} {part.upper()}; give the directory with TRAIN and TEST')
  folder, found = os.path.join(source, inside[0]), {}
  for file in folders.files(folder, folder, ('.wav',)):
    name = re.sub(r'(\.wav)+$', '', file.name.lower())
    found.setdefault(name, dataclasses.replace(file, name=name))  # X.WAV comes before X.WAV.wav
  return [found[name] for name in sorted(found)]


def _listing(folder: str) -> list[str]:
  try:
    return sorted(n for n in os.listdir(folder) if os.path.isdir(os.path.join(folder, n)))
  except OSError as error:
    raise DataError(f'{folder}: is no directory that can be read; give that of the set') from error


@dataclasses.dataclass(frozen=True)
class Digit:
  """One recording of the spoken digits: its samples are in `path`, or in `wave` already."""

  digit: int
  speaker: str
  number: int
  content: str  # hash
  path: str = dataclasses.field(repr=False)
  wave: np.ndarray | None = dataclasses.field(default=None, repr=False, compare=False)


class Fsdd(audio.AudioBuilder):
  """Free spoken digits (Jackson et al., 2018): ten digits, 8 kHz, standardised, [T, frame_size].

  `source` is a folder of DIGIT_SPEAKER_NUMBER.wav, such as `recordings` of the repository (or the
  directory that holds it), or an .npz with `wave` int16 of all recordings one after another,
  `lengths`, `digit`, `speaker`, `index` (the number), `speaker_names` and `rate`. As upstream says,
  recordings 0-4 of every speaker and digit are the test set; 5-8 are validation, 9-49 training:
  2,460, 240 and 300. Records are in the order of digit, speaker and number. Option: `frame_size` in
  samples.
  """

  OPTIONS = {'frame_size': audio.FRAME_SIZE}
  rate = 8_000
  source_hint = 'the folder of DIGIT_SPEAKER_NUMBER.wav, or an .npz of them'

  def scan(self, source: str) -> Mapping[str, Sequence[Digit]]:
    """See base class."""
    digits = _digits_of_npz(source) if os.path.isfile(source) else _digits_of_folder(source)
    parts: dict[str, list[Digit]] = {split: [] for split in base.SPLITS}
    for digit in sorted(digits, key=lambda d: (d.digit, d.speaker, d.number)):
      split = 'test' if digit.number < 5 else 'validation' if digit.number < 9 else 'train'
      parts[split].append(digit)
    return parts

  def samples(self, recording: Digit) -> np.ndarray:
    """See base class."""
    return audio.read(recording.path) if recording.wave is None else recording.wave

  def sample_rate_of(self, recording: Digit) -> int:
    """See base class; that of an .npz is checked when it is read."""
    return audio.rate_of(recording.path) if recording.wave is None else self.rate


def _digits_of_folder(source: str) -> list[Digit]:
  if os.path.isdir(inner := os.path.join(source, 'recordings')):
    source = inner
  found = []
  for file in folders.files(source, source, ('.wav',)):
    match = re.fullmatch(r'(\d)_([A-Za-z]+)_(\d{1,4})\.wav', os.path.basename(file.name))
    if not match:
      raise DataError(f'{file.path}: is not named DIGIT_SPEAKER_NUMBER.wav; take it elsewhere')
    digit, speaker, number = match.groups()
    found.append(Digit(int(digit), speaker, int(number), file.ends, file.path))
  twins = collections.Counter((d.digit, d.speaker, d.number) for d in found)
  if twins and (most := twins.most_common(1)[0])[1] > 1:
    raise DataError(f'{source}: has {most[1]} files {"_".join(map(str, most[0]))}.wav')
  return found


def _digits_of_npz(path: str) -> list[Digit]:
  wanted = {'wave': 1, 'lengths': 1, 'digit': 1, 'speaker': 1, 'index': 1, 'rate': 0}
  found = sources.npz_arrays(path, wanted, MAX_NPZ_BYTES)
  names = sources.npz_words(path, 'speaker_names')
  wave, lengths, speaker = found['wave'], found['lengths'].astype(np.int64), found['speaker']
  sizes = {name: len(found[name]) for name in ('lengths', 'digit', 'speaker', 'index')}
  inside = lengths.min(initial=0) >= 0 and lengths.max(initial=0) <= len(wave)
  if len(set(sizes.values())) > 1 or not inside or lengths.sum() != len(wave):
    raise DataError(f'{path}: {len(wave)} samples and {sizes} do not fit each other')
  if wave.dtype != np.int16 or int(found['rate']) != Fsdd.rate:
    raise DataError(
      f'{path}: is {wave.dtype} at {found["rate"]} per second, not int16 at {Fsdd.rate}'
    )
  if speaker.min(initial=0) < 0 or speaker.max(initial=0) >= len(names):
    raise DataError(f'{path}: names {len(names)} speakers, but numbers {speaker.max()}')
  ends = np.cumsum(lengths)
  digits = []
  for i, end in enumerate(ends):
    x = wave[end - lengths[i] : end]
    content = hashlib.sha256(x.tobytes()).hexdigest()
    who, number = names[speaker[i]], int(found['index'][i])
    digits.append(Digit(int(found['digit'][i]), who, number, content, path, x))
  return digits
