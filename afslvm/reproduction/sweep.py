"""The runs of a sweep: which there are, and how far they are."""

import dataclasses
import functools
import itertools
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from afslvm.errors import ConfigError, NumericsError
from afslvm.reproduction import folders, schedule
from afslvm.reproduction.plan import ROOT, Trainable

# A run whose numbers stop being finite is a result; the others go on.
TOLERATED = frozenset({NumericsError.exit_code})


class Data(NamedTuple):
  """Prepared data: what they are called, and the fingerprint of their records."""

  label: str
  fingerprint: str
  num_validation: int


@dataclasses.dataclass(frozen=True)
class SweepRun(Trainable):
  """One point of the grid and a seed.

  Attributes:
    settings: what the grid says, as it was written.
    config_file: as it was given.
    overrides: of the config, those of the grid and the seed among them.
    config: the whole config as plain values.
    path: folder of the run.
    data: what it is trained on.
    num_context: steps that the model only conditions on.
    bound: what the model gives, one of `contract.KINDS`.
  """

  settings: dict[str, str]
  config_file: str
  overrides: tuple[str, ...]
  config: dict[str, Any]
  path: pathlib.Path
  data: Data
  num_context: int
  bound: str

  @property
  def question(self) -> dict[str, Any]:
    """What validation asks: only answers to the same question are compared."""
    data, train = self.config['data'], self.config['train']
    places = ('data_dir', 'source', 'transpose')
    scored = min(train['validation_batches'] * train['batch_size'], self.data.num_validation)
    return {
      **{f'data.{key}': value for key, value in data.items() if key not in places},
      'objective.first_scored': self.config['objective'].get('first_scored', 0),
      'steps of context': self.num_context,
      'validation sequences': scored,
    }

  def command(self, script: str = 'launch/train.py') -> list[str]:
    """Arguments of python; run again, it resumes."""
    overrides = [f'--config.{value}' for value in self.overrides]
    return [script, f'--config={self.config_file}', f'--workdir={self.path}', *overrides]


def check(runs: Sequence[SweepRun]):
  """Raises ConfigError if two runs are one, or a folder holds a run of another config or data."""
  for one, other in itertools.combinations(runs, 2):
    if one.config == other.config or one.path == other.path:
      raise ConfigError(f'--grid: {one.name} and {other.name} are the same run; drop one of them')
  for run in runs:
    folders.check(run)


def chains(runs: Sequence[SweepRun]) -> list[schedule.Chain]:
  """What is to be run; what is trained is left out when its turn comes."""
  script = str(ROOT / 'launch' / 'train.py')
  return [
    schedule.Chain(
      run.name,
      [schedule.Task('train', run.command(script), functools.partial(folders.is_trained, run))],
    )
    for run in runs
  ]
