import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]
SMALL = 'num_train=40,num_validation=5,num_test=6'


def start(*flags):
  return subprocess.Popen(
    [sys.executable, 'launch/prepare_data.py', *flags],
    cwd=ROOT,
    env={**os.environ, 'PYTHONPATH': str(ROOT)},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def finish(process):
  stdout, stderr = process.communicate(timeout=60)
  return process.returncode, stdout, stderr


def test_prepares_verifies_reuses_and_repairs(tmp_path):
  flags = ('--dataset=particle', f'--data_dir={tmp_path}', f'--options={SMALL},sigma=0.5')
  code, first, stderr = finish(start(*flags))
  assert (code, stderr) == (0, '')
  rows = [line.split() for line in first.splitlines()]
  assert [row[:4] for row in rows[2:5]] == [
    ['train', '40', '30', '2'],
    ['validation', '5', '30', '2'],
    ['test', '6', '30', '2'],
  ]
  assert [(row[5], row[7]) for row in rows[2:5]] == [('to', '0.1')] * 3
  assert re.fullmatch(r'verified; fingerprint [0-9a-f]{16}', first.splitlines()[-1])

  (path,) = tmp_path.rglob('*-test.array_record*')
  path.write_bytes(path.read_bytes()[:1000])
  code, second, stderr = finish(start(*flags))
  assert (code, second) == (0, first)
  assert stderr.count('\n') == 1
  assert f'{path} has 1000 bytes' in stderr


MISTAKES = [
  (['--dataset=moving_digit'], 2, ['moving_digit', 'did you mean "moving_digits"']),
  (['--dataset=particle', '--options=sigma=-1'], 2, ['sigma=-1', 'above 0']),
  (['--dataset=moving_mnist', '--source=nowhere'], 3, ['nowhere', 'train-images-idx3-ubyte']),
]


def test_mistakes_end_in_one_line(tmp_path):
  running = [start(*flags, f'--data_dir={tmp_path}') for flags, _, _ in MISTAKES]
  for process, (_, code, words) in zip(running, MISTAKES, strict=True):
    found, stdout, stderr = finish(process)
    assert (found, stdout) == (code, '')
    assert stderr.count('\n') == 1
    assert stderr.startswith('error: ')
    assert all(word in stderr for word in words), stderr
