import itertools

import numpy as np
import pytest
from oracles_sprites import sprite_in

from afslvm.data import prepare
from afslvm.data.base import SPLITS
from afslvm.data.moving_mnist import MovingMnist, StochasticMovingMnist
from afslvm.errors import DataError

SMALL = {'num_train': 30, 'num_validation': 5, 'num_test': 7}


def all_sequences(builder):
  return {split: np.stack(list(builder.sequences(split))) for split in SPLITS}


# ---- a small stand-in for MNIST ------------------------------------------------------------------


@pytest.fixture
def tiny(monkeypatch, tiny_mnist, tmp_path):
  """Lets the builders take a small MNIST; returns its path."""
  for cls in (MovingMnist, StochasticMovingMnist):
    monkeypatch.setattr(cls, 'source_counts', (120, 20))
  path = tmp_path / 'mnist.npz'
  np.savez(path, x_train=tiny_mnist[0], x_test=tiny_mnist[1])
  return str(path)


@pytest.mark.parametrize('frame_size', [32, 64])
@pytest.mark.parametrize('cls', [MovingMnist, StochasticMovingMnist])
def test_moving_mnist_goes_all_the_way(tiny, tmp_path, cls, frame_size):
  builder = cls(str(tmp_path / 'data'), source=tiny, frame_size=frame_size, num_frames=6, **SMALL)
  manifest = prepare.prepare(builder)
  shape = (6, frame_size, frame_size, 1)
  assert [manifest['splits'][s]['sequences'] for s in SPLITS] == [30, 5, 7]
  assert prepare.open_split(builder, 'test')[6].shape == shape
  # The prepared data are found without the source.
  again = cls(str(tmp_path / 'data'), frame_size=frame_size, num_frames=6, **SMALL)
  assert prepare.fingerprint(again) == prepare.fingerprint(builder)


def test_moving_mnist_splits_by_image(tiny, tiny_mnist):
  train, test = tiny_mnist
  allowed = {'train': train[:110], 'validation': train[110:], 'test': test}
  builder = MovingMnist(source=tiny, num_digits=1, num_frames=2, **SMALL)
  for split, videos in all_sequences(builder).items():
    known = {x.tobytes() for x in allowed[split]}
    for x in videos:
      sprite_in(x[0, ..., 0], 28, known)


def test_stochastic_digits_fill_half_the_frame(tiny):
  builder = StochasticMovingMnist(source=tiny, num_digits=1, frame_size=32, **SMALL)
  video = next(builder.sequences('train'))
  for frame in video[..., 0]:
    rows, columns = (np.flatnonzero(frame.any(axis)) for axis in (1, 0))
    assert np.ptp(rows) <= 15
    assert np.ptp(columns) <= 15


@pytest.fixture
def published(monkeypatch, tmp_path):
  """A small file of the published layout, and its content."""
  shape = (20, 40, 64, 64)
  monkeypatch.setattr(MovingMnist, 'published_shape', shape)
  bounds = {'train': (0, 34), 'validation': (34, 36), 'test': (36, 40)}
  monkeypatch.setattr(MovingMnist, 'published_bounds', bounds)
  videos = np.zeros(shape, np.uint8)
  videos[..., 3:9, 3:9] = np.random.default_rng(1).integers(0, 256, (20, 40, 6, 6))
  path = tmp_path / 'mnist_test_seq.npy'
  np.save(path, videos)
  return str(path), videos


def test_published_sequences_are_divided_in_order(published, tmp_path):
  path, videos = published
  builder = MovingMnist(str(tmp_path / 'data'), source=path)
  prepare.prepare(builder)
  found = [prepare.open_split(builder, split) for split in SPLITS]
  assert [len(source) for source in found] == [34, 2, 4]
  together = np.stack([source[i] for source in found for i in range(len(source))])
  np.testing.assert_array_equal(together, videos.swapaxes(0, 1)[..., None])
  # Without the file, the prepared data open by name.
  assert len(prepare.open_split(MovingMnist(str(tmp_path / 'data'), published=True), 'test')) == 4


def test_published_bounds_are_those_of_the_paper():
  bounds = MovingMnist.published_bounds
  assert bounds == {'train': (0, 8500), 'validation': (8500, 9000), 'test': (9000, 10000)}
  assert [MovingMnist(published=True).split_size(s) for s in SPLITS] == [8500, 500, 1000]


def test_published_file_of_another_shape_is_refused(published, tmp_path):
  path = tmp_path / 'other.npy'
  np.save(path, np.zeros((20, 41, 64, 64), np.uint8))
  with pytest.raises(DataError, match='other.npy: expected the published'):
    prepare.prepare(MovingMnist(str(tmp_path / 'data'), source=str(path)))


# ---- real MNIST ----------------------------------------------------------------------------------


def test_real_mnist_splits_by_image(real_mnist):
  with np.load(real_mnist, allow_pickle=False) as archive:
    train, test = archive['x_train'], archive['x_test']
  allowed = {'train': train[:55_000], 'validation': train[55_000:], 'test': test}
  known = {split: {x.tobytes() for x in images} for split, images in allowed.items()}
  for a, b in itertools.combinations(SPLITS, 2):
    assert not known[a] & known[b]
  builder = MovingMnist(source=real_mnist, num_digits=1, num_frames=2, **SMALL)
  for split, videos in all_sequences(builder).items():
    for x in videos:
      sprite_in(x[0, ..., 0], 28, known[split])
