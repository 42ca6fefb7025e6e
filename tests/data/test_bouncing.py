import numpy as np
import pytest

from afslvm.data import bouncing


def rng():
  return np.random.default_rng(7)


# ---- deterministic -------------------------------------------------------------------------------

FINE = 10**9  # a free range so fine that truncation to pixels does not matter


def test_deterministic_speed_is_constant_between_walls():
  path = bouncing.deterministic(rng(), 200, 30, 2, FINE, 0.1) / FINE
  step = np.diff(path, axis=1)
  on_wall = ((path <= 0) | (path >= 1 - 1e-8)).any(-1)
  free_flight = ~on_wall[:, 1:]
  np.testing.assert_allclose(np.linalg.norm(step, axis=-1)[free_flight], 0.1, atol=1e-7)
  assert free_flight.mean() > 0.5
  # A step that ends on a wall is cut short, never longer.
  assert np.linalg.norm(step, axis=-1).max() < 0.1 + 1e-7


def test_deterministic_velocity_changes_sign_at_walls_only():
  path = bouncing.deterministic(rng(), 200, 30, 1, FINE, 0.1) / FINE
  on_wall = (path <= 0) | (path >= 1 - 1e-8)
  step = np.diff(path, axis=1)
  clean = ~on_wall[:, :-2] & ~on_wall[:, 2:]  # neither step was cut short at its far end
  before, after = step[:, :-1], step[:, 1:]
  straight = clean & ~on_wall[:, 1:-1]
  np.testing.assert_allclose(after[straight], before[straight], atol=1e-7)
  bounced = clean & on_wall[:, 1:-1]
  assert bounced.sum() > 100
  assert (after[bounced] * before[bounced] < 0).all()


def test_deterministic_equals_one_sprite_followed_by_hand():
  frames, free, speed = 25, 36, 0.13
  path = bouncing.deterministic(rng(), 5, frames, 2, free, speed)
  source = rng()
  start = source.uniform(size=(5, 2, 2))
  angle = source.uniform(0, 2 * np.pi, size=(5, 2))
  for n, d in np.ndindex(5, 2):
    row, column = start[n, d]
    down, right = speed * np.sin(angle[n, d]), speed * np.cos(angle[n, d])
    for t in range(frames):
      assert tuple(path[n, t, d]) == (int(free * row), int(free * column))
      row, column = row + down, column + right
      if not 0 < row < 1:
        row, down = min(max(row, 0), 1), -down
      if not 0 < column < 1:
        column, right = min(max(column, 0), 1), -right


def test_deterministic_stays_in_the_frame_and_starts_uniformly():
  path = bouncing.deterministic(rng(), 4000, 20, 1, 8, 0.15)
  assert path.min() == 0
  assert path.max() == 8
  start = path[:, 0, 0] / 8
  assert abs(np.bincount(path[:, 0, 0, 0], minlength=9)[:8] / 4000 - 1 / 8).max() < 0.03
  assert abs(np.corrcoef(start.T)[0, 1]) < 0.06


# ---- stochastic ----------------------------------------------------------------------------------


def stochastic_motion():
  free, top = 32, 4
  path = bouncing.stochastic(rng(), 3000, 20, 1, free, top)[:, :, 0]
  wall = (path == 0) | (path == free - 1)  # [N, T, axis]
  return path, np.diff(path, axis=1), wall, free, top


def test_stochastic_stays_in_the_frame_and_starts_uniformly():
  path, step, _, free, top = stochastic_motion()
  assert path.min() == 0
  assert path.max() == free - 1
  assert abs(step).max() == top
  assert abs(np.bincount(path[:, 0, 0], minlength=free) / len(path) - 1 / free).max() < 0.015


def test_stochastic_first_velocity_is_uniform():
  path, step, wall, _, top = stochastic_motion()
  inside = (path[:, 0] >= top) & (path[:, 0] < 32 - top)
  first = step[:, 0][inside.all(-1)]
  share = np.bincount(first[:, 0] + top, minlength=2 * top + 1) / len(first)
  assert abs(share - 1 / 9).max() < 0.03


def test_stochastic_velocity_is_constant_away_from_walls():
  _, step, wall, *_ = stochastic_motion()
  away = ~wall.any(-1)
  straight = away[:, 1:-1] & away[:, 2:]
  np.testing.assert_array_equal(step[:, 1:][straight], step[:, :-1][straight])
  assert straight.mean() > 0.5


@pytest.mark.parametrize(('axis', 'side'), [(0, 0), (0, 31), (1, 0), (1, 31)])
def test_stochastic_velocity_is_redrawn_away_from_the_wall(axis, side):
  path, step, wall, _, top = stochastic_motion()
  only_this_wall = (path[..., axis] == side) & ~wall[..., 1 - axis]
  changed = (step[:, 1:] != step[:, :-1]).any(-1)
  at = only_this_wall[:, 1:-1] & changed & ~wall[:, 2:].any(-1)
  outward = step[:, 1:][at][:, axis] * (1 if side == 0 else -1)
  along = step[:, 1:][at][:, 1 - axis]
  assert len(outward) > 300
  assert set(outward) == set(range(1, top + 1))
  assert abs(np.bincount(outward)[1:] / len(outward) - 1 / top).max() < 0.08
  assert set(along) == set(range(-top, top + 1))


# ---- pictures ------------------------------------------------------------------------------------


@pytest.mark.parametrize('overlap', ['sum', 'max'])
def test_composite_draws_every_sprite_where_it_is(overlap):
  source = rng()
  sprites = source.integers(0, 256, (3, 2, 5, 5)).astype(np.uint8)
  path = source.integers(0, 8, (3, 4, 2, 2))
  video = bouncing.composite(path, sprites, 12, overlap)
  assert video.shape == (3, 4, 12, 12, 1)
  assert video.dtype == np.uint8
  for n, t in np.ndindex(3, 4):
    frame = np.zeros((12, 12), int)
    for d in range(2):
      row, column = path[n, t, d]
      for i, j in np.ndindex(5, 5):
        old, new = frame[row + i, column + j], int(sprites[n, d, i, j])
        frame[row + i, column + j] = min(old + new, 255) if overlap == 'sum' else max(old, new)
    np.testing.assert_array_equal(video[n, t, ..., 0], frame)


def test_resize_keeps_size_shape_and_brightness():
  images = rng().integers(0, 256, (3, 28, 28)).astype(np.uint8)
  assert bouncing.resize(images, 28) is images
  small = bouncing.resize(images, 14)
  assert small.shape == (3, 14, 14)
  assert small.dtype == np.uint8
  assert abs(small.mean() - images.mean()) < 1.5
  assert (bouncing.resize(np.full((1, 28, 28), 200, np.uint8), 32) == 200).all()
