"""Direct amortised inference: one pass of a network per step (AF paper Section 4.1)."""

from typing import ClassVar

import jax.numpy as jnp

from afslvm.distributions.normal import Normal
from afslvm.inference.base import Inference
from afslvm.networks import conv
from afslvm.networks.heads import LocLogScale
from afslvm.networks.recurrent import Carry, LSTMStack
from afslvm.types import Array


class Direct(Inference):
  """[observation, context] -> LSTM layers -> mean and log-scale.

  Attributes:
    hidden: units of each LSTM layer (paper: 256).
    layers: LSTM layers (paper: 2 for SLVM, 1 under flows).
    residual: the network gives the difference to the prior's mean, RES_q of SRNN (Fraccaro et al.
      2016), so that the posterior begins where the prior is.
    log_scale_low: least log-scale of z (paper: -15).
    log_scale_high: greatest log-scale of z (paper: 5).
    initialization: of the linear layers, one of `conv.INITIALIZATIONS`.
  """

  hidden: int = 256
  layers: int = 2
  residual: bool = False
  log_scale_low: float = -15.0
  log_scale_high: float = 5.0
  initialization: str = 'lecun'

  choices: ClassVar = {'initialization': conv.INITIALIZATIONS}
  limits: ClassVar = {'hidden': (1, None), 'layers': (0, None)}

  def setup(self):
    """Declares the layers."""
    self.lstm = LSTMStack(self.hidden, self.layers)
    self.heads = LocLogScale(
      self.latent_size, self.log_scale_low, self.log_scale_high, self.initialization
    )

  def initial_state(self, batch_size: int) -> Carry:
    """See base class."""
    return self.lstm.initial_state(batch_size)

  def posterior(
    self, state: Carry, observed: Array, context: Array, prior: Normal
  ) -> tuple[Carry, Normal]:
    """See base class."""
    state, h = self.lstm(state, jnp.concatenate([observed, context], axis=-1))
    loc, log_scale = self.heads(h)
    return state, Normal(prior.loc + loc if self.residual else loc, log_scale)
