import fcntl
import os
import pathlib
import resource
import subprocess
import sys
import threading
import time

import pytest

from afslvm.data import prepare
from afslvm.data.moving_digits import MovingDigits
from afslvm.errors import DataError, PlatformError

ROOT = pathlib.Path(__file__).parents[2]
SMALL = {'num_train': 70, 'num_validation': 9, 'num_test': 11}


def one_line(caught, *words):
  message = str(caught.value)
  assert '\n' not in message
  assert all(word in message for word in words), message


def folder(builder):
  return pathlib.Path(builder.data_dir)


# ---- interrupted and concurrent preparation ------------------------------------------------------


def leftovers(root):
  return [p for p in pathlib.Path(root).rglob('*') if 'staging' in p.name or 'incomplete' in p.name]


def test_failure_half_way_leaves_no_data(tmp_path, monkeypatch):
  original = MovingDigits.draw

  def fails(self, split, num, rng):
    if split == 'test':
      raise DataError('the digits ran out')
    return original(self, split, num, rng)

  builder = MovingDigits(str(tmp_path), **SMALL)
  monkeypatch.setattr(MovingDigits, 'draw', fails)
  with pytest.raises(DataError, match='ran out'):
    prepare.prepare(builder)
  assert not folder(builder).exists()
  assert not leftovers(tmp_path)
  monkeypatch.undo()
  prepare.prepare(builder)


def python(code, *arguments, **options):
  return subprocess.Popen(
    [sys.executable, '-c', code, *map(str, arguments)],
    env={**os.environ, 'PYTHONPATH': str(ROOT)},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    **options,
  )


HANGS = """
import sys, time
from afslvm.data import prepare
from afslvm.data.moving_digits import MovingDigits
class Slow(MovingDigits):
  name = 'moving_digits'
  def draw(self, split, num, rng):
    if split == 'test':
      print('writing', flush=True)
      time.sleep(60)
    return super().draw(split, num, rng)
prepare.prepare(Slow(sys.argv[1], num_train=70, num_validation=9, num_test=11))
"""


@pytest.mark.thorough  # a failure half-way leaves the same
def test_killed_preparation_is_started_over(tmp_path):
  builder = MovingDigits(str(tmp_path), **SMALL)
  process = python(HANGS, tmp_path)
  assert process.stdout.readline() == 'writing\n'
  assert leftovers(tmp_path)
  assert not folder(builder).exists()
  process.kill()
  process.communicate()
  assert len(prepare.open_split(builder, 'train')) == 70
  prepare.verify(builder)
  assert not leftovers(tmp_path)


CONCURRENT = """
import sys
from afslvm.data import prepare
from afslvm.data.moving_digits import MovingDigits
builder = MovingDigits(sys.argv[1], num_train=1500, num_validation=9, num_test=11)
builder.report = print
prepare.prepare(builder)
print(prepare.fingerprint(builder), 'tensorflow' in sys.modules)
"""


@pytest.mark.thorough  # `test_waits_for_another_process` has the law
def test_concurrent_preparations_agree(tmp_path):
  processes = [python(CONCURRENT, tmp_path) for _ in range(2)]
  outputs = [process.communicate() for process in processes]
  assert [process.returncode for process in processes] == [0, 0], outputs
  assert len({stdout.splitlines()[-1] for stdout, _ in outputs}) == 1
  assert outputs[0][0].endswith(' False\n')  # TensorFlow was never imported
  assert not leftovers(tmp_path)
  assert all(not stderr for _, stderr in outputs), outputs


def test_waits_for_another_process(tmp_path, monkeypatch):
  builder = MovingDigits(str(tmp_path), **SMALL)
  folder(builder).parent.mkdir(parents=True)
  said = []
  builder.report = said.append
  with open(folder(builder).parent / '.lock', 'w') as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    thread = threading.Thread(target=prepare.prepare, args=(builder,))
    thread.start()
    deadline = time.monotonic() + 20
    while not said and time.monotonic() < deadline:
      time.sleep(0.01)
    assert 'waiting for another process' in said[0]
    assert not folder(builder).exists()
  thread.join(20)
  prepare.verify(builder)


# ---- directories that can't be written -----------------------------------------------------------


def test_data_dir_that_is_a_file(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(PlatformError) as caught:
    prepare.prepare(MovingDigits(str(tmp_path / 'file'), **SMALL))
  one_line(caught, str(tmp_path / 'file'), '--data_dir')


def test_full_disk(tmp_path):
  builder = MovingDigits(str(tmp_path), **SMALL)
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (70_000, limits[1]))
  try:
    with pytest.raises(PlatformError) as caught:
      prepare.prepare(builder)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  one_line(caught, "moving_digits: can't write", 'File too large', 'free some space')
  assert not folder(builder).exists()
  assert not leftovers(tmp_path)
