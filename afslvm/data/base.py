"""What a data set implements: a TFDS builder of sequences, without TensorFlow.

A subclass of `SequenceBuilder` names its options, the shape of one observation, and yields the
sequences of a split; a subclass of `DrawnBuilder` draws blocks of random sequences instead, and one
of `recorded.RecordedBuilder` reads them from files. Sequences have equal lengths unless the class
is `ragged`. `afslvm.data.prepare` writes, checks and opens the records.
"""

import abc
import contextlib
import dataclasses
import hashlib
import logging
import os
import time
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from afslvm.data import options as options_lib
from afslvm.data import shards
from afslvm.data.options import Integer, Option
from afslvm.errors import ConfigError, DataError

FILE_FORMAT = 'array_record'
SPLITS = ('train', 'validation', 'test')

SECONDS_BETWEEN_REPORTS = 3.0


@contextlib.contextmanager
def quiet_tfds():
  """Silences TFDS' informal messages and its progress bars; other messages still appear."""

  def is_ours_or_serious(record):
    return 'tensorflow_datasets' not in record.pathname or record.levelno >= logging.ERROR

  tfds.disable_progress_bar()
  logger = logging.getLogger('absl')
  logger.addFilter(is_ours_or_serious)
  try:
    yield
  finally:
    logger.removeFilter(is_ours_or_serious)


@dataclasses.dataclass(eq=False)
class SequenceConfig(tfds.core.BuilderConfig):
  """TFDS config of one choice of options; its name spells all that change the data."""

  options: Any = None


class LocalInfo(tfds.core.DatasetInfo):
  """Dataset info that never looks beyond the data directory, and survives a damaged one."""

  def initialize_from_bucket(self):
    """Does nothing: there is no copy of our info on any server."""

  def read_from_directory(self, dataset_info_dir):
    """Reads what is there; damage is reported by whoever opens or verifies the records."""
    with contextlib.suppress(Exception):
      super().read_from_directory(dataset_info_dir)
    self.as_proto.file_format = FILE_FORMAT  # whatever a damaged file says


class Progress:
  """Says every few seconds how far something is, and how long it will take."""

  def __init__(self, report: Callable[[str], None], what: str):
    self._report, self._what = report, what
    self._begin = self._last = time.monotonic()

  def __call__(self, done: int, total: int, unit: str):
    """Reports `done` of `total`, unless the last report is recent."""
    now = time.monotonic()
    if now < self._last + SECONDS_BETWEEN_REPORTS:
      return
    self._last = now
    left = f', {_duration((now - self._begin) * (total - done) / done)} left' if done else ''
    self._report(f'{self._what}, {done} of {total} {unit}{left}')


def _duration(seconds: float) -> str:
  return f'{seconds:.0f} s' if seconds < 100 else f'{seconds / 60:.0f} min'


@dataclasses.dataclass
class Tally:
  """Running summary of the sequences of one split, independent of the file format."""

  sequences: int = 0
  lengths: list[int] = dataclasses.field(default_factory=list)
  minimum: float = float('inf')
  maximum: float = float('-inf')
  digest: Any = dataclasses.field(default_factory=hashlib.sha256)

  def add(self, record: Mapping[str, np.ndarray]):
    """Counts the sequence x [T, *event]; what else the record holds enters the digest only."""
    x = record['x']
    self.sequences += 1
    self.lengths.append(len(x))
    self.minimum = min(self.minimum, x.min().item())
    self.maximum = max(self.maximum, x.max().item())
    for name in sorted(record, key=lambda name: (name != 'x', name)):
      values = record[name]
      self.digest.update(np.ascontiguousarray(values, values.dtype.newbyteorder('<')))


class SequenceBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """Base of all data sets.

  Attributes of the class:
    OPTIONS: the keyword arguments of the data set.
    data_space: '8bit' (uint8 levels), 'binary' (uint8 0 or 1), 'continuous' (float32 values) or
      'pcm16' (float32: 16-bit samples of sound, standardised; see `resolution`).
    embedded: whether the data can be made without any file from outside.
    source_hint: for data that needs files, what `source` should be.
    ragged: whether sequences have different lengths.
    EXTRAS: what records hold beside x, as {name: shape of one step}, float32; models don't see it.
  Attributes of an instance, known before any record exists:
    options: namespace of all options.
    num_frames: T, or of ragged data the most that T can be.
    event_shape: shape of one observation; dtype: of the records.
  """

  VERSION = tfds.core.Version('1.0.0')
  OPTIONS: ClassVar[Mapping[str, Option]] = types.MappingProxyType({})
  data_space: ClassVar[str] = '8bit'
  embedded: ClassVar[bool] = False
  source_hint: ClassVar[str] = ''
  ragged: bool = False
  EXTRAS: ClassVar[Mapping[str, tuple[int, ...]]] = types.MappingProxyType({})
  url_infos: ClassVar[None] = None  # TFDS downloads nothing for us, so it needs no checksums

  def __init_subclass__(cls, **kwargs):
    # Our names may equal those of TFDS' own builders; a registration would clash.
    super().__init_subclass__(**{**kwargs, 'skip_registration': True})

  def __init__(self, data_dir=None, source=None, **options):
    """Checks the options; writes nothing.

    Args:
      data_dir: root of all data sets; default $TFDS_DATA_DIR, or else TFDS' own default.
      source: path of the files that the data set is made from, if it needs any.
      **options: see `OPTIONS`.

    Raises:
      ConfigError: an unknown option, a value out of range, or a data_dir that isn't a local path.
    """
    self.source = os.path.expanduser(source) if source else None
    self.given_data_dir = data_dir
    self.given_options = dict(options)
    self.options = options_lib.check(self.name, self.OPTIONS, options)
    self.check_options()
    self.tallies: dict[str, Tally] = {}
    self.report: Callable[[str], None] = logging.getLogger('afslvm').info
    config = SequenceConfig(
      name=self.config_name(), description=str(vars(self.options)), options=self.options
    )
    with quiet_tfds():
      super().__init__(data_dir=_local_path(data_dir), config=config, file_format=FILE_FORMAT)
    self.download_dir = os.path.join(self._data_dir_root, 'downloads')
    self._original_state = dict(data_dir=data_dir, source=source, **options)

  @property
  @abc.abstractmethod
  def event_shape(self) -> tuple[int, ...]:
    """Shape of one observation, (H, W, C) or (D,)."""

  @abc.abstractmethod
  def split_size(self, split: str) -> int:
    """Number of sequences in `split`."""

  @abc.abstractmethod
  def sequences(self, split: str) -> Iterator[np.ndarray | dict[str, np.ndarray]]:
    """Yields the sequences [T, *event] of `split`, in order.

    With `EXTRAS`, dictionaries of x [T, *event] and each of the extras [T, *shape].
    """

  def expected_size(self, split: str) -> int | None:
    """Number of sequences that `sequences` will yield; None where only reading them all tells."""
    return self.split_size(split)

  def notes(self) -> list[str]:
    """Lines about this data set for whoever prepares it, such as what its source lacks."""
    return []

  def source_digest(self) -> str:
    """Identifies the files of `source`; prepared data of other files are replaced. '': unknown."""
    return ''

  @property
  def num_frames(self) -> int:
    """Frames T of every sequence; of ragged data the most that there can be."""
    return self.options.num_frames

  @property
  def dtype(self) -> np.dtype:
    """Type of the stored values."""
    return np.dtype(np.uint8 if self.data_space in ('8bit', 'binary') else np.float32)

  @property
  def resolution(self) -> float | None:
    """Distance of neighbouring values of 'pcm16' data, known once they are prepared; else None."""
    return None

  def constants(self) -> dict[str, Any]:
    """Numbers of the prepared data that later users need; the manifest keeps them."""
    return {}

  def check_options(self):
    """Derives options from others; raises ConfigError where they contradict each other."""

  def config_name(self) -> str:
    """Directory name of this choice of options."""
    return options_lib.spell(self.OPTIONS, self.options)

  def at(self, data_dir: str):
    """Returns a builder of the same data below another directory; downloads are shared."""
    builder = type(self)(data_dir=data_dir, source=self.source, **self.given_options)
    builder.download_dir, builder.report = self.download_dir, self.report
    return builder

  def _info(self):
    frames = None if self.ragged else self.num_frames
    shapes = {'x': (self.event_shape, self.dtype.type)}
    shapes |= {name: (shape, np.float32) for name, shape in self.EXTRAS.items()}
    return LocalInfo(
      builder=self,
      description=(self.__doc__ or '').strip(),
      features=tfds.features.FeaturesDict(
        {
          name: tfds.features.Tensor(shape=(frames, *shape), dtype=dtype, encoding='bytes')
          for name, (shape, dtype) in shapes.items()
        }
      ),
      disable_shuffling=True,  # records keep the order in which they are made
    )

  def _generate_splits(self, dl_manager, download_config):
    # In place of TFDS' own writer, which keeps a split in memory and beyond 1 GB needs TensorFlow.
    features = self.info.features
    return [
      shards.write_split(split, examples, features, self._get_filename_template(split_name=split))
      for split, examples in self._split_generators(dl_manager).items()
    ]

  def _split_generators(self, dl_manager):
    return {split: self._generate_examples(split) for split in SPLITS}

  def _generate_examples(self, split):
    tally = self.tallies[split] = Tally()
    total = self.expected_size(split)
    progress = Progress(self.report, f'{self.name}: {split}')
    for record in self.sequences(split):
      record = record if isinstance(record, dict) else {'x': record}
      tally.add(record)
      if total is not None:
        progress(tally.sequences - 1, total, 'sequences')
      yield record
    if not tally.sequences or total not in (None, tally.sequences):
      expected = f'{tally.sequences} of {total}' if total else 'no'
      raise DataError(f'{self.name}: {split} gave {expected} sequences')

  # TFDS announces both on stdout; the caller's own messages say it once.
  def _log_download_bytes(self):
    pass

  def _log_download_done(self):
    pass


def _local_path(data_dir) -> str | None:
  data_dir = data_dir or os.environ.get('TFDS_DATA_DIR')
  if data_dir and '://' in str(data_dir):
    raise ConfigError(f'data_dir={data_dir}: needs a local or mounted directory')
  return os.path.abspath(os.path.expanduser(data_dir)) if data_dir else None


def drawn_options(train: int, validation: int, test: int) -> dict[str, Option]:
  """Returns the options that every `DrawnBuilder` has: sequences per split, and the seed."""
  return {
    'num_train': Integer(train, 'train', low=1),
    'num_validation': Integer(validation, 'val', low=1),
    'num_test': Integer(test, 'test', low=1),
    'seed': Integer(0, 'seed'),
  }


class DrawnBuilder(SequenceBuilder):
  """Base of data sets that are drawn at random, in numbers and with a seed given as options."""

  BLOCK = 64

  @abc.abstractmethod
  def draw(self, split: str, num: int, rng: np.random.Generator) -> np.ndarray:
    """Returns `num` random sequences [num, T, *event] for `split`."""

  def split_size(self, split: str) -> int:
    """See base class."""
    return getattr(self.options, f'num_{split}')

  def sequences(self, split: str) -> Iterator[np.ndarray]:
    """Yields blocks that each have a generator of their own.

    So a larger split begins with the sequences of a smaller one, and no split depends on another.
    """
    size = self.split_size(split)
    for block in range(-(-size // self.BLOCK)):
      rng = np.random.default_rng([self.options.seed, SPLITS.index(split), block])
      yield from self.draw(split, self.BLOCK, rng)[: size - block * self.BLOCK]
