import re

import pytest

SMALL = 'num_train=40,num_validation=5,num_test=6'


def test_prepares_verifies_reuses_and_repairs(launch, tmp_path):
  flags = ('--dataset=particle', f'--data_dir={tmp_path}', f'--options={SMALL},sigma=0.5')
  first = launch('prepare_data', *flags)
  assert (first.returncode, first.stderr) == (0, '')
  lines = first.stdout.splitlines()
  rows = [line.split() for line in lines]
  assert [row[:4] for row in rows[2:5]] == [
    ['train', '40', '30', '2'],
    ['validation', '5', '30', '2'],
    ['test', '6', '30', '2'],
  ]
  assert [(row[5], row[7]) for row in rows[2:5]] == [('to', '0.1')] * 3
  assert re.fullmatch(r'verified; fingerprint [0-9a-f]{16}', lines[-1])

  (path,) = tmp_path.rglob('*-test.array_record*')
  path.write_bytes(path.read_bytes()[:1000])
  second = launch('prepare_data', *flags)
  assert (second.returncode, second.stdout) == (0, first.stdout)
  assert second.stderr.count('\n') == 1
  assert f'{path} has 1000 bytes' in second.stderr


@pytest.mark.parametrize(
  ('flags', 'code', 'words'),
  [
    (['--dataset=moving_digit'], 2, ['moving_digit', 'did you mean "moving_digits"']),
    (['--dataset=particle', '--options=sigma=-1'], 2, ['sigma=-1', 'above 0']),
    (['--dataset=moving_mnist', '--source=nowhere'], 3, ['nowhere', 'train-images-idx3-ubyte']),
  ],
)
def test_mistakes_end_in_one_line(flags, code, words, launch, tmp_path):
  done = launch('prepare_data', *flags, f'--data_dir={tmp_path}')
  assert (done.returncode, done.stdout) == (code, '')
  assert done.stderr.count('\n') == 1
  assert done.stderr.startswith('error: ')
  assert all(word in done.stderr for word in words), done.stderr
