"""Shared fixtures. Everything runs on CPU; subprocesses share what they compile."""

import collections
import gc
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import pytest

from tests import forks

os.environ.setdefault('JAX_PLATFORMS', 'cpu')
LIGHT_FLAGS = '--xla_cpu_opt_preset=FAST_COMPILE --xla_cpu_parallel_codegen_split_count=1'
REAL_COMPILER = {
  'JAX_DISABLE_MOST_OPTIMIZATIONS': '0',
  # Workers inherit what is set below.
  'XLA_FLAGS': os.environ.get('XLA_FLAGS', '').replace(LIGHT_FLAGS, '').strip(),
}
# Tiny shapes compile longer than they run.
os.environ.update(
  JAX_DISABLE_MOST_OPTIMIZATIONS='1',
  XLA_FLAGS=f'{REAL_COMPILER["XLA_FLAGS"]} {LIGHT_FLAGS}',
  JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS='0.3',
  JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES='-1',
  OPENBLAS_NUM_THREADS='1',  # NumPy's threads wait busily for work, on the cores of two workers
)
# Tracing makes so many objects that looking for cycles in them takes a tenth of the time.
gc.set_threshold(100_000, 20, 20)

LAST_LOOK = pytest.StashKey[float]()  # at the memory maps, in CPU seconds

ROOT = pathlib.Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / 'shared'


def pytest_addoption(parser):
  parser.addoption('--thorough', action='store_true', help='run every test')


def pytest_configure(config):
  """A compilation cache for the subprocesses of this run, which workers find in their environment.

  They themselves compile nothing twice, and writing programs would take a twentieth of their time.
  """
  if 'PYTEST_XDIST_WORKER' not in os.environ:
    folder = tempfile.TemporaryDirectory(prefix='afslvm_programs_')
    config.add_cleanup(folder.cleanup)
    os.environ.update(AFSLVM_TEST_PROGRAMS=folder.name, JAX_COMPILATION_CACHE_DIR='')


def pytest_collection_modifyitems(config, items):
  """The longest files first, so that two workers end together; a slow test counts as thirty.

  But before them the one whose programs others find in the cache.
  """
  if not config.getoption('--thorough'):
    further = [item for item in items if item.get_closest_marker('thorough')]
    config.hook.pytest_deselected(items=further)
    items[:] = [item for item in items if not item.get_closest_marker('thorough')]
  weights = collections.Counter()
  for item in items:
    weights[item.path] += 30 if item.get_closest_marker('slow') else 1
  items.sort(key=lambda item: (item.path.name != 'test_readme.py', -weights[item.path]))


def pytest_runtest_teardown(item):
  """Frees compiled programs before their memory maps reach what Linux allows a process, 65,530.

  Seldom, for a list of so many takes tens of milliseconds to read.
  """
  if time.process_time() - item.config.stash.setdefault(LAST_LOOK, 0.0) < 5:
    return
  item.config.stash[LAST_LOOK] = time.process_time()
  maps = pathlib.Path('/proc/self/maps')
  if 'jax' in sys.modules and maps.exists() and maps.read_bytes().count(b'\n') > 45_000:
    sys.modules['jax'].clear_caches()


@pytest.fixture(scope='session')
def shared_data():
  """Real data beside the checkout; tests that need it skip where it is missing."""
  folder = SHARED / 'data'
  if not folder.is_dir():
    pytest.skip('needs the real data of ../shared/data, which is not beside this checkout')
  return folder


@pytest.fixture(scope='session')
def session_dir(tmp_path_factory):
  """A folder for what several tests use: prepared data, compiled programs."""
  return tmp_path_factory.mktemp('session')


@pytest.fixture(scope='session')
def environment(session_dir):
  """Environment of subprocesses: one data folder for all of them, and one of compiled programs."""
  return {
    **os.environ,
    'JAX_COMPILATION_CACHE_DIR': os.environ['AFSLVM_TEST_PROGRAMS'],
    'TFDS_DATA_DIR': str(session_dir / 'data'),
    'PYTHONPATH': str(ROOT),
  }


@pytest.fixture(scope='module')
def kept_programs():
  """What the worker itself compiles is kept, too: for tests that train the same model again."""
  import jax
  from jax.experimental.compilation_cache import compilation_cache

  for folder in (os.environ['AFSLVM_TEST_PROGRAMS'], None):
    compilation_cache.reset_cache()
    jax.config.update('jax_compilation_cache_dir', folder)
    if folder:
      yield


@pytest.fixture(scope='session')
def launch(environment):
  """Runs `python launch/NAME.py ARGUMENTS` from the repository root, as a user would."""

  def run(name, *arguments, timeout=300, **more_environment):
    if not more_environment:
      script = [f'launch/{name}.py', *map(str, arguments)]
      return forks.run(script, ROOT, environment, timeout)
    return subprocess.run(
      [sys.executable, f'launch/{name}.py', *map(str, arguments)],
      cwd=ROOT,
      env={**environment, **more_environment},
      capture_output=True,
      text=True,
      timeout=timeout,
    )

  return run


@pytest.fixture(scope='session')
def smoke_run(launch, session_dir):
  """A run of `configs/smoke.py`, trained for a few steps, optimised as users' are."""
  workdir = session_dir / 'smoke_run'
  arguments = '--config=configs/smoke.py', '--config.train.num_steps=20', f'--workdir={workdir}'
  done = launch('train', *arguments, **REAL_COMPILER)
  assert done.returncode == 0, done.stderr
  return workdir
