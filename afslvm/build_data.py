"""From the `data` section of a config to a data set: names of data sets, and their splits."""

import importlib
import math
from typing import Any

from afslvm import schema
from afslvm.errors import ConfigError, DataError

DATA_KEYS = (
  'name',
  'data_dir',
  'source',
  'length',
  'min_length',
  'transpose',
  'stateful',
  'dequantisation',
)
# 'module:Class', imported when asked for: TFDS takes half a second.
DATASETS = {
  'moving_digits': 'afslvm.data.moving_digits:MovingDigits',
  'moving_mnist': 'afslvm.data.moving_mnist:MovingMnist',
  'stochastic_moving_mnist': 'afslvm.data.moving_mnist:StochasticMovingMnist',
  'particle': 'afslvm.data.particle:Particle',
  'kth': 'afslvm.data.kth:Kth',
  'bair': 'afslvm.data.bair:Bair',
  'video_folder': 'afslvm.data.video_folder:VideoFolder',
  'piano_midi': 'afslvm.data.music:PianoMidi',
  'muse_data': 'afslvm.data.music:MuseData',
  'jsb': 'afslvm.data.music:Jsb',
  'nottingham': 'afslvm.data.music:Nottingham',
  'timit': 'afslvm.data.speech:Timit',
  'fsdd': 'afslvm.data.speech:Fsdd',
  'audio_folder': 'afslvm.data.audio_folder:AudioFolder',
}


def dataset_class(name: str) -> type:
  """The TFDS builder class of a data set."""
  module, attribute = schema.lookup(DATASETS, name, 'data.name').split(':')
  return getattr(importlib.import_module(module), attribute)


def dataset(data: dict[str, Any]) -> Any:
  """The TFDS builder of a `data` section; nothing is read or written yet."""
  options = {key: value for key, value in data.items() if key not in DATA_KEYS}
  cls = dataset_class(data.get('name'))
  if cls.embedded and data.get('source'):
    raise ConfigError(f'data.source={data["source"]}: {data["name"]} is made without any file')
  return cls(data_dir=data.get('data_dir') or None, source=data.get('source') or None, **options)


def bin_width(builder: Any) -> float:
  """Distance of neighbouring values as models see them: 0 if continuous, NaN if unknown yet."""
  if builder.data_space == '8bit':
    return 1.0 / 255.0
  if builder.data_space != 'pcm16':
    return 0.0
  try:
    return builder.resolution
  except DataError:
    return math.nan  # whoever opens the data is told to prepare them first


class Splits:
  """The sequences of a data set: `splits['test'][0]` is x [T, *event], as it is stored.

  A split is opened when it is asked for; data that need no file from outside are made then.

  Attributes:
    builder: the TFDS builder of the data.
  """

  def __init__(self, builder: Any):
    self.builder = builder

  def __getitem__(self, split: str) -> Any:
    """Opens 'train', 'validation' or 'test'; see `afslvm.data.prepare.open_split`."""
    from afslvm.data import prepare

    return prepare.open_split(self.builder, split)

  def __repr__(self) -> str:
    return f'Splits({dataset_label(self.builder)!r}: train, validation, test)'


def dataset_label(builder: Any) -> str:
  """Name, shape of a step, and every option that isn't the default: 'moving_digits 16x16x1'."""
  shape = 'x'.join(map(str, builder.event_shape))
  others = [
    f'{name}={value}'
    for name, value in sorted(builder.given_options.items())
    if name != 'frame_size' and value != builder.OPTIONS[name].default
  ]
  return ' '.join([builder.name, shape, *others])
