"""Sound files for tests, and what is said about bad ones."""

import numpy as np
import pytest
import soundfile

from afslvm.errors import DataError

RATE = 16_000


def noise(count, seed=0, scale=3000, mean=40):
  rng = np.random.default_rng(seed)
  return np.clip(np.rint(rng.normal(mean, scale, count)), -(2**15), 2**15 - 1).astype(np.int16)


def sphere(path, samples, rate=RATE, coding=''):
  """SPHERE as TIMIT has it, written by hand."""
  fields = (
    'database_id -s5 TIMIT',
    'database_version -s3 1.0',
    'channel_count -i 1',
    f'sample_count -i {len(samples)}',
    f'sample_rate -i {rate}',
    'sample_n_bytes -i 2',
    'sample_byte_format -s2 01',
    'sample_sig_bits -i 16',
    *([f'sample_coding -s{len(coding)} {coding}'] if coding else []),
  )
  header = '\n'.join(('NIST_1A', '   1024', *fields, 'end_head', '')).encode()
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(header.ljust(1024) + samples.astype('<i2').tobytes())


def riff(path, samples, rate=RATE, **options):
  path.parent.mkdir(parents=True, exist_ok=True)
  soundfile.write(path, samples, rate, **options)


def refuse(action):
  with pytest.raises(DataError) as caught:
    action()
  assert '\n' not in str(caught.value)
  return str(caught.value)
