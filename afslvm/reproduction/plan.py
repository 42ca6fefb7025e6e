"""What a table needs on given data: which runs, with which commands, and what they must answer."""

import dataclasses
import pathlib
import re
from collections.abc import Collection, Iterable
from typing import Any, Protocol

from afslvm.errors import ConfigError, nearest
from afslvm.evaluation import published, store
from afslvm.evaluation.contract import LikelihoodContract
from afslvm.reproduction.tables import Column, Table

ROOT = pathlib.Path(__file__).resolve().parents[2]
# To see that everything runs; such numbers mean nothing.
QUICK = (
  'train.num_steps=60',
  'train.log_every=10',
  'train.eval_every=0',
  'train.checkpoint_every=0',
  'train.validation_batches=2',
)
QUICK_SEQUENCES = 8  # that are scored then, where whole ones are
# What launch/evaluate.py takes unless told otherwise.
EVALUATION_SEED, EVALUATION_BATCH = 0, 32
# Where the AF paper scored another split than the test split, so do these, to stand beside it.
PAPER_CONTEXTS = {'paper': 6, 'paper_context3': 3}


@dataclasses.dataclass(frozen=True)
class Data:
  """The prepared data that a table is about.

  Attributes:
    name: of the data set.
    label: as in likelihood contracts.
    config: 'NAME/CONFIG' of the prepared data.
    event_shape: of one frame.
    data_space: see `LikelihoodContract`.
    fingerprint: of the records.
    num_scored: sequences that are scored, by split; all of a split that isn't named.
    resolution: see `LikelihoodContract`.
    test_lengths: steps of each test sequence, where they differ.
  """

  name: str
  label: str
  config: str
  event_shape: tuple[int, ...]
  data_space: str
  fingerprint: str
  num_scored: dict[str, int]
  resolution: float | None = None
  test_lengths: tuple[int, ...] = ()


def columns(table: Table, data: Data) -> list[Column]:
  """The questions of a table about these data."""
  benchmark = published.benchmark_of(data.config, data.event_shape)
  if table.whole_sequences or benchmark is None or benchmark.split == 'test':
    return list(table.columns)
  split = benchmark.split
  return [*table.columns, *(Column(name, split, after) for name, after in PAPER_CONTEXTS.items())]


class KnownData(Protocol):
  """Prepared data: what they are called, and the fingerprint of their records."""

  label: str
  fingerprint: str


class Trainable(Protocol):
  """A run that trains in a folder: one of a table, or of a sweep."""

  path: pathlib.Path
  config: dict[str, Any]
  data: KnownData

  @property
  def name(self) -> str:
    """Returns the name of the folder: 'slvm_af1-0'."""
    return self.path.name

  @property
  def num_steps(self) -> int:
    """The budget."""
    return self.config['train']['num_steps']


@dataclasses.dataclass(frozen=True)
class PlannedRun(Trainable):
  """One model and seed.

  Attributes:
    table: that it is a run of.
    row: of the table.
    seed: of training.
    label: of the model in tables.
    parameters: how many numbers are trained.
    num_context: frames that the model only conditions on.
    measure: what the model gives, see `LikelihoodContract`.
    config_file: path of its config below `ROOT`.
    overrides: of the config, 'section.key=value'.
    config: the whole config as plain values.
    path: folder of the run.
    data: what it is trained on and scored on.
  """

  table: Table
  row: str
  seed: int
  label: str
  parameters: int
  num_context: int
  measure: str
  config_file: str
  overrides: tuple[str, ...]
  config: dict[str, Any]
  path: pathlib.Path
  data: Data

  @property
  def columns(self) -> list[Column]:
    """The questions that the model can answer."""
    asked = columns(self.table, self.data)
    return [c for c in asked if c.protocol.whole_sequences or c.context >= self.num_context]

  def contract(self, column: Column) -> LikelihoodContract:
    """What is asked in a column."""
    return LikelihoodContract(
      protocol=column.rules,
      dataset=self.data.label,
      split=column.split,
      data_space=self.data.data_space,
      dequantisation=column.protocol.noise[self.data.data_space],
      context_frames=column.scored_frames[0],
      scored_frames=column.scored_frames,
      average=column.protocol.average,
      measure=self.measure,
      resolution=self.data.resolution,
    )

  def identity(self, column: Column, checkpoint: dict[str, Any]) -> dict[str, Any]:
    """All that decides the numbers, as launch/evaluate.py writes it beside them."""
    settings: dict[str, Any] = {
      'num_samples': column.protocol.num_samples,
      'num_particles': column.num_particles,
      'num_sequences': self.data.num_scored.get(column.split, 0),
      'seed': EVALUATION_SEED,
    }
    if not column.protocol.whole_sequences:
      settings['batch_size'] = EVALUATION_BATCH
    if column.iterations is not None:
      settings['inference_iterations'] = column.iterations
    return store.identity(self.contract(column), checkpoint, self.data.fingerprint, **settings)

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
    command.append(f'--protocol={column.rules}')
    protocol = column.protocol
    usual = max(protocol.min_context, self.num_context)
    if not protocol.whole_sequences and column.context != usual:
      command.append(f'--num_context={column.context}')
    if column.split != 'test':
      command.append(f'--split={column.split}')
    if column.num_particles:
      command.append(f'--num_particles={column.num_particles}')
    if column.iterations is not None:
      command.append(f'--inference_iterations={column.iterations}')
    if count := self.data.num_scored.get(column.split, 0):
      command.append(f'--num_sequences={count}')
    if place := self.config['data']['data_dir']:
      command.append(f'--data_dir={place}')
    return command


def num_scored(table: Table, scale: str, num_test: int) -> dict[str, int]:
  """Sequences that are scored by split: of frames as many training sequences as test sequences."""
  if not table.whole_sequences:
    return {'train': num_test}
  return dict.fromkeys(('test', 'validation'), QUICK_SEQUENCES) if scale == 'quick' else {}


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


def rows(table: Table, given: list[str], folder: str) -> list[str]:
  """The rows asked for, in the order of the table; all that have a config if none is named.

  Raises:
    ConfigError: an unknown one, or one without a config.
  """
  there = [row for row in table.rows if (ROOT / folder / f'{row}.py').exists()]
  for row in given:
    if row not in table.rows:
      known = ', '.join(table.rows)
      raise ConfigError(f'--rows={row} is not one of {known}{nearest(row, table.rows)}')
    if row not in there:
      raise ConfigError(f'--rows={row}: {folder} has no {row}.py, only {", ".join(there)}')
  return [row for row in there if row in given or not given]


def folder_name(row: str, seed: int) -> str:
  """Returns the name of the folder of a run in the working directory."""
  return f'{row}-{seed}'


def found(workdir: pathlib.Path, rows: Collection[str]) -> list[tuple[str, int]]:
  """(row, seed) of every folder of a run of one of `rows` that is there, in their order."""
  names = [re.fullmatch(r'(\w+)-(\d+)', path.name) for path in workdir.glob('*-*')]
  return in_order(((m[1], int(m[2])) for m in names if m and m[1] in rows), rows)


def in_order(pairs: Iterable[tuple[str, int]], rows: Collection[str]) -> list[tuple[str, int]]:
  """(row, seed) in the order of `rows`."""
  order = list(rows)
  return sorted(pairs, key=lambda pair: (order.index(pair[0]), pair[1]))


def portable(overrides: Iterable[str]) -> list[str]:
  """Those that mean something on another machine: where data lie does not."""
  return [v for v in overrides if not v.startswith(('data.data_dir=', 'data.source='))]
