"""The stochastic recurrent neural network (Fraccaro et al. 2016), as in the AVF paper (B.1-B.2).

    h_t = RNN(h_{t-1}, u(x_{t-1}))              of observations alone
    z_t ~ p(z_t | z_{t-1}, h_t)
    x_t ~ p(x_t | z_t, h_t)
    q(z_t | x_t, h_t [, z_{t-1}])                or, smoothing, of all x                inference/

The recurrence knows no latent variable: it runs ahead of the filter, and what prior, decoder and
posterior take from h is computed for all steps at once.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from afslvm.distributions.normal import Normal
from afslvm.models.latent import LatentVariableModel
from afslvm.networks.heads import LocLogScale
from afslvm.networks.mlp import MLP, Dropout, JointMLP
from afslvm.networks.recurrent import Hidden, Recurrence
from afslvm.types import Array


class Past(NamedTuple):
  """h_t, and what prior and decoder take from it; [B, ...] or [B, T, ...]."""

  h: Array
  for_prior: Array
  for_decoder: Array


class SRNNState(NamedTuple):
  """z_{t-1} [B, Z], and the past before x_t."""

  z_tm1: Array
  past: Past


class SRNN(LatentVariableModel):
  """Latent variables with dynamics of their own, on top of a recurrence of the observations.

  Attributes:
    recurrence: of the observations.
    transition_network: of [h_t, z_{t-1}], for the prior.
    prior_heads: mean and log-scale of the prior.
    decoder: of [h_t, z_t].
    embedding: u(x), of observations [N, *event]; also what the posterior sees of them.
    posterior_sees_latent: the posterior also depends on z_{t-1}.
    dropout: share of h that training drops. Observations stay whole: where a note that is not seen
      may have been dropped, neither posterior nor prior can be sure of anything.
  """

  recurrence: Recurrence
  transition_network: JointMLP
  prior_heads: LocLogScale
  decoder: JointMLP
  embedding: MLP
  posterior_sees_latent: bool = False
  dropout: float = 0.0

  def setup(self):
    """Declares the learned z_0."""
    self.z_0 = self.param('z_0', jax.nn.initializers.zeros, (self.latent_size,))
    self.drop = Dropout(self.dropout)

  def initial_latent(self, batch_size: int) -> SRNNState:
    """The learned z_0 and h_1."""
    z_0 = jnp.broadcast_to(self.z_0, (batch_size, self.latent_size))
    return SRNNState(z_0, self._past(self.recurrence.initial_state(batch_size)[-1]))

  def _past(self, h: Array) -> Past:
    h = self.drop(h)
    return Past(h, self.transition_network.project(h), self.decoder.project(h))

  def encode(self, x: Array, mask: Array) -> Array:
    """u(x), [B, T, U]."""
    u = self.embedding(x.reshape(-1, *x.shape[2:]))
    return u.reshape(*mask.shape, -1)

  def initial_memory(self, batch_size: int) -> Hidden:
    """The learned first state of the recurrence."""
    return self.recurrence.initial_state(batch_size)

  def remember(self, memory: Hidden, encoded: Array) -> tuple[Hidden, Past]:
    """The recurrence over all steps; what follows x_t is h_{t+1}."""
    memory, h = self.recurrence.run(memory, encoded, self.unroll)
    return memory, self._past(h)

  def evidence(self, x: Array, encoded: Array, memory: Hidden, seen: Past) -> Array:
    """[u(x_t), h_t]."""
    del x
    h = jnp.concatenate([self.drop(memory[-1])[:, None], seen.h[:, :-1]], axis=1)
    return jnp.concatenate([encoded, h], axis=-1)

  def prior(self, state: SRNNState) -> Normal:
    """p(z_t | z_{t-1}, h_t)."""
    return Normal(*self.prior_heads(self.transition_network(state.past.for_prior, state.z_tm1)))

  def seen_by_prior(self, state: SRNNState) -> SRNNState:
    """z_{t-1}, and what it takes from h_t."""
    nothing = state.z_tm1[:, :0]
    return state._replace(past=Past(nothing, state.past.for_prior, nothing))

  def context(self, state: SRNNState) -> Array:
    """z_{t-1}, where the posterior sees it; h_t is part of the evidence."""
    return state.z_tm1 if self.posterior_sees_latent else state.z_tm1[:, :0]

  def features(self, state: SRNNState, z_t: Array) -> tuple[Array, Array]:
    """The decoder sees h_t and z_t."""
    return state.past.for_decoder, z_t

  def decode(self, features: tuple[Array, Array], mask: Array) -> Array:
    """All steps as one batch."""
    del mask
    return self.decoder(*features)

  def transition(self, state: SRNNState, z_t: Array, seen_t: Past) -> SRNNState:
    """On to h_{t+1}."""
    del state
    return SRNNState(z_t, seen_t)
