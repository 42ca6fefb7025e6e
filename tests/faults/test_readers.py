"""Every reader of files on 200 damaged inputs; `python -m tests.faults.fuzz` takes 10,000."""

import pytest

from tests.faults import fuzz, readers


@pytest.mark.parametrize('name', readers.ALL)
def test_damaged_files_are_refused_in_one_line_or_read_right(name, tmp_path):
  counts = fuzz.check(readers.ALL[name], tmp_path, count=200)
  assert sum(counts.values()) >= 200
  assert counts['same'] < 200
