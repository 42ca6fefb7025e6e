"""Which layout a table has: nats per dimension of frames, or nats per step of whole sequences."""

from types import ModuleType
from typing import Any

from afslvm.reproduction import markdown, markdown_steps
from afslvm.reproduction.tables import AF_1, TABLES

Table = dict[str, Any]


def _layout(table: Table) -> ModuleType:
  return markdown_steps if TABLES[table['table']].whole_sequences else markdown


def page(table: Table, has_legend: bool = True) -> str:
  """Returns the whole table: title, legend, numbers, runs, and how to make it again."""
  return _layout(table).page(table, has_legend)


def legends() -> str:
  """Returns what is to be known of all layouts, for a document that has tables of each."""
  frames = f'**Frames** (tables of the AF paper). {markdown.LEGEND}'
  return f'{frames}\n\n**Whole sequences** (tables of the AVF paper). {markdown_steps.LEGEND}'


def name(table: Table) -> str:
  """Of the file that a measured table is kept in: 'kth_small', 'avf_3_jsb_paper'."""
  own = f'{table["dataset"]}_{table["scale"]}'
  return own if table['table'] == AF_1.name else f'{table["table"]}_{own}'
