import pathlib
import shutil

import numpy as np
import pytest

from afslvm.data import prepare
from afslvm.data.moving_digits import MovingDigits

SMALL = {'num_train': 70, 'num_validation': 9, 'num_test': 11}


@pytest.fixture(scope='session')
def small_digits_dir(tmp_path_factory):
  """A data directory with a small, intact moving_digits; copy it before doing harm."""
  root = tmp_path_factory.mktemp('intact')
  prepare.prepare(MovingDigits(str(root), **SMALL))
  return root


@pytest.fixture
def digits(small_digits_dir, tmp_path):
  """A builder of prepared data that a test may damage."""
  root = tmp_path / 'data'
  shutil.copytree(small_digits_dir, root)
  return MovingDigits(str(root), **SMALL)


@pytest.fixture
def tiny_mnist():
  """(train, test) images that look like MNIST's, all different."""
  rng = np.random.default_rng(0)
  return tuple(rng.integers(0, 256, (n, 28, 28)).astype(np.uint8) for n in (120, 20))


@pytest.fixture(scope='session')
def real_mnist():
  """Path of the real mnist.npz beside the repository."""
  path = pathlib.Path(__file__).parents[2].parent / 'shared' / 'data' / 'mnist.npz'
  if not path.is_file():
    pytest.skip(f'real MNIST is not there: {path}')
  return str(path)
