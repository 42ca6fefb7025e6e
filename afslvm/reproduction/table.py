"""A table as plain values: what `table.json` holds, made of finished runs under one contract each.

{'table': 'af_1', 'dataset': ..., 'scale': ..., 'columns': {NAME: {split, context, ...}},
 'rows': [{'model', 'parameters', 'seeds', NAME: [one result per seed], ...}, ...], ...}

Tables of whole sequences also have other bounds beside a model's own, and what training took.
"""

import math
from collections.abc import Sequence
from typing import Any

from afslvm.evaluation import published
from afslvm.evaluation.contract import (
  ContractError,
  LikelihoodResult,
  check_comparable,
  describe,
)
from afslvm.evaluation.references import COPY_LAST, STATIC
from afslvm.evaluation.sequence_references import INDEPENDENT, MARKOV
from afslvm.reproduction.folders import FinishedRun
from afslvm.reproduction.plan import Data, columns, portable
from afslvm.reproduction.tables import Column, Table

# Numbers that references fit: mean and variance; variance of the change; rates of notes.
PER_DIMENSION = {STATIC: 2, COPY_LAST: 1, INDEPENDENT: 1, MARKOV: 3}


def build(runs: Sequence[FinishedRun], about: dict[str, Any]) -> dict[str, Any]:
  """The whole table.

  Args:
    runs: at least one.
    about: the command and so on, copied into the table.

  Raises:
    ContractError: results of one column that answer different questions.
  """
  table, data = runs[0].run.table, runs[0].run.data
  asked = columns(table, data)
  groups = [[run for run in runs if run.run.row == row] for row in table.rows]
  rows = [_row(group) for group in groups if group]
  rows += [_reference(runs, name) for name in _references(runs)]
  for column in asked:
    check_column([result for row in rows for result in results(row, column.name)])
  return {
    'table': table.name,
    **about,
    'evaluated_at': _commits(runs),
    'data': {
      'label': data.label,
      'config': data.config,
      'event_shape': list(data.event_shape),
      'fingerprint': data.fingerprint,
    },
    'protocol': {'name': asked[0].rules, 'summary': asked[0].protocol.summary},
    'columns': {
      column.name: _column(rows, column, table, data)
      for column in asked
      if any(row[column.name] for row in rows)
    },
    'rows': rows,
  }


def _commits(runs: Sequence[FinishedRun]) -> list[str]:
  """Of the code that scored; evaluations are kept while their question stays the same."""
  found = {
    values.get('git_commit', 'unknown') for run in runs for values in run.evaluations.values()
  }
  return sorted(found)


def results(row: dict[str, Any], column: str) -> list[LikelihoodResult]:
  """Returns a row's results in a column, one per seed, or none if it can't answer the question."""
  return [LikelihoodResult.from_json(values) for values in row[column]]


def check_column(found: Sequence[LikelihoodResult]):
  """Raises ContractError for results that don't belong under one another, and says why."""
  check_comparable(found)
  for other in found[1:]:
    for key in ('num_sequences', 'num_samples', 'seed'):
      a, b = getattr(found[0], key), getattr(other, key)
      if a != b:
        raise ContractError(
          f'{found[0].name} and {other.name} can not share a column: {key} is {a} and {b}'
        )


def _row(runs: Sequence[FinishedRun]) -> dict[str, Any]:
  """One model, all its seeds."""
  plans, receipts = [run.run for run in runs], [run.receipt for run in runs]
  first = plans[0]
  own = {
    column.name: [_own(run, column.name) for run in runs if column in run.run.columns]
    for column in columns(first.table, first.data)
  }
  return {
    'row': first.row,
    'model': first.label,
    'parameters': first.parameters,
    'seeds': [plan.seed for plan in plans],
    **own,
    'temporal_correlation': [_correlations(run) for run in runs],
    'steps': first.num_steps,
    'batch_size': first.config['train']['batch_size'],
    'best_steps': [run.evaluations['test']['identity']['checkpoint']['step'] for run in runs],
    'steps_per_second': [receipt.get('steps_per_second') for receipt in receipts],
    'wall_seconds': [receipt.get('total_wall_seconds') for receipt in receipts],
    'devices': sorted({_device(receipt) for receipt in receipts}),
    'commits': [receipt.get('git_commit', 'unknown') for receipt in receipts],
    'config': first.config_file,
    'overrides': portable(first.overrides),
    'words': first.table.rows[first.row],
    'cpu_seconds': [run.receipt.get('total_cpu_seconds') for run in runs],
    'validations': [_validations(run) for run in runs],
    **(_sequence_row(runs) if first.table.whole_sequences else {}),
  }


def _sequence_row(runs: Sequence[FinishedRun]) -> dict[str, Any]:
  """What rows of whole sequences have besides: the first scored step, and other bounds."""
  first = runs[0].run
  return {
    'first_scored': first.config['objective']['first_scored'],
    'bounds': {
      column.name: [_other_bounds(run, column.name) for run in runs]
      for column in first.columns
      if column.num_particles
    },
  }


def _validations(run: FinishedRun) -> list[tuple[int, float]]:
  """(step, nats/step) of whole sequences, (step, nats/dim) of frames."""
  whole = run.run.table.whole_sequences
  size = math.prod(run.run.data.event_shape) if whole else 1
  return [(step, size * value) for step, value in run.validations]


def _other_bounds(run: FinishedRun, column: str) -> list[dict[str, Any]]:
  found = run.evaluations[column]['results'][1:]
  return [values for values in found if values['name'] == run.run.label]


def _own(run: FinishedRun, column: str) -> dict[str, Any]:
  """The model's own result; the other bounds and the references stand behind it."""
  return run.evaluations[column]['results'][0]


def _correlations(run: FinishedRun) -> dict[str, float]:
  shown = run.evaluations['test'].get('decorrelation', {})
  return {label: values['temporal_correlation'] for label, values in shown.items()}


def _device(receipt: dict[str, Any]) -> str:
  device = receipt.get('device', {})
  return f'{device.get("count", "?")} {device.get("kind", "?")}'


def _references(runs: Sequence[FinishedRun]) -> list[str]:
  """Names of the trivial models, which are scored beside every model."""
  evaluation = next(iter(runs[0].evaluations.values()))
  return [v['name'] for v in evaluation['results'] if v['name'] != runs[0].run.label]


def _reference(runs: Sequence[FinishedRun], name: str) -> dict[str, Any]:
  """A trivial model; it has seen the same sequences and noise in every evaluation."""
  own: dict[str, list] = {}
  for column in columns(runs[0].run.table, runs[0].run.data):
    found = [
      values
      for run in runs
      if column in run.run.columns
      for values in run.evaluations[column.name]['results']
      if values['name'] == name
    ]
    own[column.name] = found[:1]
    for other in found[1:]:
      if not math.isclose(found[0]['nats_per_dim'], other['nats_per_dim'], abs_tol=1e-4):
        raise ContractError(
          f'{name} scores {found[0]["nats_per_dim"]:.4f} and {other["nats_per_dim"]:.4f} nats/dim '
          f'in column {column.name}: the runs were not scored on the same data'
        )
  size = PER_DIMENSION[name] * math.prod(runs[0].run.data.event_shape)
  return {'model': name, 'reference': True, 'parameters': size, 'seeds': [], **own}


def _column(
  rows: Sequence[dict[str, Any]], column: Column, table: Table, data: Data
) -> dict[str, Any]:
  """Returns what a column asks, and what the paper reports there."""
  first = next(result for row in rows for result in results(row, column.name))
  paper = _avf_paper if table.whole_sequences else _af_paper
  return {
    'split': column.split,
    'context_frames': first.contract.context_frames,
    'scored_frames': list(first.contract.scored_frames),
    'num_sequences': first.num_sequences,
    'floor_nats_per_dim': first.contract.floor_nats_per_dim,
    **paper(first, table, data),
  }


def _af_paper(first: LikelihoodResult, table: Table, data: Data) -> dict[str, Any]:
  """The AF paper's Table 1 by model, where it answers the same question."""
  del table
  why = published.why_not_comparable(first.contract, data.config, data.event_shape)
  benchmark = published.benchmark_of(data.config, data.event_shape)
  paper: dict[str, float] = {}
  if benchmark is not None and not why:
    context = first.contract.context_frames
    paper = {
      result.model: result.nats_per_dim
      for result in published.find(benchmark.dataset, 'test', first.contract.protocol)
      if published.CONTEXT[result.model] == context
    }
  return {'published': paper, 'why_not_published': why}


def _avf_paper(first: LikelihoodResult, table: Table, data: Data) -> dict[str, Any]:
  """The AVF paper's nats per step by row, as published, and what corrects them."""
  lengths = data.test_lengths[: first.num_sequences]
  why = published.why_not_avf(table.name, first.contract, data.config, lengths)
  benchmark = published.avf_benchmark_of(table.name, data.config)
  paper = {} if benchmark is None or why else dict(benchmark.values)
  return {
    'published': paper,
    'published_factor': published.corrected_by(lengths) if paper else None,
    'why_not_published': why,
    'protocol': first.contract.protocol,
    'describe': describe(first.contract),
  }
