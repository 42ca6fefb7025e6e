"""The table of faults names tests that exist, and no fault is left out."""

import ast
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGE = (ROOT / 'docs' / 'reliability.md').read_text(encoding='utf-8')


def test_every_fault_has_a_row():
  rows = re.findall(r'^\| (\d+) \|', PAGE, re.MULTILINE)
  assert [int(n) for n in rows] == list(range(1, 55))


def test_named_tests_exist():
  named = set(re.findall(r'`([\w/]+\.py)::(\w+)`', PAGE))
  assert len(named) > 50
  functions = {}
  for file in {file for file, _ in named}:
    tree = ast.parse((ROOT / 'tests' / file).read_text(encoding='utf-8'))
    functions[file] = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
  assert not [(file, name) for file, name in named if name not in functions[file]]
