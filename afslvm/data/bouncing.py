"""Sprites that move and bounce inside a square frame: trajectories, and their pictures.

Positions are integer pixel offsets [N, T, D, 2] (row, column) of the upper left corner of D
sprites in N sequences of T frames. `free` is the free range, frame size minus sprite size.
"""

import numpy as np

Rng = np.random.Generator


def deterministic(rng: Rng, num: int, frames: int, sprites: int, free: int, speed: float):
  """Straight lines at constant speed, reflected at the walls (Srivastava et al., 2015).

  Start: uniform in the box; direction: uniform. A sprite that would pass a wall stops at it and
  that component of its velocity changes sign. Positions are truncated to whole pixels.

  Args:
    rng: source of randomness.
    num: sequences N.
    frames: frames T per sequence.
    sprites: sprites D per sequence.
    free: free range in pixels.
    speed: distance per frame, as a fraction of the free range.

  Returns:
    int64 [N, T, D, 2], in 0..free.
  """
  position = rng.uniform(size=(num, sprites, 2))
  angle = rng.uniform(0.0, 2 * np.pi, size=(num, sprites))
  velocity = speed * np.stack([np.sin(angle), np.cos(angle)], axis=-1)
  path = np.empty((num, frames, sprites, 2))
  for t in range(frames):
    path[:, t] = position
    position = position + velocity
    outside = (position <= 0) | (position >= 1)
    velocity = np.where(outside, -velocity, velocity)
    position = position.clip(0, 1)
  return (free * path).astype(np.int64)


def stochastic(rng: Rng, num: int, frames: int, sprites: int, free: int, max_velocity: int):
  """Straight lines with a new random velocity after each contact with a wall (SVG's rules).

  Start: uniform in 0..free-1 in each direction; velocity: uniform integers in
  -max_velocity..max_velocity. A sprite found beyond a wall is put at 0 or free - 1 and its whole
  velocity is drawn again, the component across the wall from 1..max_velocity away from it.
  Denton and Fergus (2018) have free 32 and max_velocity 4.

  Args:
    rng: source of randomness.
    num: sequences N.
    frames: frames T per sequence.
    sprites: sprites D per sequence.
    free: free range in pixels.
    max_velocity: largest velocity component, in pixels per frame.

  Returns:
    int64 [N, T, D, 2], in 0..free-1.
  """
  shape = (num, sprites, 2)
  position = rng.integers(0, free, size=shape)
  velocity = rng.integers(-max_velocity, max_velocity + 1, size=shape)
  path = np.empty((num, frames, sprites, 2), np.int64)
  for t in range(frames):
    # Rows before columns, so that in a corner the column's redraw has the last word, as in SVG.
    for axis in (0, 1):
      low, high = position[..., axis] < 0, position[..., axis] >= free
      redrawn = rng.integers(-max_velocity, max_velocity + 1, size=shape)
      inward = rng.integers(1, max_velocity + 1, size=shape[:-1])
      redrawn[..., axis] = np.where(low, inward, -inward)
      velocity = np.where((low | high)[..., None], redrawn, velocity)
      position[..., axis] = position[..., axis].clip(0, free - 1)
    path[:, t] = position
    position = position + velocity
  return path


def composite(path: np.ndarray, sprites: np.ndarray, frame_size: int, overlap: str = 'sum'):
  """Draws sprites at their positions.

  Args:
    path: positions [N, T, D, 2].
    sprites: uint8 [N, D, S, S], one picture per moving sprite.
    frame_size: height and width of a frame in pixels.
    overlap: 'sum' adds overlapping pixels and clips at 255, 'max' takes the brighter one.

  Returns:
    uint8 video [N, T, frame_size, frame_size, 1].
  """
  num, frames, count, _ = path.shape
  rows = path[..., 0, None] + np.arange(sprites.shape[-1])  # [N, T, D, S]
  columns = path[..., 1, None] + np.arange(sprites.shape[-1])
  n, t = np.arange(num)[:, None, None, None], np.arange(frames)[:, None, None]
  canvas = np.zeros((num, frames, frame_size, frame_size), np.uint16)
  for d in range(count):
    place = (n, t, rows[:, :, d, :, None], columns[:, :, d, None, :])
    drawn = sprites[:, None, d].astype(np.uint16)
    canvas[place] = canvas[place] + drawn if overlap == 'sum' else np.maximum(canvas[place], drawn)
  return canvas.clip(max=255).astype(np.uint8)[..., None]


def resize(images: np.ndarray, size: int) -> np.ndarray:
  """Returns uint8 images [N, S, S] scaled (bilinear) to [N, size, size]."""
  from PIL import Image

  if images.shape[1:] == (size, size):
    return images
  scaled = [
    np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))
    for image in images
  ]
  return np.stack(scaled)
