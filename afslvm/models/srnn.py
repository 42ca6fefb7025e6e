"""The stochastic recurrent neural network (Fraccaro et al. 2016), as in the AVF paper (B.1-B.2).

h_t = RNN(h_{t-1}, u(x_{t-1}))              of observations alone
z_t ~ p(z_t | z_{t-1}, h_t)
x_t ~ p(x_t | z_t, h_t)
q(z_t | u(x_t), h_t [, z_{t-1}])             or, smoothing, of all x                inference/
"""

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from afslvm.distributions.normal import Normal
from afslvm.models.priors import NormalNetwork
from afslvm.models.state_space import StateSpaceModel
from afslvm.networks.mlp import Dropout
from afslvm.networks.recurrent import Hidden, Recurrence
from afslvm.types import Array, PyTree


class Seen(NamedTuple):
  """u(x_t), and h_t, which x_<t decide; [B, T, ...]."""

  u: Array
  h: Array


class SRNN(StateSpaceModel):
  """Latent variables with dynamics of their own, on top of a recurrence of the observations.

  The networks are of vectors, or, like the recurrence, of maps. The state is z_{t-1} [B, Z].

  Attributes:
    recurrence: of u(x_{t-1}).
    embedding: u, of observations [N, *event] and a mask [N].
    prior_network: p(z_t | h_t, z_{t-1}).
    decoder: a network from (h_t, z_t) and a mask [N] to what the likelihood takes.
    posterior_sees_latent: whether the posterior also depends on z_{t-1}.
    dropout: share of h that training drops. Observations stay whole: where a note that is not seen
      may have been dropped, neither posterior nor prior can be sure of anything.
  """

  recurrence: Recurrence
  embedding: nn.Module
  prior_network: NormalNetwork
  decoder: nn.Module
  posterior_sees_latent: bool = False
  dropout: float = 0.0

  def setup(self):
    """Declares the learned z_0, and the dropout of h."""
    self.z_0 = self.param('z_0', nn.initializers.zeros_init(), (self.latent_size,))
    self.drop = Dropout(self.dropout)

  def initial(self, batch_size: int) -> Array:
    """z_0 is learned."""
    return jnp.broadcast_to(self.z_0, (batch_size, self.latent_size))

  def initial_memory(self, batch_size: int) -> Hidden:
    """h_1 is learned."""
    return self.recurrence.initial_state(batch_size)

  def observe(self, memory: Hidden, x: Array, mask: Array) -> tuple[Hidden, Seen]:
    """u_t = u(x_t), and h_t = RNN(h_{t-1}, u_{t-1}), for all t."""
    u = self.embedding(x.reshape(-1, *x.shape[2:]), mask.reshape(-1))
    u = u.reshape(*mask.shape, *u.shape[1:])
    after, h_tp1 = self.recurrence.run(memory, u, self.unroll)
    h = jnp.concatenate([memory[-1][:, None], h_tp1[:, :-1]], axis=1)
    return after, Seen(u, self.drop(h))

  def prior(self, state: Array, seen_t: Seen) -> Normal:
    """p(z_t | h_t, z_{t-1})."""
    return self.prior_network((seen_t.h, self.as_map(state)))

  def history(self, state: Array) -> Array | None:
    """The posterior may see z_{t-1}, beside u_t and h_t as evidence."""
    return self.as_map(state) if self.posterior_sees_latent else None

  def emission(self, state: Array, z_t: Array, seen_t: Seen, mask_t: Array) -> PyTree:
    """The decoder sees h_t and z_t."""
    return self.decoder((seen_t.h, self.as_map(z_t)), mask_t)

  def transition(self, state: Array, z_t: Array, seen_t: Seen) -> Array:
    """z_t is all that the next step needs."""
    return z_t

  @property
  def prior_log_scale_bounds(self) -> tuple[float, float] | None:
    """See base class."""
    return self.prior_network.log_scale_bounds
