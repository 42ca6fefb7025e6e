"""How far a run is, by what its folder holds: nothing here believes a file that doesn't verify."""

import dataclasses
import json
from typing import Any

from afslvm.errors import ConfigError
from afslvm.evaluation import store
from afslvm.reproduction.plan import PlannedRun, Trainable
from afslvm.reproduction.tables import Column
from afslvm.training import checkpoint
from afslvm.training.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class FinishedRun:
  """A run that is trained and has answered every question that it can.

  Attributes:
    run: what was planned.
    receipt: of training.
    evaluations: by name of the column, as launch/evaluate.py wrote them.
    validations: (step, nats/dim) of every one during training.
  """

  run: PlannedRun
  receipt: dict[str, Any]
  evaluations: dict[str, dict[str, Any]]
  validations: list[tuple[int, float]] = dataclasses.field(default_factory=list)


def check(run: Trainable):
  """Raises ConfigError if the folder holds a run on other data, of another config or budget."""
  newest = checkpoint.find_good(run.path / 'checkpoints')
  Workdir(run.path).check_config(run.config, trained=newest is not None)
  if newest is not None and newest > run.num_steps:
    raise ConfigError(
      f'{run.path} was trained for {newest:,} steps, this table is about {run.num_steps:,}; '
      'use another folder'
    )
  trained_on = receipt(run).get('data_fingerprint', run.data.fingerprint)
  if newest is not None and trained_on != run.data.fingerprint:
    raise ConfigError(
      f'{run.path} was trained on {run.data.label} with fingerprint {trained_on}, the prepared '
      f'data have {run.data.fingerprint}; prepare the same data again, or use another --workdir'
    )


def is_trained(run: Trainable) -> bool:
  """Whether the budget is used up and the receipt written."""
  newest = checkpoint.find_good(run.path / 'checkpoints')
  return newest is not None and newest >= run.num_steps and bool(receipt(run))


def evaluation(run: PlannedRun, column: Column) -> dict[str, Any] | None:
  """The evaluation of the best checkpoint that answers exactly this column, if it is there."""
  directory = run.path / 'checkpoints'
  best = checkpoint.find_good(directory, 'best')
  if best is None:
    return None
  manifest = checkpoint.read_manifest(directory / str(best)) or {}
  about = {key: manifest.get(key) for key in ('step', 'parameters_sha256', checkpoint.METRIC)}
  asked = run.identity(column, {**about, 'selected_by': 'best'})
  there = (report for report in store.read_all(run.path) if report.get('identity') == asked)
  return next(there, None)


def finished(run: PlannedRun) -> FinishedRun | None:
  """The run with its numbers, or None while something is missing."""
  if not is_trained(run):
    return None
  answers = {column.name: evaluation(run, column) for column in run.columns}
  complete = {name: answer for name, answer in answers.items() if answer is not None}
  if len(complete) < len(answers):
    return None
  validations = [
    (values['step'], values['validation_nats_per_dim'])
    for values in Workdir(run.path).validations()
  ]
  return FinishedRun(run, receipt(run), complete, validations)


def receipt(run: Trainable) -> dict[str, Any]:
  """What training wrote at its end; empty while there is nothing."""
  try:
    value = json.loads((run.path / 'receipt.json').read_text())
  except (OSError, ValueError):
    return {}
  return value if isinstance(value, dict) else {}
