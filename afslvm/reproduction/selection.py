"""A few rows of several measured tables in one small table, for a reader of the README."""

import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from afslvm.reproduction import markdown, markdown_steps
from afslvm.reproduction.table import results
from afslvm.reproduction.tables import TABLES
from afslvm.training.progress import format_duration

Table = dict[str, Any]
HEADER = ['data, unit', 'model', 'paper', 'ours', 'seeds', 'config', 'steps', 'time']
RECIPE = '_recipe'  # a row that trains the paper's model in our own way


class Row(NamedTuple):
  """What is shown of a measured row."""

  data: str  # the data set, the frames and the unit
  model: str
  paper: str  # the paper's number of the same model, where it answers the same question
  ours: str
  seeds: str
  config: str
  steps: str
  time: str  # of training, CPU time where it was measured


def rows(table: Table, names: Sequence[str]) -> list[Row]:
  """Returns those rows of a table that are named, in this order."""
  measured = {row['row']: row for row in table['rows'] if 'row' in row}
  find = _whole if TABLES[table['table']].whole_sequences else _frames
  return [find(table, measured[name]) for name in names]


def rendered(found: Sequence[Row]) -> str:
  """Returns the rows as Markdown; what the row above says of the data isn't said again."""
  above = ['', *(row.data for row in found)]
  shown = [
    row._replace(data='' if row.data == last else row.data)
    for row, last in zip(found, above, strict=False)
  ]
  return '\n'.join(markdown.rendered(HEADER, shown))


def _frames(table: Table, row: dict[str, Any]) -> Row:
  """Nats per dimension, of the frames for which the paper has a number, or of those of all rows."""
  columns = table['columns']
  questions = [
    name for name in (markdown.PAPER[0], markdown.PAPER_OWN[0], markdown.OWN[0]) if name in columns
  ]
  asked = [name for name in questions if row['model'] in columns[name]['published']]
  name = asked[0] if asked else markdown.COMMON[0]
  paper = columns[name]['published'].get(row['model'])
  first, last = columns[name]['scored_frames']
  return _row(
    row,
    f'{table["data"]["label"]}, frames {first}..{last}, nats/dim',
    row['model'],
    '–' if paper is None else f'{paper:.2f}',
    markdown.nats(markdown.summarise(results(row, name))),
    row['wall_seconds'],
  )


def _whole(table: Table, row: dict[str, Any]) -> Row:
  """Nats per step by the AVF paper's convention, the paper's number corrected for given steps."""
  column = table['columns'][markdown_steps.PAPER[0]]
  paper = column['published'].get(row['row'].removesuffix(RECIPE))
  base = row['model'].partition(' + ')[0]  # 'SRNN' of 'SRNN + AVF-1', whose words may lack it
  return _row(
    row,
    f'{table["data"]["label"]}, nats/step',
    row['words'] if row['words'].startswith(base) else f'{base}: {row["words"]}',
    '–' if paper is None else f'{column["published_factor"] * paper:,.2f}',
    markdown_steps.sequence_mean(results(row, markdown_steps.PAPER[0])),
    row['cpu_seconds'],
  )


def _row(
  row: dict[str, Any], data: str, model: str, paper: str, ours: str, seconds: list[float | None]
) -> Row:
  known = [value for value in seconds if value is not None]
  return Row(
    data,
    model,
    paper,
    ours,
    str(len(row['seeds'])),
    f'`{row["config"]}`',
    f'{row["steps"]:,}',
    format_duration(statistics.fmean(known)) if known else '',
  )
