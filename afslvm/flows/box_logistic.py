"""The flow nearest 8-bit data whose conditional fits their levels: `transforms.box_logistic`."""

from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp

from afslvm.flows.temporal import AutoregressiveFlow, Parameters
from afslvm.transforms import box_logistic
from afslvm.types import Array

APART = 2.0  # in log-scale: components that began alike would stay alike


class AutoregressiveBoxLogistic(AutoregressiveFlow):
  """x_t given the past is logistic plus uniform noise of one 8-bit level, or a mixture of such.

  For data with uniform noise only. The mixture has as many components as the conditioner gives
  parameters of; with zero heads each is e^2 times as narrow as the one before. Temperature 0 draws
  the median, which of one component is the mode.
  """

  log_scale_low: float = -10.0

  choices: ClassVar = {
    **AutoregressiveFlow.choices,
    'log_scale_bound': ('smooth', 'symmetric'),  # `paper` has no lower bound
  }

  def parameters(self, *raw: Array) -> Parameters:
    """Returns shift and log-scale [..., *event]; of K components [..., *event, K], log-weights."""
    if self.components == 1:
      shift, log_scale = raw
      return self._shift(shift), self._log_scale(log_scale)
    shift, log_scale, weights = raw
    narrower = APART * jnp.arange(self.components)
    return self._shift(shift), self._log_scale(log_scale - narrower), nn.log_softmax(weights)

  def forward(self, y: Array, parameters: Parameters) -> tuple[Array, Array]:
    """See base class."""
    shift, log_scale, *log_weights = parameters
    return box_logistic.forward(y, shift, log_scale, self._event_ndims, *log_weights)

  def inverse(self, x: Array, parameters: Parameters) -> tuple[Array, Array]:
    """See base class."""
    shift, log_scale, *log_weights = parameters
    return box_logistic.inverse(x, shift, log_scale, self._event_ndims, *log_weights)

  def shown(self, parameters: Parameters) -> tuple[Array, Array]:
    """Returns shift and scale of the logistic variable, means over components."""
    shift, log_scale, *log_weights = parameters
    if not log_weights:
      return shift, jnp.exp(log_scale)
    weights = jnp.exp(log_weights[0])
    return jnp.sum(weights * shift, axis=-1), jnp.sum(weights * jnp.exp(log_scale), axis=-1)
