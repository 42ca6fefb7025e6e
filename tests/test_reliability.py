"""The tests that `docs/reliability.md` names exist."""

import ast
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGE = (ROOT / 'docs' / 'reliability.md').read_text(encoding='utf-8')


def test_named_tests_exist():
  named = set(re.findall(r'`([\w/]+\.py)::(\w+)`', PAGE))
  assert named
  functions = {}
  for file in {file for file, _ in named}:
    tree = ast.parse((ROOT / 'tests' / file).read_text(encoding='utf-8'))
    functions[file] = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
  assert not [(file, name) for file, name in named if name not in functions[file]]
