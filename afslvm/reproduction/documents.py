"""Documents whose tables are generated: docs/results.md, and the table of results in the README.

Measured tables lie in docs/results/NAME.json, each a `table.json` of `launch/reproduce.py`. What a
person has to say about one lies in NAME.md beside it; a NAME.md without a table is a section of its
own at the end of the page. In the README the rows to show are named in a comment,

    <!-- results
    avf_3_jsb_paper: direct avf1
    -->
    <!-- /results -->

and the table stands between its two marks.
"""

import pathlib
import re
import shutil
from typing import Any

from afslvm import files
from afslvm.errors import ConfigError, nearest
from afslvm.reproduction import markdown, pages, selection

TABLES, PAGE = pathlib.Path('docs/results'), pathlib.Path('docs/results.md')
DOCUMENTS = (pathlib.Path('README.md'),)
MARKED = re.compile(r'(<!-- results\n(.*?)-->\n).*?(<!-- /results -->)', re.DOTALL)
INTRODUCTION = f"""# Measured tables

Made by `python launch/results.py` from the files in `docs/results/`, which are tables as
`launch/reproduce.py` writes them; a test says that they agree.

## How to read them

{pages.legends()}
"""


def generated(root: pathlib.Path) -> dict[pathlib.Path, str]:
  """Returns every document as it should be, by path below `root`.

  Raises:
    ConfigError: a table that can't be read, or a mark that names none.
  """
  tables = {path.stem: read(path) for path in sorted((root / TABLES).glob('*.json'))}
  notes = {path.stem: _note(path) for path in sorted((root / TABLES).glob('*.md'))}
  parts = [_section(name, table, notes.pop(name, '')) for name, table in tables.items()]
  documents = {PAGE: '\n'.join([INTRODUCTION, *parts, *notes.values()])}
  for path in DOCUMENTS:
    documents[path] = filled((root / path).read_text(encoding='utf-8'), tables, path)
  return documents


def _note(path: pathlib.Path) -> str:
  """Returns what a person wrote, without white space around it."""
  return f'{path.read_text(encoding="utf-8").strip()}\n'


def _section(name: str, table: dict[str, Any], note: str) -> str:
  """Returns a table's page as a section, the note below its title.

  A table that lies beside the one that its title says is told apart by the name of its file.
  """
  title, _, rest = pages.page(table, has_legend=False).rstrip().partition('\n')
  title = title if name == pages.name(table) else f'{title} (`{name}`)'
  return '\n'.join([f'#{title}', *(['', note.rstrip()] if note else []), f'{rest}\n'])


def filled(text: str, tables: dict[str, Any], path: pathlib.Path) -> str:
  """Returns `text` with every marked place made anew.

  Raises:
    ConfigError: a mark names a table or a row that isn't there.
  """

  def replace(match: re.Match) -> str:
    rows = [row for line in match[2].splitlines() for row in chosen(line)]
    return f'{match[1]}{selection.rendered(rows)}\n{match[3]}'

  def chosen(line: str) -> list[selection.Row]:
    name, _, rows = (word.strip() for word in line.partition(':'))
    if name not in tables:
      raise ConfigError(
        f'{path} asks for results of {name}, and there is no {TABLES}/{name}.json'
        f'{nearest(name, tables)}'
      )
    there = [row['row'] for row in tables[name]['rows'] if 'row' in row]
    for row in rows.split():
      if row not in there:
        raise ConfigError(
          f'{path} asks for row {row} of {name}, which has {", ".join(there)}{nearest(row, there)}'
        )
    return selection.rows(tables[name], rows.split())

  return MARKED.sub(replace, text)


def read(path: pathlib.Path) -> dict[str, Any]:
  """A table.

  Raises:
    ConfigError: missing, or no table.
  """
  try:
    table = files.read_json(path)
    pages.page(table)
  except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
    raise ConfigError(
      f'{path} is no table of launch/reproduce.py ({type(error).__name__}: {error})'
    ) from error
  return table


def differing(root: pathlib.Path) -> dict[pathlib.Path, str]:
  """The documents that are not as they should be, as they should be."""
  return {
    path: text
    for path, text in generated(root).items()
    if not (root / path).exists() or (root / path).read_text(encoding='utf-8') != text
  }


def write(root: pathlib.Path) -> list[pathlib.Path]:
  """Writes the documents that differ, and returns their paths below `root`."""
  changed = differing(root)
  for path, text in changed.items():
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text, encoding='utf-8')
  return list(changed)


def add(root: pathlib.Path, source: pathlib.Path) -> pathlib.Path:
  """Keeps a measured table as docs/results/NAME.json, see `pages.name`.

  Raises:
    ConfigError: no table, one of `quick` scale or of changed configs, or one that lacks a run of
      the table that it would replace.
  """
  table = read(source)
  if markdown.is_trial(table):
    raise ConfigError(f'{source} is of scale quick, which measures nothing')
  if table['overrides']:
    raise ConfigError(
      f'{source} was made with --override={table["overrides"][0]}; only tables of the configs as '
      'they are can be kept'
    )
  place = root / TABLES / f'{pages.name(table)}.json'
  if place.exists() and (lost := sorted(_runs(read(place)) - _runs(table))):
    raise ConfigError(
      f'{source} has no {lost[0]}, which {place} has; train it too, or delete that file first'
    )
  place.parent.mkdir(parents=True, exist_ok=True)
  shutil.copyfile(source, place)
  return place


def _runs(table: dict[str, Any]) -> set[str]:
  """Its runs by name: 'slvm-0'."""
  return {f'{row["row"]}-{seed}' for row in table['rows'] for seed in row['seeds']}
