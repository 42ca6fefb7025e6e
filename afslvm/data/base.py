"""What a data set implements: a TFDS builder of equally shaped sequences, without TensorFlow.

A subclass of `SequenceBuilder` names its options, the shape of one observation, and yields the
sequences of a split; a subclass of `DrawnBuilder` draws blocks of random sequences instead.
`afslvm.data.prepare` writes, checks and opens the records.
"""

import abc
import contextlib
import dataclasses
import hashlib
import logging
import math
import os
import time
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from afslvm.data import options as options_lib
from afslvm.data.options import Integer, Option
from afslvm.errors import ConfigError, DataError

SPLITS = ('train', 'validation', 'test')

# TFDS keeps one split in memory while it writes; beyond 1 GB it asks for TensorFlow.
MAX_SPLIT_BYTES = 950_000_000

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


@dataclasses.dataclass
class Tally:
  """Running summary of the sequences of one split, independent of the file format."""

  sequences: int = 0
  minimum: float = float('inf')
  maximum: float = float('-inf')
  digest: Any = dataclasses.field(default_factory=hashlib.sha256)

  def add(self, x: np.ndarray):
    """Counts the sequence x [T, *event]."""
    self.sequences += 1
    self.minimum = min(self.minimum, x.min().item())
    self.maximum = max(self.maximum, x.max().item())
    self.digest.update(np.ascontiguousarray(x, x.dtype.newbyteorder('<')))


class SequenceBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """Base of all data sets.

  Attributes of the class:
    OPTIONS: the keyword arguments of the data set.
    data_space: '8bit' (uint8 levels) or 'continuous' (float32 values).
    embedded: whether the data can be made without any file from outside.
    source_hint: for data that needs files, what `source` should be.
  Attributes of an instance, known before any record exists:
    options: namespace of all options.
    num_frames: T; event_shape: shape of one observation; dtype: of the records.
  """

  VERSION = tfds.core.Version('1.0.0')
  OPTIONS: ClassVar[Mapping[str, Option]] = types.MappingProxyType({})
  data_space: ClassVar[str] = '8bit'
  embedded: ClassVar[bool] = False
  source_hint: ClassVar[str] = ''
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
    self._check_size()
    self.tallies: dict[str, Tally] = {}
    self.report: Callable[[str], None] = logging.getLogger('afslvm').info
    config = SequenceConfig(
      name=self.config_name(), description=str(vars(self.options)), options=self.options
    )
    with quiet_tfds():
      super().__init__(data_dir=_local_path(data_dir), config=config, file_format='array_record')
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
  def sequences(self, split: str) -> Iterator[np.ndarray]:
    """Yields the sequences [T, *event] of `split`, in order."""

  @property
  def num_frames(self) -> int:
    """Frames T of every sequence."""
    return self.options.num_frames

  @property
  def dtype(self) -> np.dtype:
    """Type of the stored values."""
    return np.dtype(np.uint8 if self.data_space == '8bit' else np.float32)

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
    feature = tfds.features.Tensor(
      shape=(self.num_frames, *self.event_shape), dtype=self.dtype.type, encoding='bytes'
    )
    return LocalInfo(
      builder=self,
      description=(self.__doc__ or '').strip(),
      features=tfds.features.FeaturesDict({'x': feature}),
      disable_shuffling=True,  # records keep the order in which they are made
    )

  def _split_generators(self, dl_manager):
    return {split: self._generate_examples(split) for split in SPLITS}

  def _generate_examples(self, split):
    tally = self.tallies[split] = Tally()
    total = self.split_size(split)
    announce = time.monotonic() + SECONDS_BETWEEN_REPORTS
    for index, x in enumerate(self.sequences(split)):
      tally.add(x)
      if time.monotonic() > announce:
        announce = time.monotonic() + SECONDS_BETWEEN_REPORTS
        self.report(f'{self.name}: {split}, {index} of {total} sequences')
      yield index, {'x': x}
    if tally.sequences != total:
      raise DataError(f'{self.name}: {split} gave {tally.sequences} of {total} sequences')

  def _check_size(self):
    per_sequence = self.num_frames * math.prod(self.event_shape) * self.dtype.itemsize
    for split in SPLITS:
      size = self.split_size(split) * per_sequence
      if size > MAX_SPLIT_BYTES:
        raise ConfigError(
          f'{self.name}: {split} would take {size / 1e9:.2f} GB and at most '
          f'{MAX_SPLIT_BYTES / 1e9:.2f} GB can be written; lower data.num_{split} '
          f'to {MAX_SPLIT_BYTES // per_sequence} or less'
        )

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
