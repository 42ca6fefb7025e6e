"""The AF paper's motivating example: a particle with momentum, pushed by white noise."""

import numpy as np

from afslvm.data import base
from afslvm.data.options import Integer, Real


class Particle(base.DrawnBuilder):
  """Positions x_1..x_T of a particle with momentum, float32 [T, D] (AF paper, Eq. 10-14).

  x_t = x_{t-1} + u_t (Eq. 10), u_t = u_{t-1} + w_t (Eq. 11), w_t ~ N(0, sigma^2 I), with
  x_0 = u_0 = 0, which are not part of the sequence. Options: `num_dims` D; `num_frames` T;
  `sigma`; `num_train`, `num_validation`, `num_test`; `seed`.
  """

  OPTIONS = {
    'num_dims': Integer(2, 'dims', low=1, high=1024),
    'num_frames': Integer(30, 'frames', low=2, high=1000),
    'sigma': Real(1.0, 'sigma'),
    **base.drawn_options(train=4000, validation=256, test=512),
  }
  data_space = 'continuous'
  embedded = True

  @property
  def event_shape(self) -> tuple[int, ...]:
    """See base class."""
    return (self.options.num_dims,)

  def draw(self, split: str, num: int, rng: np.random.Generator) -> np.ndarray:
    """See base class."""
    o = self.options
    w = o.sigma * rng.standard_normal((num, o.num_frames, o.num_dims))
    u = np.cumsum(w, axis=1)
    return np.cumsum(u, axis=1).astype(np.float32)
