"""Stochastic video generation with a learned prior (Denton and Fergus 2018; AVF paper B.3).

    h_t = encoder(x_t)
    r_t = LSTM(r_{t-1}, h_{t-1})                                  of observations alone
    z_t ~ p(z_t | r_t)
    g_t = LSTM(g_{t-1}, [h_{t-1}, z_t])                           the frame predictor
    x_t ~ p(x_t | g_t)       by a decoder, which may also see the encoder's maps of an earlier frame
    q(z_t | x_<=t)           by an LSTM on h_t                    inference/

There is a density of the first frame, too: h_0 is learned, and its maps are zeros.
"""

from typing import ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from afslvm.distributions.normal import Normal
from afslvm.models.priors import NormalNetwork
from afslvm.models.state_space import StateSpaceModel
from afslvm.networks.mlp import join
from afslvm.networks.recurrent import Carry, Hidden, LSTMStack, Recurrence
from afslvm.types import Array, PyTree

SKIPS = ('context', 'last', 'none')
_CENTER = 0.5  # of data in [0, 1], subtracted before they are encoded as in the AVF paper's code
Maps = tuple[Array, ...]  # of an encoder, the largest first; [B, H, W, C], or [B, T, H, W, C]


class FramePredictor(nn.Module):
  """LSTM layers and a dense one with tanh.

  Attributes:
    size: of the output.
    features: units of each LSTM layer (SVG: 256).
    layers: LSTM layers (SVG: 2).
  """

  size: int
  features: int = 256
  layers: int = 2

  limits: ClassVar = {'features': (1, None), 'layers': (1, None)}

  def setup(self):
    """Declares the layers."""
    self.lstm = LSTMStack(self.features, self.layers)
    self.output = nn.Dense(self.size)

  def initial_state(self, batch_size: int) -> Carry:
    """Returns the learned state before the first step."""
    return self.lstm.initial_state(batch_size)

  def __call__(self, state: Carry, x: Array) -> tuple[Carry, Array]:
    """Takes x [B, D] in: returns the new state, and g [B, size]."""
    state, h = self.lstm(state, x)
    return state, jnp.tanh(self.output(h))


class Memory(NamedTuple):
  """What is remembered of frames; [B, ...]."""

  h: Array  # h_{t-1}
  prior: Hidden  # the state of the prior's LSTM after h_{t-1}
  count: Array  # int32, how many there were
  maps: Maps  # those that the next step sees


class Seen(NamedTuple):
  """h_t, and what x_<t decide; [B, T, ...]."""

  h: Array
  h_tm1: Array
  r: Array  # output of the prior's LSTM
  maps: Maps  # those that the decoder sees


class SVG(StateSpaceModel):
  """A prior and a predictor of encoded frames, and a decoder with skip connections.

  The state is that of the frame predictor.

  Attributes:
    frame_encoder: from frames [N, *event] and a mask [N] to h [N, G] and maps, with the methods
      `with_maps` and `map_shapes`.
    decoder: from g [N, G], a mask [N] and maps to what the likelihood takes.
    prior_recurrence: the prior's LSTM.
    prior_network: p(z_t | r_t).
    predictor: from [h_{t-1}, z_t] to g_t.
    skips: whose maps the decoder sees: `last`, those of the frame before; `context`, the same up to
      frame `num_skip_frames`, and from then on always of that one (SVG, whose code with n_past
      given frames stops at n_past - 1); `none` (AVF paper's code, which multiplies them by zero).
    num_skip_frames: see `skips`.
  """

  frame_encoder: nn.Module
  decoder: nn.Module
  prior_recurrence: Recurrence
  prior_network: NormalNetwork
  predictor: FramePredictor
  skips: str = 'context'
  num_skip_frames: int = 5

  prior_sees_latents: ClassVar = False
  choices: ClassVar = {**StateSpaceModel.choices, 'skips': SKIPS}
  limits: ClassVar = {**StateSpaceModel.limits, 'num_skip_frames': (1, None)}

  def setup(self):
    """Declares the learned h_0."""
    self.h_0 = self.param('h_0', nn.initializers.zeros_init(), (self.predictor.size,))

  def initial(self, batch_size: int) -> Carry:
    """The frame predictor's first state is learned."""
    return self.predictor.initial_state(batch_size)

  def initial_memory(self, batch_size: int) -> Memory:
    """Nothing is seen before the first frame but the learned h_0; the maps are zeros."""
    h_0 = jnp.broadcast_to(self.h_0, (batch_size, self.h_0.size))
    prior = self.prior_recurrence(self.prior_recurrence.initial_state(batch_size), h_0)
    shapes = self.frame_encoder.map_shapes(self.event_shape[:2]) if self.skips != 'none' else ()
    maps = tuple(jnp.zeros((batch_size, *shape)) for shape in shapes)
    return Memory(h_0, prior, jnp.zeros(batch_size, jnp.int32), maps)

  def observe(self, memory: Memory, x: Array, mask: Array) -> tuple[Memory, Seen]:
    """h_t = encoder(x_t), and r_t = LSTM(r_{t-1}, h_{t-1}), for all t."""
    h, maps = self._encode(x, mask)
    prior, r_tp1 = self.prior_recurrence.run(memory.prior, h, self.unroll)
    kept = self._kept(memory, maps)
    before = memory.h, memory.prior[-1], memory.maps

    def shifted(first, values):
      """Values of the step before each."""
      return jnp.concatenate([first[:, None], values[:, :-1]], axis=1)

    h_tm1, r, maps_tm1 = jax.tree.map(shifted, before, (h, r_tp1, kept))
    last = tuple(values[:, -1] for values in kept)
    memory = Memory(h[:, -1], prior, memory.count + x.shape[1], last)
    return memory, Seen(h, h_tm1, r, maps_tm1)

  def _encode(self, x: Array, mask: Array) -> tuple[Array, Maps]:
    """Returns h and maps of all frames, [B, T, ...]."""
    frames = x.reshape(-1, *x.shape[2:]) - _CENTER
    h, maps = self.frame_encoder.with_maps(frames, mask.reshape(-1))
    maps = () if self.skips == 'none' else maps
    return jax.tree.map(lambda v: v.reshape(*mask.shape, *v.shape[1:]), (h, maps))

  def _kept(self, memory: Memory, maps: Maps) -> Maps:
    """Returns, of maps [B, T, ...] of frames, those that the step after each of them sees."""
    if self.skips != 'context' or not maps:
      return maps
    before, numbers = memory.count[:, None], jnp.arange(maps[0].shape[1])
    newest = jnp.minimum(before + numbers, self.num_skip_frames - 1) - before

    def of_sequence(held, own, index):
      return jnp.concatenate([held[None], own])[index]

    # Place 0 is what was held before the first of these frames.
    places = jnp.maximum(newest + 1, 0)
    return tuple(
      jax.vmap(of_sequence)(held, own, places) for held, own in zip(memory.maps, maps, strict=True)
    )

  def evidence(self, seen: Seen) -> Array:
    """The posterior sees h_t, and remembers those before by an LSTM of its own."""
    return seen.h

  def prior(self, state: Carry, seen_t: Seen) -> Normal:
    """p(z_t | r_t)."""
    return self.prior_network(seen_t.r)

  def emission(self, state: Carry, z_t: Array, seen_t: Seen, mask_t: Array) -> PyTree:
    """The decoder sees g_t, and maps of an earlier frame."""
    _, g_t = self.predictor(state, join((seen_t.h_tm1, z_t)))
    return self.decoder(g_t, mask_t, seen_t.maps)

  def transition(self, state: Carry, z_t: Array, seen_t: Seen) -> Carry:
    """The frame predictor moves on."""
    return self.predictor(state, join((seen_t.h_tm1, z_t)))[0]

  def skip(self, state: Carry, seen_t: Seen) -> Carry:
    """A frame that is only given moves the predictor, with z_t = 0."""
    return self.transition(state, jnp.zeros((len(seen_t.h), self.latent_size)), seen_t)

  @property
  def prior_log_scale_bounds(self) -> tuple[float, float] | None:
    """See base class."""
    return self.prior_network.log_scale_bounds
