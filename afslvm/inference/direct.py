"""Direct amortised inference: one pass of a network per step (AF paper Section 4.1)."""

from typing import Any, ClassVar

import flax.linen as nn

from afslvm.distributions.normal import Normal
from afslvm.inference.base import Inference, Inferred, StepFreeEnergy
from afslvm.networks import conv, mlp
from afslvm.networks.heads import LocLogScale
from afslvm.networks.recurrent import Carry, LSTMStack
from afslvm.types import PyTree


class Direct(Inference):
  """(encoded, history) -> dense layers -> LSTM layers -> mean and log-scale.

  Attributes:
    features: width of the dense layers.
    depth: number of dense layers (VRNN: 4, AF paper: 0).
    activation: of the dense layers, one of `mlp.ACTIVATIONS`.
    dropout: of the dense layers.
    hidden: units of each LSTM layer (AF paper: 256).
    layers: number of LSTM layers (AF paper: 2 for SLVM, 1 under flows).
    residual: the network gives the difference to the prior's mean, RES_q of SRNN (Fraccaro et al.
      2016), so that the posterior begins where the prior is.
    log_scale_low: least log-scale of z (AF paper: -15).
    log_scale_high: greatest log-scale of z (AF paper: 5).
    initialization: of the linear layers, one of `conv.INITIALIZATIONS`.
    head_initialization: of those that give mean and log-scale; '' is the same.
    network: a network that stands for the dense layers, such as convolutions on maps.
    head_size: numbers that each head gives at every place of a map; 0, for vectors, is Z.
  """

  features: int = 256
  depth: int = 0
  activation: str = 'relu'
  dropout: float = 0.0
  hidden: int = 256
  layers: int = 2
  residual: bool = False
  log_scale_low: float = -15.0
  log_scale_high: float = 5.0
  initialization: str = 'lecun'
  head_initialization: str = ''
  network: nn.Module | None = None
  head_size: int = 0

  choices: ClassVar[dict[str, Any]] = {
    **mlp.MLP.choices,
    'head_initialization': ('', *conv.INITIALIZATIONS),
  }
  limits: ClassVar[dict[str, Any]] = {
    **Inference.limits,
    **mlp.MLP.limits,
    'hidden': (1, None),
    'layers': (0, None),
    'head_size': (0, None),
  }

  def setup(self):
    """Declares the layers."""
    self.body = self.network or mlp.MLP(
      self.features, self.depth, self.activation, self.dropout, self.initialization
    )
    self.lstm = LSTMStack(self.hidden, self.layers)
    self.heads = LocLogScale(
      self.head_size or self.latent_size,
      *self.log_scale_bounds,
      self.head_initialization or self.initialization,
    )

  @property
  def log_scale_bounds(self) -> tuple[float, float]:
    """See base class."""
    return self.log_scale_low, self.log_scale_high

  def initial_state(self, batch_size: int) -> Carry:
    """See base class."""
    return self.lstm.initial_state(batch_size)

  def infer(
    self,
    state: Carry,
    encoded: PyTree,
    history: PyTree | None,
    prior: Normal,
    free_energy: StepFreeEnergy | None = None,
  ) -> Inferred:
    """See base class; the free energy has no part in it."""
    del free_energy
    state, h = self.lstm(state, self.body((encoded, history)))
    loc, log_scale = self.heads(h)
    if self.residual:
      loc = prior.loc + loc
    return Inferred(state, Normal(loc, log_scale))
