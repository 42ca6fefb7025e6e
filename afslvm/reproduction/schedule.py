"""Several commands at a time, each in a process of its own, with signals passed on to all."""

import dataclasses
import functools
import logging
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from afslvm.reproduction import folders
from afslvm.reproduction.plan import PlannedRun
from afslvm.reproduction.tables import Column
from afslvm.training.progress import format_duration

log = logging.getLogger(__name__)

POLL_SECONDS = 0.1
RELAY_SECONDS = 5.0  # a grandchild could hold the pipe open for ever
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
TRAINING_LINES = ('step ', 'resuming', 'checkpoint ', 'saved ', 'SIG')


@dataclasses.dataclass(frozen=True)
class Task:
  """One command of a run.

  Attributes:
    what: 'train', 'evaluate test', ...
    command: arguments of python.
    is_done: whether its result is there; asked right before it would start.
  """

  what: str
  command: Sequence[str]
  is_done: Callable[[], bool]


@dataclasses.dataclass(frozen=True)
class Chain:
  """Tasks that follow one another."""

  name: str
  tasks: Sequence[Task]


def chain(run: PlannedRun) -> Chain:
  """Training of a run, then every evaluation."""
  train = Task('train', run.train_command(), functools.partial(folders.is_trained, run))
  return Chain(run.name, [train, *evaluations(run, run.columns)])


def evaluations(run: PlannedRun, columns: Sequence[Column]) -> list[Task]:
  """One for each question."""

  def answered(column: Column) -> bool:
    return folders.evaluation(run, column) is not None

  return [
    Task(_in_words(column), run.evaluate_command(column), functools.partial(answered, column))
    for column in columns
  ]


def _in_words(column: Column) -> str:
  if not column.protocol.whole_sequences:
    return f'evaluate {column.split} after {column.context} frames'
  words = f'evaluate {column.split} under {column.rules}'
  if column.iterations is not None:
    words += f' with {column.iterations} inference iterations'
  return words


class _Running(NamedTuple):
  """A task under way."""

  chain: Chain
  index: int
  child: subprocess.Popen
  relay: threading.Thread
  began: float


class Schedule:
  """Runs chains, `jobs` of them at a time.

  When a task fails no other is started, those that run get SIGTERM, after which training saves, and
  `run` returns the exit code of the first that failed. `SIGNALS` of this process are passed on to
  all, and the exit code is 128 + the signal. However `run` ends, no child is left.

  Attributes:
    chains: in the order in which they start.
    jobs: at a time.
    logs: folder for what the commands write, one file per chain.
    tolerated: exit codes that end a chain and nothing else.
  """

  def __init__(
    self,
    chains: Sequence[Chain],
    jobs: int,
    logs: pathlib.Path,
    tolerated: Collection[int] = (),
  ):
    self.chains, self.jobs, self.logs, self.tolerated = list(chains), jobs, logs, tolerated
    self._running: dict[str, _Running] = {}
    self._signal, self._failed = 0, 0
    self._received: list[int] = []
    self._began, self._spent, self._worked = time.monotonic(), 0.0, set[str]()
    self._done = 0
    self._environment = {**keeping_compiled_programs(logs.parent / 'compiled'), **os.environ}

  def run(self) -> int:
    """Returns 0 when all is done, or the exit code."""
    self.logs.mkdir(parents=True, exist_ok=True)
    handlers = {number: signal.signal(number, self._receive) for number in _heeded()}
    waiting = [(chain, 0) for chain in reversed(self.chains)]
    try:
      while self._running or (waiting and not self._stopping):
        while waiting and len(self._running) < self.jobs and not self._stopping:
          self._start(*waiting.pop())
        time.sleep(POLL_SECONDS)
        while self._received:
          number = self._received.pop()
          # Training saves on SIGTERM and SIGINT; a closed terminal is no reason to lose steps.
          self._pass_on(signal.SIGTERM if number == signal.SIGHUP else number)
        waiting += self._collect()
    finally:
      self._pass_on(signal.SIGTERM)  # where something unforeseen ended the loop
      for task in self._running.values():
        task.child.wait()
      for number, handler in handlers.items():
        signal.signal(number, handler)
    return 128 + self._signal if self._signal else self._failed

  @property
  def _stopping(self) -> bool:
    return bool(self._signal or self._failed)

  def _start(self, chain: Chain, index: int):
    """Starts the first task from `index` on that isn't done."""
    while index < len(chain.tasks) and chain.tasks[index].is_done():
      index += 1
    if index == len(chain.tasks):
      self._finish(chain)
      return
    task = chain.tasks[index]
    command = [*_dies_with_us(), sys.executable, *task.command]
    log.info('%s: %s', chain.name, task.what)
    child = subprocess.Popen(
      command,
      env=self._environment,
      stdin=subprocess.DEVNULL,
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
      start_new_session=True,  # a signal reaches it once, from here
    )
    relay = threading.Thread(target=self._relay, args=(chain.name, task, child), daemon=True)
    relay.start()
    self._worked.add(chain.name)
    self._running[chain.name] = _Running(chain, index, child, relay, time.monotonic())

  def _relay(self, name: str, task: Task, child: subprocess.Popen):
    """Keeps all that a command writes; its error and how training goes appear here too."""
    assert child.stdout is not None
    shown = ('error: ', *(TRAINING_LINES if task.what == 'train' else ()))
    with open(self.logs / f'{name}.log', 'a', encoding='utf-8') as file:
      file.write(f'$ {shlex.join(["python", *task.command])}\n')
      for line in child.stdout:
        file.write(line)
        file.flush()
        if line.startswith(shown):
          log.info('%s: %s', name, line.rstrip())

  def _collect(self) -> list[tuple[Chain, int]]:
    """Tasks that may follow those that have ended."""
    following = []
    for name, (chain, index, child, relay, began) in list(self._running.items()):
      code = child.poll()
      if code is None:
        continue
      relay.join(RELAY_SECONDS)  # its last lines say why it ended
      del self._running[name]
      self._spent += time.monotonic() - began
      if code == 0:
        following.append((chain, index + 1))
      elif code in self.tolerated:
        self._finish(chain, f'ended with exit code {code}')
      elif not self._stopping:
        self._failed = code if code > 0 else 128 - code
        task = chain.tasks[index]
        log.error(
          '%s: %s ended with exit code %d; see %s', name, task.what, self._failed,
          self.logs / f'{name}.log',
        )  # fmt: skip
        self._pass_on(signal.SIGTERM)
    return following

  def _finish(self, chain: Chain, how: str = 'done'):
    self._done += 1
    elapsed, left = time.monotonic() - self._began, len(self.chains) - self._done
    worked = len(self._worked & {c.name for c in self.chains}) - len(self._running)
    line = f'{chain.name}: {how}, {self._done} of {len(self.chains)} runs'
    if left and worked > 0:
      remaining = self._spent / worked * left / min(self.jobs, left)
      line += f'; about {format_duration(remaining)} left'
    log.info('%s (%s so far)', line, format_duration(elapsed))

  def _receive(self, number: int, frame: object):
    del frame
    # The loop passes it on, which knows every child; here one might just have been born.
    self._signal = number
    self._received.append(number)

  def _pass_on(self, number: int):
    for task in list(self._running.values()):
      if task.child.poll() is None:
        os.killpg(task.child.pid, number)


def _heeded() -> list[signal.Signals]:
  """`SIGNALS`, without a hang-up that this process is to ignore (nohup)."""
  ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
  return [number for number in SIGNALS if not (ignored and number == signal.SIGHUP)]


def keeping_compiled_programs(folder: pathlib.Path) -> dict[str, str]:
  """Environment in which what one run compiles serves the next; seeds differ in nothing else."""
  return {
    'JAX_COMPILATION_CACHE_DIR': str(folder.absolute()),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
    'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES': '-1',
  }


def _dies_with_us() -> list[str]:
  """kill -9 of this process must not leave a trainer behind, where the system can see to that."""
  return ['setpriv', '--pdeathsig', 'KILL'] if shutil.which('setpriv') else []
