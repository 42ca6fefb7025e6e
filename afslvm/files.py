"""Writing files so that a kill or a full disk never leaves half of one."""

import json
import os
import pathlib
from typing import Any


def write_json(path: pathlib.Path, value: Any):
  """Writes JSON so that a reader sees the old file or the new one, never half of it."""
  temporary = path.with_name(path.name + '.tmp')
  with open(temporary, 'w') as file:
    json.dump(value, file, indent=1, allow_nan=False)
    file.flush()
    os.fsync(file.fileno())
  temporary.replace(path)
