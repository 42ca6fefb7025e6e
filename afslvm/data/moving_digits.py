"""Moving digits: the embedded data set of real handwritten digits that bounce in a small frame."""

import functools

import numpy as np

from afslvm.data import base, bouncing
from afslvm.data.options import Choice, Integer, Real
from afslvm.errors import ConfigError


def digit_images() -> dict[str, np.ndarray]:
  """Returns scikit-learn's 1,797 digits as uint8 [N, 8, 8], divided by image into three splits.

  70 / 10 / 20 % of a fixed permutation: 1,257 for training, 180 for validation, 360 for test. All
  images are different, so no split shows a digit that another one has.
  """
  from sklearn.datasets import load_digits

  images = np.rint(load_digits().images * (255 / 16)).astype(np.uint8)
  images = images[np.random.default_rng(0).permutation(len(images))]
  return dict(zip(base.SPLITS, np.split(images, [1257, 1437]), strict=True))


class MovingDigits(base.DrawnBuilder):
  """Handwritten digits (scikit-learn's load_digits) that bounce, grey, 8 bit, [T, H, W, 1].

  Options: `frame_size` in pixels; `num_digits` 1-3; `num_frames`; `bounces` 'deterministic'
  (Srivastava et al.) or 'stochastic' (SVG's rules); `speed`, per frame and as a fraction of the
  free range: the constant speed, or the largest velocity component (whole pixels, at least one;
  SVG's rules include velocity zero, so at 16 pixels one sequence in nine stands still);
  `sprite_size`, by default half the frame; `num_train`, `num_validation`, `num_test`; `seed`.
  Overlapping pixels add and clip at 255. Splits share no digit image.
  """

  OPTIONS = {
    'frame_size': Integer(16, 'px', low=8, high=128),
    'num_digits': Integer(1, 'digits', low=1, high=3),
    'num_frames': Integer(20, 'frames', low=2, high=1000),
    'bounces': Choice('deterministic', choices=('deterministic', 'stochastic')),
    'speed': Real(0.15, 'speed', high=1.0),
    'sprite_size': Integer(None, 'sprite', low=4, high=127),
    **base.drawn_options(train=4000, validation=256, test=512),
  }
  data_space = '8bit'
  embedded = True

  def check_options(self):
    """See base class."""
    options = self.options
    if options.sprite_size is None:
      options.sprite_size = options.frame_size // 2
    if options.sprite_size >= options.frame_size:
      raise ConfigError(
        f'data.sprite_size={options.sprite_size}: must be below frame_size={options.frame_size}'
      )

  @property
  def event_shape(self) -> tuple[int, ...]:
    """See base class."""
    return (self.options.frame_size, self.options.frame_size, 1)

  @functools.cached_property
  def sprites(self) -> dict[str, np.ndarray]:
    """Digit images uint8 [N, S, S] of each split, at the size they are drawn."""
    size = self.options.sprite_size
    return {split: bouncing.resize(images, size) for split, images in digit_images().items()}

  def draw(self, split: str, num: int, rng: np.random.Generator) -> np.ndarray:
    """See base class."""
    o = self.options
    free = o.frame_size - o.sprite_size
    if o.bounces == 'deterministic':
      path = bouncing.deterministic(rng, num, o.num_frames, o.num_digits, free, o.speed)
    else:
      max_velocity = max(1, int(o.speed * free))
      path = bouncing.stochastic(rng, num, o.num_frames, o.num_digits, free, max_velocity)
    sprites = rng.choice(self.sprites[split], size=(num, o.num_digits))
    return bouncing.composite(path, sprites, o.frame_size)
