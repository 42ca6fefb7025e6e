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
from afslvm.models.priors import LatentPrior
from afslvm.models.state_space import StateSpaceModel
from afslvm.types import Array, PyTree


class SLVMState(NamedTuple):
  """The prior's state, and z_{t-1} [B, Z] for the posterior."""

  prior: PyTree
  z_tm1: Array


class SLVM(StateSpaceModel):
  """A latent variable that moves by itself, and observations that depend on it alone.

  Attributes:
    dynamics: p(z_t | z_<t).
    decoder: a network from z_t [N, Z] and a mask [N] to what the likelihood takes.
  """

  dynamics: LatentPrior
  decoder: nn.Module

  def initial(self, batch_size: int) -> SLVMState:
    """z_0 = 0."""
    z_0 = jnp.zeros((batch_size, self.latent_size))
    return SLVMState(self.dynamics.initial_state(batch_size), z_0)

  def prior(self, state: SLVMState, seen_t: PyTree) -> Normal:
    """p(z_t | z_<t)."""
    return self.dynamics.distribution(state.prior)

  def history(self, state: SLVMState) -> Array:
    """The posterior sees z_{t-1}."""
    return state.z_tm1

  def emission(self, state: SLVMState, z_t: Array, seen_t: PyTree, mask_t: Array) -> PyTree:
    """The decoder sees z_t."""
    return self.decoder(z_t, mask_t)

  def transition(self, state: SLVMState, z_t: Array, seen_t: PyTree) -> SLVMState:
    """Observations have no influence but through z_t."""
    return SLVMState(self.dynamics.advance(state.prior, z_t), z_t)

  @property
  def prior_log_scale_bounds(self) -> tuple[float, float] | None:
    """See base class."""
    return self.dynamics.log_scale_bounds
