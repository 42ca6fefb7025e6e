"""The variational recurrent neural network (Chung et al. 2015), as in the AVF paper (B.1).

z_t ~ p(z_t | h_{t-1})
x_t ~ p(x_t | φ_z(z_t), h_{t-1})
h_t = RNN(h_{t-1}, [φ_x(x_t), φ_z(z_t)])
q(z_t | φ_x(x_t), h_{t-1})                                                     inference/
"""

import flax.linen as nn
import jax.numpy as jnp

from afslvm.distributions.normal import Normal
from afslvm.models.priors import NormalNetwork
from afslvm.models.state_space import StateSpaceModel
from afslvm.networks.mlp import join
from afslvm.networks.recurrent import Hidden, Recurrence
from afslvm.types import Array, PyTree


class VRNN(StateSpaceModel):
  """Latent variables that move with a recurrence of observations and latent variables.

  The networks are of vectors, or, like the recurrence, of maps.

  Attributes:
    recurrence: of [φ_x(x_t), φ_z(z_t)].
    observation_network: φ_x, of observations [N, *event] and a mask [N].
    latent_network: φ_z, of z_t [N, *latent_shape].
    prior_network: p(z_t | h_{t-1}).
    decoder: a network from (h_{t-1}, φ_z(z_t)) and a mask [N] to what the likelihood takes.
  """

  recurrence: Recurrence
  observation_network: nn.Module
  latent_network: nn.Module
  prior_network: NormalNetwork
  decoder: nn.Module

  def initial(self, batch_size: int) -> Hidden:
    """h_0 is learned."""
    return self.recurrence.initial_state(batch_size)

  def observe(self, memory: tuple, x: Array, mask: Array) -> tuple[tuple, Array]:
    """φ_x(x_t) for all t."""
    phi_x = self.observation_network(x.reshape(-1, *x.shape[2:]), mask.reshape(-1))
    return memory, phi_x.reshape(*mask.shape, *phi_x.shape[1:])

  def prior(self, state: Hidden, seen_t: Array) -> Normal:
    """p(z_t | h_{t-1})."""
    return self.prior_network(state[-1])

  def history(self, state: Hidden) -> Array:
    """The posterior sees h_{t-1}, and φ_x(x_t) as evidence."""
    return state[-1]

  def emission(self, state: Hidden, z_t: Array, seen_t: Array, mask_t: Array) -> PyTree:
    """The decoder sees h_{t-1} and φ_z(z_t)."""
    return self.decoder((state[-1], self.latent_network(self.as_map(z_t))), mask_t)

  def transition(self, state: Hidden, z_t: Array, seen_t: Array) -> Hidden:
    """h_t = RNN(h_{t-1}, [φ_x(x_t), φ_z(z_t)])."""
    phi_z = self.latent_network(self.as_map(z_t))
    return self.recurrence(state, join((seen_t, phi_z)))

  def skip(self, state: Hidden, seen_t: Array) -> Hidden:
    """A step that is only given moves h by its observation, with z_t = 0."""
    return self.transition(state, jnp.zeros((len(state[-1]), self.latent_size)), seen_t)

  @property
  def prior_log_scale_bounds(self) -> tuple[float, float] | None:
    """See base class."""
    return self.prior_network.log_scale_bounds
