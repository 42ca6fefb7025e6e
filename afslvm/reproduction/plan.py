"""What a table needs: which configs, how many seeds, which questions are asked of every model."""

import dataclasses
import pathlib
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from afslvm.errors import ConfigError, nearest
from afslvm.evaluation import published, store
from afslvm.evaluation.contract import LikelihoodContract
from afslvm.evaluation.protocols import PROTOCOLS

ROOT = pathlib.Path(__file__).resolve().parents[2]
ROWS = ('af1', 'af2', 'slvm', 'slvm_af1', 'slvm_af2')
SCALES = ('quick', 'small', 'paper')
# Scale -> data set -> folder of configs; `quick` takes whichever there is, the small ones first.
FOLDERS = {
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
}
# To see that everything runs; such numbers mean nothing.
QUICK = (
  'train.num_steps=60',
  'train.log_every=10',
  'train.eval_every=0',
  'train.checkpoint_every=0',
  'train.validation_batches=2',
)
PROTOCOL = PROTOCOLS['af_paper']
# What launch/evaluate.py takes unless told otherwise.
EVALUATION_SEED, EVALUATION_BATCH = 0, 32


class Column(NamedTuple):
  """One question that models answer: sequences of `split`, ten frames after `context`."""

  name: str
  split: str
  context: int

  @property
  def scored_frames(self) -> tuple[int, int]:
    """The first and the last."""
    return self.context, self.context + PROTOCOL.num_scored - 1


# Two flows look back six frames, everything else three at most. The paper scores each model after
# its own context; here all models share the columns `test` and `train`, and those that can also
# answer the paper's own question do.
COLUMNS = (
  Column('test', 'test', 6),
  Column('train', 'train', 6),
  Column('test_context3', 'test', 3),
  Column('train_context3', 'train', 3),
)
# Where the paper scored another split than the test split, so do these, to stand beside it.
PAPER_CONTEXTS = {'paper': 6, 'paper_context3': 3}


@dataclasses.dataclass(frozen=True)
class Data:
  """The prepared data that a table is about.

  Attributes:
    name: of the data set.
    label: as in likelihood contracts.
    config: 'NAME/CONFIG' of the prepared data.
    event_shape: of one frame.
    data_space: '8bit' or 'continuous'.
    fingerprint: of the records.
    num_scored: sequences that are scored, by split: of the training split as many as of the test
      split; all of a split that isn't named.
  """

  name: str
  label: str
  config: str
  event_shape: tuple[int, ...]
  data_space: str
  fingerprint: str
  num_scored: dict[str, int]

  @property
  def columns(self) -> list[Column]:
    """The questions of a table about these data."""
    benchmark = published.benchmark_of(self.config, self.event_shape)
    if benchmark is None or benchmark.split == 'test':
      return list(COLUMNS)
    split = benchmark.split
    return [*COLUMNS, *(Column(name, split, after) for name, after in PAPER_CONTEXTS.items())]


@dataclasses.dataclass(frozen=True)
class PlannedRun:
  """One model and seed.

  Attributes:
    row: of the table, one of `ROWS`.
    seed: of training.
    label: of the model in tables.
    parameters: how many numbers are trained.
    num_context: frames that the model only conditions on.
    config_file: path of its config below `ROOT`.
    overrides: of the config, 'section.key=value'.
    config: the whole config as plain values.
    path: folder of the run.
    data: what it is trained on and scored on.
  """

  row: str
  seed: int
  label: str
  parameters: int
  num_context: int
  config_file: str
  overrides: tuple[str, ...]
  config: dict[str, Any]
  path: pathlib.Path
  data: Data

  @property
  def name(self) -> str:
    """Of the folder: 'slvm_af1-0'."""
    return self.path.name

  @property
  def num_steps(self) -> int:
    """The budget."""
    return self.config['train']['num_steps']

  @property
  def columns(self) -> list[Column]:
    """The questions that the model can answer."""
    return [column for column in self.data.columns if column.context >= self.num_context]

  def contract(self, column: Column) -> LikelihoodContract:
    """What is asked in a column."""
    return LikelihoodContract(
      protocol=PROTOCOL.name,
      dataset=self.data.label,
      split=column.split,
      data_space=self.data.data_space,
      dequantisation=PROTOCOL.dequantisation,
      context_frames=column.context,
      scored_frames=column.scored_frames,
    )

  def identity(self, column: Column, checkpoint: dict[str, Any]) -> dict[str, Any]:
    """All that decides the numbers, as launch/evaluate.py writes it beside them."""
    return store.identity(
      self.contract(column),
      checkpoint,
      self.data.fingerprint,
      num_samples=PROTOCOL.num_samples,
      num_particles=0,
      num_sequences=self.data.num_scored.get(column.split, 0),
      seed=EVALUATION_SEED,
      batch_size=EVALUATION_BATCH,
    )

  def train_command(self) -> list[str]:
    """Arguments of python; run again, it resumes."""
    overrides = [*self.overrides, f'seed={self.seed}']
    arguments = [f'--config={ROOT / self.config_file}', f'--workdir={self.path}']
    return [
      str(ROOT / 'launch/train.py'),
      *arguments,
      *(f'--config.{value}' for value in overrides),
    ]

  def evaluate_command(self, column: Column) -> list[str]:
    """Arguments of python."""
    command = [str(ROOT / 'launch/evaluate.py'), f'--workdir={self.path}']
    if column.context != max(PROTOCOL.min_context, self.num_context):
      command.append(f'--num_context={column.context}')
    if column.split != 'test':
      command.append(f'--split={column.split}')
    if count := self.data.num_scored.get(column.split, 0):
      command.append(f'--num_sequences={count}')
    if place := self.config['data']['data_dir']:
      command.append(f'--data_dir={place}')
    return command


def config_folder(dataset: str, scale: str) -> str:
  """Folder of the configs of a data set at a scale.

  Raises:
    ConfigError: there are none.
  """
  if scale not in SCALES:
    raise ConfigError(f'--scale={scale} is not one of {", ".join(SCALES)}{nearest(scale, SCALES)}')
  tables = [FOLDERS['small'], FOLDERS['paper']] if scale == 'quick' else [FOLDERS[scale]]
  there = {name: folder for table in reversed(tables) for name, folder in table.items()}
  if dataset not in there:
    others = [other for other, table in FOLDERS.items() if dataset in table]
    hint = f'; use --scale={others[0]}' if others else nearest(dataset, there)
    raise ConfigError(
      f'--dataset={dataset} has no configs at --scale={scale}{hint}; there are '
      f'{", ".join(sorted(there))}'
    )
  return there[dataset]


def overrides(scale: str, given: list[str]) -> tuple[str, ...]:
  """Of the configs; what is given comes last and wins.

  Raises:
    ConfigError: not of the form section.key=value.
  """
  for value in given:
    if not re.fullmatch(r'[a-z_0-9]+(\.[a-z_0-9]+)+=.*', value):
      raise ConfigError(f'--override={value} is not of the form section.key=value')
  both = [*(QUICK if scale == 'quick' else ()), *given]
  return tuple({value.partition('=')[0]: value for value in both}.values())


def rows(given: list[str]) -> list[str]:
  """The rows asked for, in the order of the table; all if none is named.

  Raises:
    ConfigError: an unknown one.
  """
  for row in given:
    if row not in ROWS:
      raise ConfigError(f'--rows={row} is not one of {", ".join(ROWS)}{nearest(row, ROWS)}')
  return [row for row in ROWS if row in given or not given]


def folder_name(row: str, seed: int) -> str:
  """Of a run in the working directory."""
  return f'{row}-{seed}'


def found(workdir: pathlib.Path) -> list[tuple[str, int]]:
  """(row, seed) of every folder of a run that is there, in the order of the table."""
  names = [re.fullmatch(r'(\w+)-(\d+)', path.name) for path in workdir.glob('*-*')]
  return in_order((match[1], int(match[2])) for match in names if match and match[1] in ROWS)


def in_order(pairs: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
  """(row, seed) in the order of the table."""
  return sorted(pairs, key=lambda pair: (ROWS.index(pair[0]), pair[1]))


def portable(overrides: Iterable[str]) -> list[str]:
  """Those that mean something on another machine: where data lie does not."""
  return [v for v in overrides if not v.startswith(('data.data_dir=', 'data.source='))]
