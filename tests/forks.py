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
from unittest import mock

IMPORTED = ('afslvm.build', 'afslvm.runs', 'afslvm.data.prepare', 'afslvm.training.loop')
CONTEXT = multiprocessing.get_context('forkserver')
CONTEXT.set_forkserver_preload(list(IMPORTED))


def run(arguments, folder, environment, output, timeout) -> subprocess.CompletedProcess:
  """`python ARGUMENTS` in `folder`; the environment of the first call holds for all.

  Args:
    arguments: a script and its arguments.
    folder: it runs in.
    environment: of the process.
    output: an empty folder for what is printed.
    timeout: in seconds.

  Raises:
    subprocess.TimeoutExpired: it took longer, and was killed.
  """
  out, err = (pathlib.Path(output) / name for name in ('stdout', 'stderr'))
  with mock.patch.dict(os.environ, environment, clear=True):
    process = CONTEXT.Process(target=_run, args=(arguments, folder, out, err))
    process.start()
  process.join(timeout)
  if process.is_alive():
    process.kill()
    process.join()
    raise subprocess.TimeoutExpired(arguments, timeout, out.read_bytes(), err.read_bytes())
  return subprocess.CompletedProcess(arguments, process.exitcode, out.read_text(), err.read_text())


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
