"""What training the rows of a table cost, and where each stood at the cost of another."""

import math
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from afslvm.reproduction.tables import TABLES
from afslvm.training.progress import format_duration

Table = dict[str, Any]
LESS = 0.95  # of the time of another row: what took less can't be seen at that time


def words(row: dict[str, Any]) -> str:
  """Returns what a row is called."""
  return row.get('words') or row['model']


def number(value: float) -> str:
  """Returns a value with as many digits as say something."""
  return f'{value:,.{digits_of(value)}f}'


def digits_of(value: float) -> int:
  """Returns the digits behind the point; sums over many dimensions need fewer."""
  return 3 if abs(value) < 100 else 1


class Cost(NamedTuple):
  """Of a row, means over its seeds; None where receipts don't say."""

  cpu_seconds: float | None
  cpu_milliseconds: float | None  # per step

  @classmethod
  def of(cls, row: dict[str, Any]) -> 'Cost':
    """From the receipts."""
    seconds = _mean(row['cpu_seconds'])
    return cls(seconds, None if seconds is None else 1e3 * seconds / row['steps'])


def costs(table: Table) -> tuple[list[str], list[list[str]]]:
  """Returns the heading and the rows of a table of steps, time, and validation at equal time.

  Time is compared with the first row's only between runs of the same commit.
  """
  models = [row for row in table['rows'] if not row.get('reference')]
  base = _baseline(table, models)
  first = Cost.of(base)
  against = words(base)
  header = ['model', 'steps', 'ms/step', 'CPU ms/step', f'× {against}', 'CPU time']
  header += ['best validation', f'validation in the CPU time of {against}']
  lines = []
  for row in models:
    cost, rates = Cost.of(row), _mean(row['steps_per_second'])
    is_alike = bool(set(row['commits']) & set(base['commits']))
    relative = _ratio(cost.cpu_milliseconds, first.cpu_milliseconds) if is_alike else None
    lines.append([
      *(words(row), f'{row["steps"]:,}'),
      '' if not rates else f'{1e3 / rates:.0f}',
      '' if cost.cpu_milliseconds is None else f'{cost.cpu_milliseconds:.0f}',
      '' if relative is None else f'{relative:.2f}',
      '' if cost.cpu_seconds is None else format_duration(cost.cpu_seconds),
      _validation(row, None),
      _validation(row, first.cpu_seconds) if is_alike else '–',
    ])  # fmt: skip
  return header, lines


def _baseline(table: Table, models: list[dict[str, Any]]) -> dict[str, Any]:
  name = TABLES[table['table']].baseline
  return next((row for row in models if row['row'] == name), models[0])


def _validation(row: dict[str, Any], seconds: float | None) -> str:
  """The best of all validations in training, or of those in so much CPU time; mean over seeds."""
  spent_by = row['cpu_seconds']
  if seconds is not None and (None in spent_by or max(spent_by) < LESS * seconds):
    return '– (took less)' if None not in spent_by else '–'
  best = []
  for curve, spent in zip(row['validations'], row['cpu_seconds'], strict=True):
    last = math.inf
    if seconds is not None and spent:
      last = math.ceil(row['steps'] * seconds / spent)  # one that took as long has all its steps
    there = [value for step, value in curve if step <= last]
    best.append(min(there) if there else math.nan)
  mean = statistics.fmean(best) if best else math.nan
  return '–' if math.isnan(mean) else number(mean)


def _ratio(a: float | None, b: float | None) -> float | None:
  return None if a is None or not b else a / b


def _mean(values: Sequence[float | None]) -> float | None:
  there = [value for value in values if value is not None]
  return statistics.fmean(there) if there else None
