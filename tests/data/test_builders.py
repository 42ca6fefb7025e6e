import itertools
import pathlib
import pickle

import ml_collections
import numpy as np
import pytest
from oracles_sprites import sprite_in

from afslvm.data import options as options_lib
from afslvm.data import prepare
from afslvm.data.base import SPLITS
from afslvm.data.moving_digits import MovingDigits, digit_images
from afslvm.data.moving_mnist import MovingMnist, StochasticMovingMnist
from afslvm.data.particle import Particle
from afslvm.errors import ConfigError

SMALL = {'num_train': 30, 'num_validation': 5, 'num_test': 7}


def all_sequences(builder):
  return {split: np.stack(list(builder.sequences(split))) for split in SPLITS}


def files(builder):
  return {p.name: p.read_bytes() for p in pathlib.Path(builder.data_dir).iterdir()}


# ---- what is known without data ------------------------------------------------------------------


@pytest.mark.parametrize(
  ('cls', 'options', 'event_shape', 'num_frames', 'space', 'embedded'),
  [
    (MovingDigits, {}, (16, 16, 1), 20, '8bit', True),
    (MovingDigits, {'frame_size': 32, 'num_frames': 9}, (32, 32, 1), 9, '8bit', True),
    (MovingMnist, {}, (64, 64, 1), 20, '8bit', False),
    (MovingMnist, {'published': True}, (64, 64, 1), 20, '8bit', False),
    (StochasticMovingMnist, {'frame_size': 32}, (32, 32, 1), 20, '8bit', False),
    (Particle, {'num_dims': 3}, (3,), 30, 'continuous', True),
  ],
)
def test_shapes_are_known_before_anything_is_prepared(
  tmp_path, cls, options, event_shape, num_frames, space, embedded
):
  builder = cls(str(tmp_path), **options)
  assert builder.event_shape == event_shape
  assert builder.num_frames == num_frames
  assert builder.data_space == space
  assert builder.embedded is embedded
  assert list(tmp_path.iterdir()) == []


def test_names_are_those_that_a_user_writes():
  names = [cls.name for cls in (MovingDigits, MovingMnist, StochasticMovingMnist, Particle)]
  assert names == ['moving_digits', 'moving_mnist', 'stochastic_moving_mnist', 'particle']


DIFFERENT = [
  {},
  {'frame_size': 32},
  {'num_digits': 2},
  {'num_frames': 10},
  {'bounces': 'stochastic'},
  {'speed': 0.25},
  {'sprite_size': 6},
  {'num_train': 5},
  {'num_validation': 5},
  {'num_test': 5},
  {'seed': 1},
]


def test_no_two_settings_share_a_directory(tmp_path):
  assert {next(iter(options), None) for options in DIFFERENT} == {None, *MovingDigits.OPTIONS}
  directories = {MovingDigits(str(tmp_path), **options).data_dir for options in DIFFERENT}
  assert len(directories) == len(DIFFERENT)


def test_directory_is_where_tfds_puts_it(tmp_path, monkeypatch):
  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path / 'from environment'))
  default = MovingDigits()
  assert default.data_dir.startswith(str(tmp_path / 'from environment' / 'moving_digits'))
  assert MovingDigits(str(tmp_path / 'é')).data_dir.startswith(str(tmp_path / 'é'))


@pytest.mark.parametrize(
  ('cls', 'options', 'words'),
  [
    (MovingDigits, {'num_digit': 1}, ['num_digit', 'did you mean "num_digits"']),
    (MovingDigits, {'frame_size': 4}, ['frame_size=4', '8..128']),
    (MovingDigits, {'frame_size': 16.0}, ['frame_size', 'integer']),
    (MovingDigits, {'num_digits': 4}, ['num_digits=4', '1..3']),
    (MovingDigits, {'num_digits': True}, ['num_digits=True']),
    (MovingDigits, {'bounces': 'stochastik'}, ['did you mean "stochastic"']),
    (MovingDigits, {'speed': 0.0}, ['speed=0.0', 'above 0']),
    (MovingDigits, {'speed': float('nan')}, ['speed=nan']),
    (MovingDigits, {'speed': '0.1'}, ['speed']),
    (MovingDigits, {'sprite_size': 16}, ['sprite_size=16', 'frame_size=16']),
    (MovingDigits, {'num_train': 0}, ['num_train=0']),
    (MovingDigits, {'seed': -1}, ['seed=-1']),
    (MovingDigits, {'data_dir': 'gs://bucket/data'}, ['gs://bucket/data', 'local']),
    (MovingMnist, {'frame_size': 48}, ['frame_size=48', '32 or 64']),
    (MovingMnist, {'published': True, 'speed': 0.2}, ['speed=0.2', 'fixed']),
    (MovingMnist, {'published': True, 'source': 'mnist.npz'}, ['mnist.npz', 'mnist_test_seq.npy']),
    (Particle, {'sigma': -1}, ['sigma=-1']),
    (Particle, {'dims': 2}, ['did you mean "num_dims"']),
  ],
)
def test_mistakes_are_one_line_with_the_remedy(cls, options, words):
  with pytest.raises(ConfigError) as caught:
    cls(**options)
  message = str(caught.value)
  assert '\n' not in message
  assert all(word in message for word in words), message


def test_options_may_come_from_a_config_dict(tmp_path):
  config = ml_collections.ConfigDict({'frame_size': 32, 'speed': 1, 'sprite_size': None})
  builder = MovingDigits(str(tmp_path), **config)
  assert builder.options.sprite_size == 16
  assert builder.options.speed == 1.0


def test_options_may_come_from_a_command_line():
  pairs = ['frame_size=32', 'speed=.1', 'bounces=stochastic']
  found = options_lib.parse('moving_digits', MovingDigits.OPTIONS, pairs)
  assert found == {'frame_size': 32, 'speed': 0.1, 'bounces': 'stochastic'}
  assert options_lib.parse('moving_mnist', MovingMnist.OPTIONS, ['published=true'])['published']


@pytest.mark.parametrize(
  ('pair', 'words'),
  [
    ('frame_size', 'name=value'),
    ('frame_size=x', '8..128'),
    ('speed=fast', 'above 0'),
    ('speeed=1', 'did you mean "speed"'),
    ('bounces=', 'deterministic or stochastic'),
  ],
)
def test_mistakes_on_a_command_line_are_one_line(pair, words):
  with pytest.raises(ConfigError) as caught:
    options_lib.parse('moving_digits', MovingDigits.OPTIONS, [pair])
  assert words in str(caught.value)
  assert '\n' not in str(caught.value)


def test_builder_can_be_pickled(tmp_path):
  builder = MovingDigits(str(tmp_path), frame_size=32, num_train=3)
  copy = pickle.loads(pickle.dumps(builder))
  assert copy.data_dir == builder.data_dir
  assert copy.options == builder.options


# ---- moving_digits -------------------------------------------------------------------------------


def original_digits():
  from sklearn.datasets import load_digits

  return np.round(load_digits().images * 255 / 16).astype(np.uint8)


def test_digit_images_are_all_there_once_and_none_is_shared():
  parts = {split: {x.tobytes() for x in images} for split, images in digit_images().items()}
  assert {split: len(part) for split, part in parts.items()} == {
    'train': 1257, 'validation': 180, 'test': 360,
  }  # fmt: skip
  assert set.union(*parts.values()) == {x.tobytes() for x in original_digits()}
  assert digit_images()['test'].max() == 255


def test_splits_show_different_digits():
  known = {x.tobytes() for x in original_digits()}
  shown = {
    split: {sprite_in(x[0, ..., 0], 8, known) for x in videos}
    for split, videos in all_sequences(
      MovingDigits(num_train=200, num_validation=60, num_test=100)
    ).items()
  }
  for a, b in itertools.combinations(SPLITS, 2):
    assert not shown[a] & shown[b]
  assert len(shown['train']) > 150


@pytest.mark.parametrize('bounces', ['deterministic', 'stochastic'])
@pytest.mark.parametrize('num_digits', [1, 3])
def test_moving_digits_are_uint8_video(bounces, num_digits):
  builder = MovingDigits(frame_size=32, num_digits=num_digits, bounces=bounces, **SMALL)
  data = all_sequences(builder)
  assert {k: v.shape for k, v in data.items()} == {
    'train': (30, 20, 32, 32, 1), 'validation': (5, 20, 32, 32, 1), 'test': (7, 20, 32, 32, 1),
  }  # fmt: skip
  assert data['train'].dtype == np.uint8
  assert data['train'].max() == 255
  moving = (data['train'] != data['train'][:, :1]).any(axis=(1, 2, 3, 4))
  # SVG's rules allow the velocity (0, 0), here once in 25 draws.
  assert moving.all() if bounces == 'deterministic' else moving.mean() > 0.8


def test_larger_sets_begin_with_smaller_ones_and_splits_are_independent():
  small = MovingDigits(num_train=70, num_validation=5, num_test=7)
  large = MovingDigits(num_train=130, num_validation=5, num_test=9)
  a, b = all_sequences(small), all_sequences(large)
  for split in SPLITS:
    np.testing.assert_array_equal(a[split], b[split][: len(a[split])])
  np.testing.assert_array_equal(
    np.unique(b['train'].reshape(130, -1), axis=0).shape[0], 130
  )  # blocks differ


def test_same_seed_gives_the_same_files_and_another_seed_others(tmp_path):
  builders = [
    MovingDigits(str(tmp_path / folder), seed=seed, **SMALL)
    for folder, seed in (('a', 0), ('b', 0), ('c', 1))
  ]
  for builder in builders:
    prepare.prepare(builder)
  assert files(builders[0]) == files(builders[1])
  fingerprints = [prepare.fingerprint(b) for b in builders]
  assert fingerprints[0] == fingerprints[1] != fingerprints[2]


# ---- particle ------------------------------------------------------------------------------------


def test_particle_second_differences_are_white_noise_of_scale_sigma():
  builder = Particle(num_dims=3, num_frames=40, sigma=0.5, num_train=2000)
  x = np.stack(list(builder.sequences('train')))
  assert x.shape == (2000, 40, 3)
  assert x.dtype == np.float32
  at_rest = np.zeros_like(x[:, :1])
  w = np.diff(np.concatenate([at_rest, at_rest, x], axis=1).astype(np.float64), n=2, axis=1)
  assert w.shape == x.shape
  assert abs(w.mean()) < 0.005
  np.testing.assert_allclose(w.std(axis=(0, 1)), 0.5, rtol=0.02)
  np.testing.assert_allclose((w**4).mean() / w.var() ** 2, 3.0, rtol=0.05)  # Gaussian
  covariance = np.cov(w.reshape(2000, -1).T)
  assert abs(covariance - np.diag(np.diag(covariance))).max() < 0.04


def test_particle_is_stored_exactly(tmp_path):
  builder = Particle(str(tmp_path), **SMALL)
  for split in SPLITS:
    stored = prepare.open_split(builder, split)
    np.testing.assert_array_equal(
      np.stack([stored[i] for i in range(len(stored))]), list(builder.sequences(split))
    )
    assert stored[0].dtype == np.float32
