"""Discretised normal likelihood: the probability of the bin that an observation lies in."""

from typing import ClassVar

import jax.numpy as jnp

from afslvm.distributions import discretized_normal
from afslvm.likelihoods.gaussian import Gaussian
from afslvm.types import Array, PyTree

BINS = ('centered', 'levels', 'avf_paper')


class DiscretizedGaussian(Gaussian):
  """P(bin of x) under N(mean(features), exp(log_scale(features))²), independent over dimensions.

  Attributes:
    bin_width: distance between neighbouring values of the data; 0 is what the data say.
    bins: `centered` around x; `levels`, the same on [0, 1] with the outermost bins open, so that
      all levels sum to one; `avf_paper`, [x, x + bin_width] with 1e-6 added to each probability, as
      the AVF paper's code has it.
  """

  bin_width: float = 0.0
  bins: str = 'centered'

  is_normal: ClassVar = False
  choices: ClassVar = {**Gaussian.choices, 'bins': BINS}
  limits: ClassVar = {**Gaussian.limits, 'bin_width': (0.0, None)}

  @property
  def measure(self) -> str:
    """Names the AVF paper's bins, whose numbers do not sum to one, apart from probabilities."""
    return 'bins of the AVF paper' if self.bins == 'avf_paper' else 'probability'

  def log_prob(self, features: PyTree, x: Array, mask: Array | None = None) -> Array:
    """See base class."""
    del mask
    log_bin = {
      'centered': discretized_normal.log_bin,
      'levels': discretized_normal.log_level,
      'avf_paper': discretized_normal.log_bin_paper,
    }[self.bins]
    values = log_bin(self.distribution(features), x, self.bin_width)
    return jnp.sum(values.reshape(x.shape[0], -1), axis=1)
