"""Shared fixtures. Everything runs on CPU; subprocesses share one compilation cache."""

import collections
import os
import pathlib
import subprocess
import sys

import pytest

os.environ.setdefault('JAX_PLATFORMS', 'cpu')
SUBPROCESS_ENVIRONMENT = dict(os.environ)
# Tiny shapes compile longer than they run; subprocesses keep the real compiler, unless they say so.
LIGHT_COMPILER = {
  'JAX_DISABLE_MOST_OPTIMIZATIONS': '1',
  'XLA_FLAGS': '--xla_cpu_opt_preset=FAST_COMPILE --xla_cpu_parallel_codegen_split_count=1',
}
os.environ.update(LIGHT_COMPILER)

ROOT = pathlib.Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / 'shared'


def pytest_collection_modifyitems(items):
  """The longest files first, so that two workers end together; a slow test counts as thirty."""
  weights = collections.Counter()
  for item in items:
    weights[item.path] += 30 if item.get_closest_marker('slow') else 1
  items.sort(key=lambda item: -weights[item.path])


@pytest.fixture(autouse=True)
def forget_programs():
  """Frees compiled programs before their memory maps reach what Linux allows a process, 65,530."""
  yield
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
def compiled_programs(session_dir):
  """Environment by which the subprocesses of all workers share what they compile."""
  base = session_dir.parent
  if 'PYTEST_XDIST_WORKER' in os.environ:
    base = base.parent
  return {
    'JAX_COMPILATION_CACHE_DIR': str(base / 'jax_cache'),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
    'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES': '-1',
  }


@pytest.fixture(scope='session')
def environment(session_dir, compiled_programs):
  """Environment of subprocesses: one data folder and one compilation cache for all of them."""
  return {
    **SUBPROCESS_ENVIRONMENT,
    **compiled_programs,
    'TFDS_DATA_DIR': str(session_dir / 'data'),
    'PYTHONPATH': str(ROOT),
  }


@pytest.fixture(scope='session')
def light_environment(environment):
  """For programs that run a few times only: optimising them would take most of the time."""
  return {**environment, **LIGHT_COMPILER}


@pytest.fixture(scope='session')
def launch(environment):
  """Runs `python launch/NAME.py ARGUMENTS` from the repository root, as a user would."""
  return _launcher(environment)


@pytest.fixture(scope='session')
def light_launch(light_environment):
  """`launch` for programs that are many and short."""
  return _launcher(light_environment)


def _launcher(environment):
  def run(name, *arguments, timeout=300, **more_environment):
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
  """A run of `configs/smoke.py`, trained for a few steps."""
  workdir = session_dir / 'smoke_run'
  done = launch(
    'train', '--config=configs/smoke.py', f'--workdir={workdir}', '--config.train.num_steps=20'
  )
  assert done.returncode == 0, done.stderr
  return workdir
