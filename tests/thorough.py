"""Cases of a law that run only when asked for: `bash launch/test.sh --thorough`.

Whole tests are marked with `pytest.mark.thorough`.
"""

from collections.abc import Collection, Iterable

import pytest


def some_of(cases: Iterable, chosen: Collection) -> list:
  """Parameters of a test: of all `cases` only the chosen run by default.

  Raises:
    ValueError: a chosen case is not there.
  """
  cases = list(cases)
  if missing := [case for case in chosen if case not in cases]:
    raise ValueError(f'no such cases: {missing}')

  def parameter(case):
    values = case if isinstance(case, tuple) else (case,)
    return pytest.param(*values, marks=() if case in chosen else pytest.mark.thorough)

  return list(map(parameter, cases))
