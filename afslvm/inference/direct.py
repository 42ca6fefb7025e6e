"""Direct amortised inference: one pass of a network per step (AF paper Section 4.1)."""

from typing import ClassVar

import jax.numpy as jnp

from afslvm.distributions.normal import Normal
from afslvm.inference.base import Inference, Inferred, StepFreeEnergy
from afslvm.networks import conv, mlp
from afslvm.networks.heads import LocLogScale
from afslvm.networks.recurrent import Carry, LSTMStack
from afslvm.types import Array


class Direct(Inference):
  """[observation, context] -> dense layers -> LSTM layers -> mean and log-scale.

  Attributes:
    features: width of the dense layers.
    depth: dense layers (VRNN: 4, AF paper: 0); the first one's product with the observations is
      made for all steps at once.
    activation: of the dense layers, one of `mlp.ACTIVATIONS`.
    dropout: of the dense layers.
    hidden: units of each LSTM layer (AF paper: 256).
    layers: LSTM layers (AF paper: 2 for SLVM, 1 under flows).
    residual: the network gives the difference to the prior's mean, RES_q of SRNN (Fraccaro et al.
      2016), so that the posterior begins where the prior is.
    log_scale_low: least log-scale of z (AF paper: -15).
    log_scale_high: greatest log-scale of z (AF paper: 5).
    initialization: of the linear layers, one of `conv.INITIALIZATIONS`.
    head_initialization: of those that give mean and log-scale; '' is the same.
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

  choices: ClassVar = {
    **Inference.choices,
    **mlp.MLP.choices,
    'head_initialization': ('', *conv.INITIALIZATIONS),
  }
  limits: ClassVar = {
    **Inference.limits,
    **mlp.MLP.limits,
    'hidden': (1, None),
    'layers': (0, None),
  }

  def setup(self):
    """Declares the layers."""
    super().setup()
    if self.depth:
      self.joint = mlp.JointMLP(
        self.features, self.depth, self.activation, self.dropout, self.initialization
      )
    self.lstm = LSTMStack(self.hidden, self.layers)
    init = self.head_initialization or self.initialization
    self.heads = LocLogScale(self.latent_size, self.log_scale_low, self.log_scale_high, init)

  @property
  def uses_prior(self) -> bool:
    """See base class."""
    return self.residual

  def encode(self, evidence: Array, mask: Array) -> Array:
    """See base class; with dense layers, their product with the observations."""
    observed = super().encode(evidence, mask)
    return self.joint.project(observed) if self.depth else observed

  def initial_state(self, batch_size: int) -> Carry:
    """See base class."""
    return self.lstm.initial_state(batch_size)

  def infer(
    self,
    state: Carry,
    observed: Array,
    context: Array,
    prior: Normal | None = None,
    free_energy: StepFreeEnergy | None = None,
  ) -> Inferred:
    """See base class; the free energy has no part in it."""
    del free_energy
    if self.depth:
      h = self.joint(observed, context)
    else:
      h = jnp.concatenate([observed, context], axis=-1)
    state, h = self.lstm(state, h)
    loc, log_scale = self.heads(h)
    if self.residual:
      loc = prior.loc + loc
    return Inferred(state, Normal(loc, log_scale))
