"""Several commands at a time: order, skipping, failures, signals."""

import signal
import threading
import time

import pytest

from afslvm.reproduction import schedule


def task(code, *marks):
  """A task that is done when the files `marks` are there; `code` sees them as sys.argv."""
  command = ['-c', f'import sys, pathlib, time\n{code}', *map(str, marks)]
  return schedule.Task('test', command, lambda: all(mark.exists() for mark in marks))


TOUCH = 'for name in sys.argv[1:]: pathlib.Path(name).touch()'
WAIT = """
import signal
def stop(number, frame):
  pathlib.Path(sys.argv[1]).write_text(str(number)); sys.exit(128 + number)
signal.signal(signal.SIGTERM, stop); signal.signal(signal.SIGINT, stop)
pathlib.Path(sys.argv[1] + '.ready').touch()
time.sleep(60)
"""


def run(tmp_path, *chains, jobs=2):
  named = [schedule.Chain(f'run-{i}', tasks) for i, tasks in enumerate(chains)]
  return schedule.Schedule(named, jobs, tmp_path / 'logs').run()


def when_there(path, action):
  """Calls `action` in a thread as soon as `path` exists."""

  def watch():
    for _ in range(600):
      if path.exists():
        action()
        return
      time.sleep(0.05)

  threading.Thread(target=watch, daemon=True).start()


def test_tasks_follow_one_another_and_are_skipped_when_done(tmp_path):
  first, second, third = (tmp_path / name for name in ('first', 'second', 'third'))
  second.touch()
  needs = f'assert pathlib.Path({str(first)!r}).exists()\n{TOUCH}'
  fails = 'raise SystemExit(9)'
  chain = [task(TOUCH, first), task(fails, second), task(needs, third)]
  assert run(tmp_path, chain, [task(fails, second)], jobs=1) == 0
  assert third.exists()


def test_a_failure_stops_the_others_and_keeps_its_code(tmp_path):
  waiting, never = tmp_path / 'waiting', tmp_path / 'never'
  ready = tmp_path / 'waiting.ready'
  fails = (
    f'while not pathlib.Path({str(ready)!r}).exists(): time.sleep(0.05)\n'
    'print("error: no data", file=sys.stderr); raise SystemExit(3)'
  )
  chains = [[task(WAIT, waiting)], [task(fails, never), task(TOUCH, never)], [task(TOUCH, never)]]
  assert run(tmp_path, *chains) == 3
  assert waiting.read_text() == str(int(signal.SIGTERM))
  assert not never.exists()
  assert 'error: no data' in (tmp_path / 'logs' / 'run-1.log').read_text()


def test_the_last_words_of_a_failure_are_kept(tmp_path):
  fails = 'print("x" * 100_000); print("error: no data"); raise SystemExit(3)'
  assert run(tmp_path, [task(fails, tmp_path / 'never')]) == 3
  assert (tmp_path / 'logs' / 'run-0.log').read_text().endswith('error: no data\n')


def test_nothing_is_left_running_when_the_loop_breaks(tmp_path):
  mark = tmp_path / 'a'

  def broken():
    while not (tmp_path / 'a.ready').exists():
      time.sleep(0.05)
    raise OSError('disk')

  second = schedule.Task('test', [], broken)
  with pytest.raises(OSError, match='disk'):
    run(tmp_path, [task(WAIT, mark)], [second])
  assert mark.read_text() == str(int(signal.SIGTERM))


@pytest.mark.parametrize('number', schedule.SIGNALS)
def test_signals_are_passed_on(tmp_path, number):
  marks = [tmp_path / 'a', tmp_path / 'b']
  when_there(
    tmp_path / 'a.ready',
    lambda: when_there(tmp_path / 'b.ready', lambda: signal.raise_signal(number)),
  )
  before = signal.signal(number, signal.SIG_DFL)
  try:
    assert run(tmp_path, *([task(WAIT, mark)] for mark in marks)) == 128 + number
    assert signal.getsignal(number) is signal.SIG_DFL
  finally:
    signal.signal(number, before)
  received = signal.SIGTERM if number == signal.SIGHUP else number
  assert [mark.read_text() for mark in marks] == [str(int(received))] * 2


def test_nohup_is_respected(tmp_path):
  mark = tmp_path / 'a'
  before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
  try:
    hangs_up = f'import os, signal; os.kill(os.getppid(), signal.SIGHUP)\n{TOUCH}'
    assert run(tmp_path, [task(hangs_up, mark)]) == 0
  finally:
    signal.signal(signal.SIGHUP, before)
  assert mark.exists()


def test_a_tolerated_failure_ends_its_chain_only(tmp_path):
  never, other = tmp_path / 'never', tmp_path / 'other'
  chains = [[task('raise SystemExit(5)', never), task(TOUCH, never)], [task(TOUCH, other)]]
  named = [schedule.Chain(f'run-{i}', tasks) for i, tasks in enumerate(chains)]
  assert schedule.Schedule(named, 1, tmp_path / 'logs', tolerated={5}).run() == 0
  assert other.exists()
  assert not never.exists()
