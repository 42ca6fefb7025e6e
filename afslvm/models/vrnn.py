"""The variational recurrent neural network (Chung et al. 2015), as in the AVF paper (B.1).

z_t ~ p(z_t | h_{t-1})
x_t ~ p(x_t | φ_z(z_t), h_{t-1})
h_t = RNN(h_{t-1}, [φ_x(x_t), φ_z(z_t)])
q(z_t | φ_x(x_t), h_{t-1})                                                         inference/
"""

from typing import NamedTuple

import flax.linen as nn

from afslvm.distributions.normal import Normal
from afslvm.models.latent import LatentVariableModel
from afslvm.networks.heads import LocLogScale
from afslvm.networks.mlp import MLP, JointMLP
from afslvm.networks.recurrent import Hidden, Recurrence
from afslvm.types import Array


class EncodedStep(NamedTuple):
  """φ_x(x_t), and what the recurrence takes from it; [B, T, ...]."""

  phi_x: Array
  for_recurrence: Array


class VRNN(LatentVariableModel):
  """Latent variables that move with a recurrence of observations and latent variables.

  Attributes:
    recurrence: of [φ_x(x_t), φ_z(z_t)].
    observation_network: φ_x.
    latent_network: φ_z.
    transition_network: of h_{t-1}, for the prior.
    prior_heads: mean and log-scale of the prior.
    decoder: of [h_{t-1}, φ_z(z_t)].
  """

  recurrence: Recurrence
  observation_network: MLP
  latent_network: MLP
  transition_network: MLP
  prior_heads: LocLogScale
  decoder: JointMLP

  def setup(self):
    """Declares what the recurrence takes from φ_z; its bias is where it takes φ_x."""
    self.latent_input = nn.Dense(self.recurrence.gates, use_bias=False)

  def initial_latent(self, batch_size: int) -> Hidden:
    """The learned first state of the recurrence."""
    return self.recurrence.initial_state(batch_size)

  def encode(self, x: Array, mask: Array) -> EncodedStep:
    """φ_x(x_t), of all frames at once."""
    phi_x = self.observation_network(x.reshape(-1, *x.shape[2:])).reshape(*mask.shape, -1)
    return EncodedStep(phi_x, self.recurrence.project(phi_x))

  def evidence(self, x: Array, encoded: EncodedStep, memory: tuple, seen: EncodedStep) -> Array:
    """φ_x(x_t)."""
    del x, memory, seen
    return encoded.phi_x

  def prior(self, state: Hidden) -> Normal:
    """p(z_t | h_{t-1})."""
    return Normal(*self.prior_heads(self.transition_network(state[-1])))

  def seen_by_prior(self, state: Hidden) -> Hidden:
    """h_{t-1}."""
    return state[-1:]

  def context(self, state: Hidden) -> Array:
    """The posterior sees h_{t-1}."""
    return state[-1]

  def features(self, state: Hidden, z_t: Array) -> tuple[Array, Array]:
    """The decoder sees h_{t-1} and z_t."""
    return state[-1], z_t

  def decode(self, features: tuple[Array, Array], mask: Array) -> Array:
    """All steps as one batch, φ_z(z_t) once more: in the scan, it would have two gradients."""
    del mask
    h_tm1, z_t = features
    return self.decoder(self.decoder.project(h_tm1), self.latent_network(z_t))

  def transition(self, state: Hidden, z_t: Array, seen_t: EncodedStep) -> Hidden:
    """h_t, of x_t and z_t."""
    phi_z = self.latent_network(z_t)
    return self.recurrence(state, seen_t.for_recurrence + self.latent_input(phi_z))
