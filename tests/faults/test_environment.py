"""The programs as a user starts them, where the machine lacks something."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from afslvm import cli
from afslvm.data import music_files
from afslvm.errors import PlatformError
from tests.data import test_music

ROOT = pathlib.Path(__file__).resolve().parents[2]
PRINTING = 'from afslvm import cli; cli.run(lambda argv: print("a line\\n" * {lines}))'
FAILING = """
from afslvm import cli
from afslvm.errors import DataError
def main(argv):
  raise DataError('no data')
cli.run(main)
"""


@pytest.mark.parametrize(
  ('code', 'stream', 'expected'),
  [
    (PRINTING.format(lines=1), 'stdout', 0),
    (PRINTING.format(lines=100_000), 'stdout', 0),
    (FAILING, 'stderr', 3),
  ],
)
def test_output_that_nobody_reads(code, stream, expected):
  """As in `| head`."""
  read, write = os.pipe()
  os.close(read)
  with os.fdopen(write, 'w') as closed:
    streams = {'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE, stream: closed}
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, **streams)
  assert done.returncode == expected
  assert not done.stderr
  assert not (stream == 'stderr' and done.stdout)


@pytest.mark.slow
def test_few_files_no_home_no_tensorboard_and_an_odd_path(environment, tmp_path):
  workdir = tmp_path / 'über allem, 100 %'
  workdir.mkdir()
  (workdir / 'tensorboard').write_text('a file where a folder should be')
  without_home = {key: value for key, value in environment.items() if key != 'HOME'}
  options = ('--config=configs/smoke.py', '--config.train.num_steps=4', f'--workdir={workdir}')
  done = subprocess.run(
    ['bash', '-c', 'ulimit -n 64; exec "$@"', '-', sys.executable, 'launch/train.py', *options],
    cwd=ROOT,
    env=without_home,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  assert 'no TensorBoard files' in done.stderr
  assert 'training from step 0 to 4 on 1 cpu device(s)' in done.stderr
  assert 'Traceback' not in done.stderr
  assert (workdir / 'receipt.json').exists()


def test_a_backend_that_is_not_there(launch, tmp_path):
  done = launch(
    'train', '--config=configs/smoke.py', f'--workdir={tmp_path / "run"}', JAX_PLATFORMS='cud'
  )
  assert done.returncode == 6
  assert done.stderr.count('\n') == 1, done.stderr
  assert "'cud'" in done.stderr
  assert 'unset JAX_PLATFORMS' in done.stderr


def test_too_little_memory_names_what_to_lower():
  """What XLA raises for an array that no machine holds."""
  import jax.numpy as jnp

  with pytest.raises(RuntimeError) as caught:
    jnp.zeros((2**46,), jnp.int8).block_until_ready()
  error = cli._platform_error(caught.value)
  assert isinstance(error, PlatformError)
  assert str(error).startswith('out of memory (RESOURCE_EXHAUSTED')
  assert 'lower train.batch_size' in str(error)
  assert '\n' not in str(error)


def test_sources_with_odd_names_and_behind_links(tmp_path):
  folder = tmp_path / 'Ordner mit Ümläuten, und "Zeichen"'
  folder.mkdir()
  test_music.write_npz(folder / 'songs.npz')
  (tmp_path / 'link').symlink_to(folder)
  direct, linked = (
    music_files.read(str(place / 'songs.npz'), (), 1)[0] for place in (folder, tmp_path / 'link')
  )
  for split, songs in direct.items():
    for a, b in zip(songs, linked[split], strict=True):
      np.testing.assert_array_equal(a, b)
