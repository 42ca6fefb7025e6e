"""Scripts in forks of a process that has imported what they need, which takes most of their time.

The process has no threads and no devices, so its forks are as new ones, but for what is imported.
"""

import atexit
import multiprocessing
import os
import pathlib
import runpy
import subprocess
import sys
import tempfile
from unittest import mock

IMPORTED = ('afslvm.building', 'afslvm.runs', 'afslvm.data.prepare', 'afslvm.training.loop')
CONTEXT = multiprocessing.get_context('forkserver')
CONTEXT.set_forkserver_preload(list(IMPORTED))


class Fork:
  """`python ARGUMENTS`, with what tests use of `subprocess.Popen`.

  Args:
    arguments: a script and its arguments.
    folder: it runs in.
    environment: of the process; that of the first fork holds for all.
  """

  def __init__(self, arguments, folder, environment):
    self.arguments, self._printed = arguments, tempfile.TemporaryDirectory()
    self._paths = [pathlib.Path(self._printed.name) / name for name in ('stdout', 'stderr')]
    for path in self._paths:
      path.touch()  # it may be killed before it prints
    with mock.patch.dict(os.environ, environment, clear=True):
      self._process = CONTEXT.Process(target=_run, args=(arguments, folder, *self._paths))
      self._process.start()

  @property
  def pid(self):
    return self._process.pid

  @property
  def returncode(self):
    return self._process.exitcode

  def poll(self):
    return self.returncode

  def send_signal(self, number):
    if self.poll() is None:
      os.kill(self.pid, number)

  def kill(self):
    self._process.kill()

  def wait(self, timeout=None):
    self._process.join(timeout)
    if self.poll() is None:
      raise subprocess.TimeoutExpired(self.arguments, timeout)
    return self.returncode

  def communicate(self, timeout=None):
    """What was printed, and logged, when it has ended."""
    self.wait(timeout)
    return tuple(path.read_text() for path in self._paths)


def run(arguments, folder, environment, timeout) -> subprocess.CompletedProcess:
  """Waits for a `Fork`; one that takes longer than `timeout` seconds is killed."""
  fork = Fork(arguments, folder, environment)
  try:
    printed = fork.communicate(timeout)
  finally:
    fork.kill()
  return subprocess.CompletedProcess(arguments, fork.returncode, *printed)


def _run(arguments, folder, out, err):
  os.chdir(folder)
  for stream, path, mode in ((0, os.devnull, 'r'), (1, out, 'w'), (2, err, 'w')):
    with open(path, mode) as file:
      os.dup2(file.fileno(), stream)
  sys.argv = arguments
  try:
    runpy.run_path(arguments[0], run_name='__main__')
  finally:
    atexit._run_exitfuncs()
