"""Stochastic video generation with a learned prior (Denton and Fergus 2018; AVF paper B.3).

    h_t = encoder(x_t)
    z_t ~ p(z_t | x_<t)      by an LSTM on h_{t-1}                of observations alone
    g_t = LSTM([h_{t-1}, z_t])                                    the frame predictor
    x_t ~ p(x_t | g_t)       by a decoder, which may also see the encoder's maps of an earlier frame
    q(z_t | x_<=t)           by an LSTM on h_t                    inference/

There is a density of the first frame, too: h_0 is learned, and its maps are zeros.
"""

from typing import ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from afslvm.distributions.normal import Normal
from afslvm.models.latent import LatentVariableModel
from afslvm.networks.heads import LocLogScale
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
    """The learned state before the first step."""
    return self.lstm.initial_state(batch_size)

  def __call__(self, state: Carry, x: Array) -> tuple[Carry, Array]:
    """One step on x [B, D]: the new state, and g [B, size]."""
    state, h = self.lstm(state, x)
    return state, jnp.tanh(self.output(h))


class EncodedFrames(NamedTuple):
  """h_t, and the encoder's maps; [B, T, ...]."""

  h: Array
  maps: Maps


class Past(NamedTuple):
  """What a step takes from the frames before it; [B, ...] or [B, T, ...]."""

  h: Array  # h_{t-1}
  prior: Normal  # p(z_t | x_<t)
  maps: Maps


class Memory(NamedTuple):
  """What is remembered of frames; [B, ...]."""

  prior: Hidden  # state of the prior's LSTM
  count: Array  # how many there were
  maps: Maps  # which the next step sees


class SVGState(NamedTuple):
  """The frame predictor's state, and the past before x_t."""

  predictor: Carry
  past: Past


class SVG(LatentVariableModel):
  """A prior and a predictor of encoded frames, and a decoder with skip connections.

  Attributes:
    frame_encoder: from frames [N, *event] and a mask [N] to h [N, G] and maps, with the methods
      `with_maps` and `map_shapes`.
    decoder: from g [N, G], a mask [N] and maps to what the likelihood takes.
    prior_recurrence: the prior's LSTM.
    prior_heads: mean and log-scale of the prior.
    predictor: from [h_{t-1}, z_t] to g_t.
    skips: whose maps the decoder sees: `last`, those of the frame before; `context`, the same up to
      frame `num_skip_frames`, and from then on always of that one (SVG, whose code with n_past
      given frames stops at n_past - 1); `none` (AVF paper's code, which multiplies them by zero).
    num_skip_frames: see `skips`.
  """

  frame_encoder: nn.Module
  decoder: nn.Module
  prior_recurrence: Recurrence
  prior_heads: LocLogScale
  predictor: FramePredictor
  skips: str = 'context'
  num_skip_frames: int = 5

  choices: ClassVar = {**LatentVariableModel.choices, 'skips': SKIPS}
  limits: ClassVar = {**LatentVariableModel.limits, 'num_skip_frames': (1, None)}

  def setup(self):
    """Declares the learned h_0."""
    self.h_0 = self.param('h_0', nn.initializers.zeros_init(), (self.predictor.size,))

  # ---- what frames alone decide -----------------------------------------------------------------

  def encode(self, x: Array, mask: Array) -> EncodedFrames:
    """All frames as one batch."""
    frames = x.reshape(-1, *x.shape[2:]) - _CENTER
    h, maps = self.frame_encoder.with_maps(frames, mask.reshape(-1))
    maps = () if self.skips == 'none' else maps
    return jax.tree.map(lambda v: v.reshape(*mask.shape, *v.shape[1:]), EncodedFrames(h, maps))

  def initial_memory(self, batch_size: int) -> Memory:
    """The prior's LSTM has seen h_0."""
    h_0 = jnp.broadcast_to(self.h_0, (batch_size, self.h_0.size))
    start = self.prior_recurrence.initial_state(batch_size)
    state = self.prior_recurrence(start, self.prior_recurrence.project(h_0))
    shapes = self.frame_encoder.map_shapes(self.event_shape[:2]) if self.skips != 'none' else ()
    maps = tuple(jnp.zeros((batch_size, *shape)) for shape in shapes)
    return Memory(state, jnp.zeros(batch_size, jnp.int32), maps)

  def remember(self, memory: Memory, encoded: EncodedFrames) -> tuple[Memory, Past]:
    """The prior of all steps; what follows x_t is of step t + 1."""
    state, outputs = self.prior_recurrence.run(memory.prior, encoded.h, self.unroll)
    maps = self._kept(memory, encoded.maps)
    past = Past(encoded.h, Normal(*self.prior_heads(outputs)), maps)
    count = memory.count + encoded.h.shape[1]
    return Memory(state, count, tuple(m[:, -1] for m in maps)), past

  def _kept(self, memory: Memory, maps: Maps) -> Maps:
    """Of maps [B, T, ...] of frames, those that the step after each of them sees."""
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

  def evidence(self, x: Array, encoded: EncodedFrames, memory: Memory, seen: Past) -> Array:
    """h_t."""
    del x, memory, seen
    return encoded.h

  # ---- what latent variables have a part in -----------------------------------------------------

  def initial_latent(self, batch_size: int) -> SVGState:
    """Before the first frame; nothing of a frame is seen but h_0."""
    memory = self.initial_memory(batch_size)
    h_0 = jnp.broadcast_to(self.h_0, (batch_size, self.h_0.size))
    past = Past(h_0, Normal(*self.prior_heads(memory.prior[-1])), memory.maps)
    return SVGState(self.predictor.initial_state(batch_size), past)

  def prior(self, state: SVGState) -> Normal:
    """p(z_t | x_<t)."""
    return state.past.prior

  def context(self, state: SVGState) -> Array:
    """The posterior sees nothing of the past but what its own LSTM remembers."""
    return state.past.h[:, :0]

  def features(self, state: SVGState, z_t: Array) -> tuple[Array, Maps]:
    """g_t, and the maps that the decoder sees beside it."""
    return self._predicted(state, z_t)[1], state.past.maps

  def decode(self, features: PyTree, mask: Array) -> Array:
    """All frames as one batch."""
    g, maps = features
    return self.decoder(g, mask, maps)

  def transition(self, state: SVGState, z_t: Array, seen_t: Past) -> SVGState:
    """The frame predictor moves on; the compiler sees that `features` did the same."""
    return SVGState(self._predicted(state, z_t)[0], seen_t)

  def _predicted(self, state: SVGState, z_t: Array) -> tuple[Carry, Array]:
    return self.predictor(state.predictor, jnp.concatenate([state.past.h, z_t], axis=-1))
