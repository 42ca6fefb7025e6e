"""Every fenced command of the README runs, in smoke size, block by block."""

import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
README = (ROOT / 'README.md').read_text()
BLOCKS = re.findall(r'^```bash\n(.*?)^```$', README, re.MULTILINE | re.DOTALL)
SHALLOW = ('model.conditioner.encoder_depth=1', 'model.conditioner.decoder_depth=1')
SHALLOW_MODEL = ' '.join(f'--config.{value}' for value in SHALLOW)
SHALLOW_PAIR = ' '.join(
  f'--override={value}' for value in (*SHALLOW, *(f'model.base.{v[6:]}' for v in SHALLOW))
)
FEW = ' '.join(f'--override=data.num_{split}=32' for split in ('train', 'validation', 'test'))
SMOKE = {
  'launch/train.py': f'--config.train.num_steps=4 --config.train.eval_every=0 {SHALLOW_MODEL}',
  'launch/test.sh': '--collect-only -q tests/test_cli.py',
  'launch/reproduce.py --table': (
    f'--scale=quick --rows=af2 --seeds=1 --override=train.num_steps=4 {SHALLOW_PAIR} {FEW}'
  ),
  'launch/reproduce.py --figure': '--model=af2',
  'launch/evaluate.py': '--num_sequences=32',
  'launch/benchmark.py': f'--seconds=0.1 {SHALLOW_MODEL}',
  'launch/generate.py': '--num_sequences=2 --num_samples=2 --num_frames=3',
}


@pytest.fixture(scope='module')
def mnist(tmp_path_factory):
  """MNIST-shaped digits where the README says mnist.npz."""
  path = tmp_path_factory.mktemp('mnist') / 'mnist.npz'
  rng = np.random.default_rng(0)

  def digits(count):
    images = np.zeros((count, 28, 28), np.uint8)
    images[:, 6:22, 10:18] = rng.integers(100, 255, (1, 16, 8))
    return images

  np.savez_compressed(
    path,
    x_train=digits(60_000),
    y_train=np.zeros(60_000, np.uint8),
    x_test=digits(10_000),
    y_test=np.zeros(10_000, np.uint8),
  )
  return path


def smoke_size(command):
  for name, options in SMOKE.items():
    command = re.sub(rf'({re.escape(name)}[^\n;#]*?)(\s*(?:#|;|\n|$))', rf'\1 {options}\2', command)
  return command


@pytest.mark.slow
@pytest.mark.parametrize('block', BLOCKS, ids=[block.split('\n')[0][:40] for block in BLOCKS])
def test_fenced_commands_run(block, environment, mnist, tmp_path):
  small = block.replace('mnist.npz', str(mnist)).replace('in 0 1 2', 'in 0')
  script = smoke_size(small).replace('runs/', f'{tmp_path}/')
  path = f'{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'
  done = subprocess.run(
    ['bash', '-euo', 'pipefail', '-c', script],
    cwd=ROOT,
    env={**environment, 'AFSLVM_SMOKE': '1', 'PATH': path},
    capture_output=True,
    text=True,
    timeout=900,
  )
  assert done.returncode == 0, f'{script}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}'


def test_there_are_commands_to_run():
  assert BLOCKS


def test_files_that_the_readme_names_exist():
  links = re.findall(r'\]\(([^)#:]+)\)', README)
  named = re.findall(r'`((?:configs|launch|docs|colabs|tests)/[\w./]+\.\w+)', README)
  assert links
  for name in {*links, *named}:
    assert (ROOT / name).exists(), f'README names {name}, which is not there'
