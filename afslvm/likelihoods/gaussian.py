"""Normal likelihood with a mean and a log-scale of every dimension (AF paper Section 4.1)."""

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from afslvm.distributions.normal import Normal
from afslvm.likelihoods.base import ConditionalLikelihood
from afslvm.likelihoods.heads import Head
from afslvm.networks import conv
from afslvm.transforms import affine
from afslvm.types import Array, PyTree, ScalarOrArray


class Gaussian(ConditionalLikelihood):
  """N(mean(features), exp(log_scale(features))²), independent over dimensions.

  Features that are maps [N, H/2, W/2, c] are doubled in size by one transposed convolution for each
  parameter, as in the paper's code; features that are vectors [N, D] pass a dense layer each.

  Attributes:
    mean_activation: `sigmoid` for data in [0, 1], `linear` for what a flow passes on.
    log_scale_bound: `clip` (paper) or `smooth` on (log_scale_low, log_scale_high).
    log_scale_low: least log-scale, < 0 (paper: -15).
    log_scale_high: greatest log-scale, > 0 (paper: 5).
    initialization: of the heads, one of `conv.INITIALIZATIONS`.
  """

  mean_activation: str = 'linear'
  log_scale_bound: str = 'smooth'
  log_scale_low: float = -7.0
  log_scale_high: float = 2.0
  initialization: str = 'lecun'

  is_normal: ClassVar = True
  choices: ClassVar = {
    'mean_activation': ('linear', 'sigmoid'),
    'log_scale_bound': ('clip', 'smooth'),
    'initialization': conv.INITIALIZATIONS,
  }
  limits: ClassVar = {'log_scale_low': (None, -0.01), 'log_scale_high': (0.01, None)}

  def setup(self):
    """Declares the heads."""
    self.mean_head = Head(self.event_shape, self.initialization)
    self.log_scale_head = Head(self.event_shape, self.initialization)

  def distribution(self, features: PyTree) -> Normal:
    """Returns the normal of each observation, [N, *event]."""
    mean, log_scale = self.mean_head(features), self.log_scale_head(features)
    if self.mean_activation == 'sigmoid':
      mean = nn.sigmoid(mean)
    low, high = self.log_scale_low, self.log_scale_high
    if self.log_scale_bound == 'clip':
      return Normal(mean, jnp.clip(log_scale, low, high))
    return Normal(mean, affine.smooth_bound(log_scale, low, high))

  def log_prob(self, features: PyTree, x: Array, mask: Array | None = None) -> Array:
    """See base class."""
    del mask
    values = self.distribution(features).log_prob(x)
    return jnp.sum(values.reshape(x.shape[0], -1), axis=1)

  def sample(self, features: PyTree, key: Array, temperature: ScalarOrArray = 1.0) -> Array:
    """See base class."""
    normal = self.distribution(features)
    return normal.sample(jax.random.normal(key, normal.loc.shape), temperature)

  def predict(self, features: PyTree) -> Array:
    """Returns the mean."""
    return self.distribution(features).loc

  def error(self, features: PyTree, x: Array) -> Array:
    """Returns (x - μ) / σ², [N, *event]."""
    normal = self.distribution(features)
    return (x - normal.loc) * jnp.exp(-2.0 * normal.log_scale)

  def saturation(self, features: PyTree, x: Array) -> Array:
    """Returns the share of each observation's log-scales that lie at a bound, [N]."""
    del x
    log_scale = self.distribution(features).log_scale
    at_bound = affine.near_bounds(log_scale, self.log_scale_low, self.log_scale_high)
    return jnp.mean(at_bound.reshape(at_bound.shape[0], -1), axis=1)
