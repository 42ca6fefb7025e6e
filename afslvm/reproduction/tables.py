"""The tables that can be reproduced: which configs, and what is asked of every model."""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

from afslvm.errors import ConfigError, nearest
from afslvm.evaluation.contract import TO_THE_END
from afslvm.evaluation.protocols import PROTOCOLS, Protocol

SCALES = ('quick', 'small', 'paper')


class Column(NamedTuple):
  """One question that models answer.

  Attributes:
    name: in the table's values.
    split: of the data.
    context: steps that are given; whole sequences have what their protocol says, and 0 here.
    rules: name of the protocol.
    num_particles: of the particle filter whose bound stands beside the model's own; 0 is none.
    iterations: of the inference, None as trained.
  """

  name: str
  split: str
  context: int = 0
  rules: str = 'af_paper'
  num_particles: int = 0
  iterations: int | None = None

  @property
  def protocol(self) -> Protocol:
    """How is scored."""
    return PROTOCOLS[self.rules]

  @property
  def scored_frames(self) -> tuple[int, int]:
    """The first and the last."""
    if self.protocol.whole_sequences:
      return max(self.context, self.protocol.min_context), TO_THE_END
    return self.context, self.context + self.protocol.num_scored - 1


@dataclasses.dataclass(frozen=True)
class Table:
  """What is trained and asked.

  Attributes:
    name: of the table.
    title: in words.
    rows: {config: what it is in words}, in order; '' where the model's label says it all. A row
      that a data set has no config of isn't in its table.
    columns: the questions; the first one leads.
    folders: {scale: {data set: folder of configs}}.
    scale: unless another one is asked for.
    baseline: the row that others' costs are compared with.
    overrides: of every config, 'section.key=value'.
  """

  name: str
  title: str
  rows: Mapping[str, str]
  columns: tuple[Column, ...]
  folders: Mapping[str, Mapping[str, str]]
  scale: str = 'small'
  baseline: str = ''
  overrides: tuple[str, ...] = ()

  @property
  def whole_sequences(self) -> bool:
    """Whether numbers are in nats per step of whole sequences."""
    return self.columns[0].protocol.whole_sequences

  def config_folder(self, dataset: str, scale: str) -> str:
    """Folder of the configs of a data set at a scale; `quick` prefers the small ones.

    Raises:
      ConfigError: there are none.
    """
    if scale not in SCALES:
      raise ConfigError(
        f'--scale={scale} is not one of {", ".join(SCALES)}{nearest(scale, SCALES)}'
      )
    scales = ('paper', 'small') if scale == 'quick' else (scale,)
    there: dict[str, str] = {}
    for name in scales:
      there |= self.folders.get(name, {})
    if dataset not in there:
      others = [other for other, folders in self.folders.items() if dataset in folders]
      hint = f'; use --scale={others[0]}' if others else nearest(dataset, there)
      known = sorted(there) or sorted({name for found in self.folders.values() for name in found})
      raise ConfigError(
        f'--dataset={dataset} has no configs of {self.name} at --scale={scale}{hint}; there are '
        f'{", ".join(known)}'
      )
    return there[dataset]


# Two flows look back six frames, everything else three at most. The paper scores each model after
# its own context; here all models share the columns `test` and `train`, and those that can also
# answer the paper's own question do.
AF_1 = Table(
  name='af_1',
  title='Table 1 of the AF paper',
  rows=dict.fromkeys(('af1', 'af2', 'slvm', 'slvm_af1', 'slvm_af2'), ''),
  columns=(
    Column('test', 'test', 6),
    Column('train', 'train', 6),
    Column('test_context3', 'test', 3),
    Column('train_context3', 'train', 3),
  ),
  folders={
    'small': {
      'moving_digits': 'configs/moving_digits',
      'stochastic_moving_mnist': 'configs/stochastic_moving_mnist',
      'kth': 'configs/kth_small',
    },
    'paper': {
      'moving_mnist': 'configs/moving_mnist',
      'kth': 'configs/kth',
      'bair': 'configs/bair',
    },
  },
)

# The probability of 8-bit frames after six that are given, for models that are trained with uniform
# noise.
DISCRETE = (
  Column('test', 'test', 6, rules='discrete'),
  Column('train', 'train', 6, rules='discrete'),
)

# Affine and box-logistic flows nearest the data, which differ in nothing else: neither in noise nor
# in the bounds of their log-scales.
BOX = Table(
  name='box',
  title='Affine and box-logistic flows',
  rows=dict.fromkeys(
    (
      *('af1', 'af1_box', 'af2', 'af2_box', 'slvm_af1', 'slvm_af1_box'),
      *('videoflow_af1', 'videoflow_af1_box'),
    ),
    '',
  ),
  columns=DISCRETE,
  folders={
    'small': {
      'moving_digits': 'configs/moving_digits',
      'stochastic_moving_mnist': 'configs/stochastic_moving_mnist',
    },
  },
  overrides=('data.dequantisation=uniform', 'model.log_scale_low=-10.0'),
)


# VideoFlow alone, with flows in its priors, and inside one, beside what flows and latent variables
# do without it. All are trained with uniform noise and asked for the probability of the same
# frames.
VIDEOFLOW = Table(
  name='videoflow',
  title='VideoFlow with and without autoregressive flows',
  rows={
    'videoflow': '',
    'videoflow_wide': 'VideoFlow, as large as with AF',
    'videoflow_af': '',
    'videoflow_af1': '',
    'videoflow_af1_box': '',
    'glow_af1': '',
    'af1': '',
    'slvm': '',
    'slvm_af1': '',
  },
  columns=(
    *DISCRETE,
    Column('test_context3', 'test', 3, rules='discrete'),
    Column('train_context3', 'train', 3, rules='discrete'),
  ),
  folders={
    'small': {
      'moving_digits': 'configs/moving_digits',
      'stochastic_moving_mnist': 'configs/stochastic_moving_mnist',
      'kth': 'configs/kth_small',
    },
    'paper': {'bair': 'configs/bair'},
  },
  overrides=('data.dequantisation=uniform',),
  baseline='videoflow',
)


def _whole(num_particles: int) -> tuple[Column, ...]:
  """The AVF paper's convention, and the strict one; a particle filter beside the latter."""
  return (
    Column('test', 'test', rules='avf_paper'),
    Column('validation', 'validation', rules='avf_paper'),
    Column('test_all', 'test', rules='sequences', num_particles=num_particles),
    Column('validation_all', 'validation', rules='sequences'),
  )


AVF_1 = Table(
  name='avf_1',
  title='Table 1 of the AVF paper (speech)',
  rows={
    'vrnn': 'VRNN, direct',
    'vrnn_avf1': 'VRNN, AVF-1',
    'vrnn_avf2': 'VRNN, AVF-2',
    'srnn': 'SRNN, direct',
    'srnn_avf1': 'SRNN, AVF-1',
  },
  columns=_whole(20),
  folders={'small': {'fsdd': 'configs/fsdd'}, 'paper': {'timit': 'configs/timit'}},
  baseline='vrnn',
)
AVF_2 = Table(
  name='avf_2',
  title='Table 2 of the AVF paper (video)',
  rows={'svg': 'SVG, direct', 'svg_avf1': 'SVG, AVF-1'},
  columns=_whole(0),
  folders={'small': {'kth': 'configs/kth_small'}, 'paper': {'kth': 'configs/kth'}},
  baseline='svg',
)
MUSIC = ('jsb', 'piano_midi', 'muse_data', 'nottingham')
AVF_3 = Table(
  name='avf_3',
  title='Table 3 of the AVF paper (music)',
  rows={
    'direct': 'direct, em',
    'avf1': 'AVF-1, em',
    'avf2': 'AVF-2, em',
    'avf5': 'AVF-5, em',
    'direct_bptt': 'direct, bptt',
    'avf1_bptt': 'AVF-1, bptt',
    'avf1_observation': 'AVF-1 that also sees x_t and h_t, em',
    'avf1_from_residual': 'AVF-1 from direct RES_q, em',
    'direct_recipe': 'direct, small heads, em',
    'avf1_recipe': 'AVF-1, recipe, em',
    'avf5_recipe': 'AVF-5, recipe, em',
    'avf1_recipe_observation': 'AVF-1, recipe, that also sees x_t and h_t, em',
    'avf1_online': 'AVF-1, em_online',
    'avf1_recipe_online': 'AVF-1, recipe, em_online',
    'direct_residual': 'direct RES_q, em',
    'best': 'best recipe',
  },
  columns=_whole(20),
  folders={'paper': {name: f'configs/{name}' for name in MUSIC}},
  scale='paper',
  baseline='direct',
)
TABLES = {table.name: table for table in (AF_1, BOX, AVF_1, AVF_2, AVF_3, VIDEOFLOW)}


def find(name: str) -> Table:
  """A table by name.

  Raises:
    ConfigError: there is no such table.
  """
  if name not in TABLES:
    known = ', '.join(TABLES)
    raise ConfigError(f'--table={name} is not one of {known}{nearest(name, TABLES)}')
  return TABLES[name]
