"""The sequential latent variable model of the AF paper (Section 4.1, Appendix B).

    z_t ~ p(z_t | z_<t)      by an LSTM, or an LSTM under flows          models/priors.py
    y_t ~ p(y_t | z_t)       a decoder of z_t alone                      likelihoods/
    q(z_t | y_<=t, z_<t)     an encoder, an LSTM on [y_t, z_{t-1}]       inference/

Under temporal flows y_t is what they pass on, else it is the data.
"""

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from afslvm.distributions.normal import Normal
from afslvm.models.latent import LatentVariableModel
from afslvm.models.priors import LatentPrior
from afslvm.types import Array, PyTree


class SLVMState(NamedTuple):
  """The prior's state, and z_{t-1} [B, Z] for the posterior."""

  prior: PyTree
  z_tm1: Array


class SLVM(LatentVariableModel):
  """A latent variable that moves by itself, and observations that depend on it alone.

  Attributes:
    dynamics: p(z_t | z_<t).
    decoder: from z_t [N, Z] and a mask [N] to what the likelihood takes.
  """

  dynamics: LatentPrior
  decoder: nn.Module

  def initial_latent(self, batch_size: int) -> SLVMState:
    """z_0 = 0."""
    z_0 = jnp.zeros((batch_size, self.latent_size))
    return SLVMState(self.dynamics.initial_state(batch_size), z_0)

  def prior(self, state: SLVMState) -> Normal:
    """p(z_t | z_<t)."""
    return self.dynamics.distribution(state.prior)

  def context(self, state: SLVMState) -> Array:
    """The posterior sees z_{t-1}."""
    return state.z_tm1

  def features(self, state: SLVMState, z_t: Array) -> Array:
    """The decoder sees z_t alone."""
    del state
    return z_t

  def decode(self, features: Array, mask: Array) -> Array:
    """All frames as one batch."""
    return self.decoder(features, mask)

  def transition(self, state: SLVMState, z_t: Array, encoded_t: Array) -> SLVMState:
    """Observations have no influence but through z."""
    del encoded_t
    return SLVMState(self.dynamics.advance(state.prior, z_t), z_t)
