"""Priors of latent variables: p(z_t | inputs) of one step, and p(z_t | z_<t) of a sequence.

The priors of a sequence are sequence models of z: `LSTMPrior` is recurrent, and `FlowPrior` is a
temporal flow around another prior, which applies AF paper Eq. 15 to z (future work there).
"""

from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from afslvm.distributions.normal import Normal
from afslvm.flows.temporal import AutoregressiveAffine, Window
from afslvm.networks import conv
from afslvm.networks.heads import LocLogScale
from afslvm.networks.recurrent import Carry, LSTMStack
from afslvm.transforms import affine
from afslvm.types import Array, PyTree

FIRST_STEPS = ('recurrent', 'learned', 'standard')


class NormalNetwork(nn.Module):
  """A normal distribution whose parameters are a function of the inputs.

  Attributes:
    body: a network from any pytree of inputs, vectors or maps, to features.
    heads: from features to mean and log-scale, flat [N, Z].
  """

  body: nn.Module
  heads: LocLogScale

  def __call__(self, inputs: PyTree) -> Normal:
    """Returns the distribution, [N, Z]."""
    return Normal(*self.heads(self.body(inputs)))

  @property
  def log_scale_bounds(self) -> tuple[float, float]:
    """Returns the least and the greatest log-scale."""
    return self.heads.log_scale_low, self.heads.log_scale_high


class LatentPrior(nn.Module):
  """p(z_t | z_<t), a normal at every step.

  Attributes:
    latent_size: Z.
  """

  latent_size: int

  def initial_state(self, batch_size: int) -> PyTree:
    """Returns the state before the first step, every array with a leading [B]."""
    raise NotImplementedError

  def distribution(self, state: PyTree) -> Normal:
    """Returns p(z_t | z_<t), [B, Z]."""
    raise NotImplementedError

  def advance(self, state: PyTree, z_t: Array) -> PyTree:
    """Returns the state after z_t [B, Z]."""
    raise NotImplementedError

  @property
  def log_scale_bounds(self) -> tuple[float, float] | None:
    """Returns the least and the greatest log-scale, or None without bounds."""
    return None


class LSTMState(NamedTuple):
  """The LSTM's state, and the distribution of the next latent variable."""

  carry: Carry
  prior: Normal


class LSTMPrior(LatentPrior):
  """z_{t-1} -> dense layers -> LSTM layers -> mean and log-scale of z_t (AF paper Appendix B).

  Attributes:
    features: width of the dense layers (paper: 256).
    depth: dense layers (paper: 2).
    hidden: units of each LSTM layer (paper: 256).
    layers: LSTM layers (paper: 2 for SLVM, 1 under flows).
    first_step: p(z_1): `recurrent`, from z_0 = 0 (paper's code); `learned`, a mean and a log-scale
      of its own; `standard`, N(0, I).
    log_scale_low: least log-scale (paper: -15).
    log_scale_high: greatest log-scale (paper: 5).
    initialization: of the linear layers, one of `conv.INITIALIZATIONS`.
  """

  features: int = 256
  depth: int = 2
  hidden: int = 256
  layers: int = 2
  first_step: str = 'recurrent'
  log_scale_low: float = -15.0
  log_scale_high: float = 5.0
  initialization: str = 'lecun'

  choices: ClassVar = {'first_step': FIRST_STEPS, 'initialization': conv.INITIALIZATIONS}
  limits: ClassVar = {
    'features': (1, None),
    'depth': (0, None),
    'hidden': (1, None),
    'layers': (1, None),
  }

  @property
  def log_scale_bounds(self) -> tuple[float, float]:
    """See base class."""
    return self.log_scale_low, self.log_scale_high

  def setup(self):
    """Declares the layers."""
    init: dict[str, Any] = {'kernel_init': conv.kernel_init(self.initialization)}
    if self.initialization == 'xavier':
      init['bias_init'] = nn.initializers.constant(0.1)  # as in the paper's code
    self.dense = [nn.Dense(self.features, **init) for _ in range(self.depth)]
    self.lstm = LSTMStack(self.hidden, self.layers)
    self.heads = LocLogScale(
      self.latent_size, self.log_scale_low, self.log_scale_high, self.initialization
    )
    if self.first_step == 'learned':
      zeros = nn.initializers.zeros_init()
      self.first_loc = self.param('first_loc', zeros, (self.latent_size,))
      self.first_log_scale = self.param('first_log_scale', zeros, (self.latent_size,))

  def initial_state(self, batch_size: int) -> LSTMState:
    """See base class."""
    shape = (batch_size, self.latent_size)
    before = LSTMState(
      self.lstm.initial_state(batch_size), Normal(jnp.zeros(shape), jnp.zeros(shape))
    )
    if self.first_step == 'recurrent':
      return self.advance(before, jnp.zeros(shape))
    if self.first_step == 'standard':
      return before
    first = Normal(*(jnp.broadcast_to(p, shape) for p in (self.first_loc, self.first_log_scale)))
    return before._replace(prior=first)

  def distribution(self, state: LSTMState) -> Normal:
    """See base class."""
    return state.prior

  def advance(self, state: LSTMState, z_t: Array) -> LSTMState:
    """See base class."""
    h = z_t
    for layer in self.dense:
      h = nn.relu(layer(h))
    carry, h = self.lstm(state.carry, h)
    return LSTMState(carry, Normal(*self.heads(h)))


class FlowPriorState(NamedTuple):
  """The state of a flow around a prior between steps."""

  window: Window
  base: PyTree


class FlowPrior(LatentPrior):
  """z_t = shift(z_<t) + scale(z_<t) u_t, with `base` a prior of u (AF paper Eq. 15 on z).

  Given the past this is an affine map of a normal variable, hence normal: the divergence from a
  posterior stays in closed form.

  Attributes:
    base: the prior of u.
    flow: the transform, with boundary `learned`.
  """

  base: LatentPrior
  flow: AutoregressiveAffine

  def initial_state(self, batch_size: int) -> FlowPriorState:
    """See base class."""
    return FlowPriorState(self.flow.empty_window(batch_size), self.base.initial_state(batch_size))

  def distribution(self, state: FlowPriorState) -> Normal:
    """See base class."""
    shift, log_scale, _ = self.flow.step_parameters(state.window)
    u = self.base.distribution(state.base)
    loc, _ = affine.forward(u.loc, shift, log_scale, 1)
    return Normal(loc, u.log_scale + log_scale)

  def advance(self, state: FlowPriorState, z_t: Array) -> FlowPriorState:
    """See base class."""
    shift, log_scale, _ = self.flow.step_parameters(state.window)
    u_t, _ = affine.inverse(z_t, shift, log_scale, 1)
    return FlowPriorState(self.flow.push(state.window, z_t), self.base.advance(state.base, u_t))
