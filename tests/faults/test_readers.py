"""Every reader of files on 20 damaged inputs; 200 if thorough, 10,000 by `tests.faults.fuzz`."""

import pytest

from tests.faults import fuzz, readers


@pytest.mark.parametrize('name', readers.ALL)
def test_damaged_files_are_refused_in_one_line_or_read_right(name, tmp_path, pytestconfig):
  count = 200 if pytestconfig.getoption('--thorough') else 20
  counts = fuzz.check(readers.ALL[name], tmp_path, count)
  assert sum(counts.values()) >= count
  assert counts['same'] < count
