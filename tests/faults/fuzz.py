"""Damages files and looks at what their readers say.

  python -m tests.faults.fuzz --count=10000
  python -m tests.faults.fuzz --count=1000 --reader=midi --reader=wav --seed=7

Run it in the repository. A reader either raises one of this library's errors, in one line, or its
result is that of the intact file, or, where the format has no checksums, that of another valid file
(`Reader.valid`). Anything else ends with the smallest damage that does it. Exit code 1 if there is
any.
"""

import collections
import logging
import pathlib
import tempfile
import time

import hypothesis
import numpy as np
from absl import flags
from hypothesis import strategies

from afslvm import cli
from afslvm.errors import AfslvmError
from tests.faults import damage, readers


def plain(value):
  """Nested values with arrays as bytes, so that two results can be compared."""
  if isinstance(value, np.ndarray):
    return value.dtype.str, value.shape, value.tobytes()
  if isinstance(value, dict):
    return {key: plain(inner) for key, inner in value.items()}
  if isinstance(value, list | tuple):
    return [plain(inner) for inner in value]
  return value


def check(reader, folder, count, seed=0):
  """Reads `count` damaged inputs.

  Args:
    reader: one of `readers.ALL`.
    folder: an empty one.
    count: how many.
    seed: of the damages.

  Returns:
    How many were 'refused', the 'same' as the intact one, or 'another valid' one.

  Raises:
    AssertionError: a wrong result, or an error of more than one line.
    Exception: whatever the reader raised that isn't an error of this library.
  """
  names = reader.make(folder)
  contents = {name: (folder / name).read_bytes() for name in names}
  intact = plain(reader.read(folder))
  counts: collections.Counter = collections.Counter()

  @hypothesis.seed(seed)
  @hypothesis.settings(
    max_examples=count,
    database=None,
    deadline=None,
    suppress_health_check=list(hypothesis.HealthCheck),
  )
  @hypothesis.given(data=strategies.data())
  def run(data):
    for name, content in contents.items():
      (folder / name).write_bytes(content)
    name = data.draw(strategies.sampled_from(names)) if len(names) > 1 else names[0]
    (folder / name).write_bytes(data.draw(damage.damaged(contents[name])))
    counts[outcome(reader, folder, intact)] += 1

  run()
  return counts


def outcome(reader, folder, intact):
  """Reads once; see `check`."""
  try:
    found = reader.read(folder)
  except AfslvmError as error:
    check_message(str(error))
    return 'refused'
  if plain(found) == intact:
    return 'same'
  assert reader.valid is not None, 'a checksum should have told'
  assert reader.valid(found), f'a wrong result: {found!r:.500}'
  return 'another valid'


def check_message(message):
  """One line, and not the whole file."""
  assert '\n' not in message, message
  assert len(message) < 2000, message


def main(argv):
  """Returns 0 if every reader held."""
  del argv
  logging.disable(logging.CRITICAL)
  chosen = cli.FLAGS.reader or list(readers.ALL)
  failed = []
  print(f'{"reader":20} {"refused":>8} {"same":>8} {"other":>8} {"seconds":>8}')
  for name in chosen:
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
      try:
        counts = check(readers.ALL[name], pathlib.Path(folder), cli.FLAGS.count, cli.FLAGS.seed)
      except Exception as error:  # whatever a reader raised: the others are tried all the same
        failed.append(name)
        print(f'{name:20} FAILED: {type(error).__name__}: {error!s:.300}')
        continue
    shown = ' '.join(f'{counts[kind]:8}' for kind in ('refused', 'same', 'another valid'))
    print(f'{name:20} {shown} {time.monotonic() - begun:8.1f}', flush=True)
  print(f'{len(failed)} of {len(chosen)} readers failed')
  return int(bool(failed))


if __name__ == '__main__':
  flags.DEFINE_integer('count', 10_000, 'Damaged inputs for every reader.', lower_bound=1)
  flags.DEFINE_integer('seed', 0, 'Of the damages.')
  flags.DEFINE_multi_enum('reader', [], list(readers.ALL), 'Which; all by default.')
  cli.run(main)
