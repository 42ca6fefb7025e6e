"""`docs/equations.md`, the code and the tests speak of the same equations."""

import ast
import importlib
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
ROWS = [
  [cell.strip() for cell in line.strip('|').split('|')]
  for line in (ROOT / 'docs' / 'equations.md').read_text(encoding='utf-8').splitlines()
  if line.startswith('|') and '`' in line
]
NUMBERS = r'\d+(?:[-–]\d+)?(?:(?:, | and )\d+(?:[-–]\d+)?)*'
# 'AVF Eq. 13' is of another paper than 'Eq. 13'. The AF paper's own name may stand before, too.
CITATION = re.compile(rf'(?:\b(AVF|thesis) )?\bEqs?\. ({NUMBERS})')
APPENDIX = re.compile(r'(?:\b(AVF|thesis) )?\b(Appendix [A-Z])\b')


def cited(text):
  """{(paper, 'Eq. 5'), …} in a text, ranges and lists expanded."""
  found = {(paper or 'AF', appendix) for paper, appendix in APPENDIX.findall(text)}
  for paper, numbers in CITATION.findall(text):
    for part in re.split(r', | and ', numbers):
      first, _, last = part.replace('–', '-').partition('-')
      found |= {(paper or 'AF', f'Eq. {n}') for n in range(int(first), int(last or first) + 1)}
  return found


MAPPED = set().union(*(cited(row[0]) for row in ROWS))


def named(column):
  """Everything in backticks in one column of the map."""
  return sorted({name for row in ROWS for name in re.findall(r'`([^`]+)`', row[column])})


def resolve(path):
  """The object that 'package.module.Class.method' names."""
  parts = path.split('.')
  for end in range(len(parts), 0, -1):
    try:
      found = importlib.import_module('.'.join(parts[:end]))
    except ModuleNotFoundError:
      continue
    for name in parts[end:]:
      found = getattr(found, name)
    return found
  raise ModuleNotFoundError(path)


def test_the_map_is_a_map():
  assert ROWS
  assert all(len(row) == 4 for row in ROWS)
  assert all(re.search('`afslvm', row[2]) and re.search('`tests/', row[3]) for row in ROWS)


@pytest.mark.parametrize('path', named(2))
def test_function_exists(path):
  assert path.startswith('afslvm.')
  found = resolve(path)
  assert found.__doc__, f'{path} has no docstring'


@pytest.mark.parametrize('test', named(3))
def test_test_exists(test):
  file, _, name = test.partition('::')
  tree = ast.parse((ROOT / file).read_text(encoding='utf-8'))
  assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_citations_are_read():
  text = 'Eq. 5-7, 15; AVF Eq. 13 and 14; see Eqs. 20 and 22 of the AF paper, thesis Appendix B'
  assert cited(text) == {
    *(('AF', f'Eq. {n}') for n in (5, 6, 7, 15, 20, 22)),
    *(('AVF', f'Eq. {n}') for n in (13, 14)),
    ('thesis', 'Appendix B'),
  }


def test_every_equation_cited_in_the_code_is_in_the_map():
  missing, found = {}, set()
  for file in sorted((ROOT / 'afslvm').rglob('*.py')):
    citations = cited(file.read_text(encoding='utf-8'))
    found |= citations
    if citations - MAPPED:
      missing[str(file.relative_to(ROOT))] = sorted(citations - MAPPED)
  assert found
  assert not missing


def test_the_papers_equations_that_are_built_have_a_row():
  expected = {*range(5, 16), 20, 21, 22}
  assert {('AF', f'Eq. {n}') for n in expected} | {('AF', 'Appendix B')} <= MAPPED
