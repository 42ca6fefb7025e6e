"""WORKDIR/table.json and table.md."""

import pathlib
from collections.abc import Sequence
from typing import Any

from afslvm import files
from afslvm.errors import ConfigError
from afslvm.reproduction import pages, table
from afslvm.reproduction.folders import FinishedRun

JSON, MARKDOWN = 'table.json', 'table.md'
# What must be the same for a folder to be continued.
SUBJECT = ('table', 'dataset', 'scale', 'overrides')


def check(workdir: pathlib.Path, about: dict[str, Any]):
  """Raises ConfigError if the folder holds a table about something else."""
  try:
    there = files.read_json(workdir / JSON)
    differing = [key for key in SUBJECT if there[key] != about[key]]
  except (OSError, ValueError, KeyError, TypeError):
    return  # none, or one that will be replaced; the runs are checked one by one
  if differing:
    key = differing[0]
    raise ConfigError(
      f'--workdir={workdir} holds a table with {key}={there[key]!r}, not {about[key]!r}; '
      'use another --workdir'
    )


def read(workdir: pathlib.Path) -> dict[str, Any]:
  """The table of a folder.

  Raises:
    ConfigError: there is none.
  """
  try:
    found = files.read_json(workdir / JSON)
    _ = [found[key] for key in SUBJECT]
  except (OSError, ValueError, KeyError):
    raise ConfigError(
      f'{workdir} holds no {JSON}; make a table there first: python launch/reproduce.py '
      f'--table=NAME --dataset=NAME --workdir={workdir}'
    ) from None
  return found


def _commands(workdir: pathlib.Path, last: str) -> list[str]:
  """All that made the table: those that are written in it, and the last."""
  try:
    earlier = files.read_json(workdir / JSON)['commands']
  except (OSError, ValueError, KeyError, TypeError):
    earlier = []
  return [*(command for command in earlier if command != last), last]


def write(
  workdir: pathlib.Path, runs: Sequence[FinishedRun], about: dict[str, Any], command: str
) -> str:
  """Writes both files and returns the table as text; `command` is added to those that made it.

  Raises:
    ContractError: results that don't compare.
  """
  values = table.build(runs, {**about, 'commands': _commands(workdir, command)})
  text = pages.page(values)
  files.write_json(workdir / JSON, values)
  (workdir / MARKDOWN).write_text(text, encoding='utf-8')
  return text
