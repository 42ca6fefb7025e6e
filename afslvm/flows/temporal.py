"""The parameters of one affine autoregressive transform across time (AF paper Eq. 5-8, 15).

shift_t and log_scale_t are functions of the `window` previous steps. All steps of a sequence are
computed at once from features that were encoded once.
"""

from typing import ClassVar, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from afslvm.transforms import affine
from afslvm.types import Array

BOUNDARIES = ('context', 'learned')
SHIFT_ACTIVATIONS = ('linear', 'sigmoid')
LOG_SCALE_BOUNDS = ('smooth', 'symmetric', 'paper')


class Window(NamedTuple):
  """What a flow remembers between steps."""

  features: Array  # [B, window, *feature_shape], the encoded past, newest last
  count: Array  # int32 [B], steps seen


class AutoregressiveAffine(nn.Module):
  """Shift and log-scale of every step of a sequence, from the steps before it.

  Attributes:
    conditioner: `flows.conditioners` module with `encode` and `decode`.
    boundary: what conditions the first `window` steps. `context`: nothing, they are given and not
      transformed. `learned`: a constant shift and log-scale per event dimension, which gives a
      density of the whole sequence.
    shift_activation: `linear`, or `sigmoid` for data in [0, 1]: a linear shift learns slowly where
      a constant background has a tiny scale. The sigmoid is offset by `shift_offset`, and even with
      zero heads it isn't the identity: the shift starts at sigmoid(shift_offset).
    shift_offset: added to the raw shift before the sigmoid; negative for dark backgrounds.
    log_scale_bound: `smooth` on (log_scale_low, log_scale_high); `symmetric` on
      (-log_scale_high, log_scale_high); `paper`: at most log 10, no lower bound.
    log_scale_low: least log-scale, < 0.
    log_scale_high: greatest log-scale, > 0.
  """

  conditioner: nn.Module
  boundary: str = 'context'
  shift_activation: str = 'linear'
  shift_offset: float = -3.0
  log_scale_bound: str = 'smooth'
  log_scale_low: float = -7.0
  log_scale_high: float = 2.0

  choices: ClassVar = {
    'boundary': BOUNDARIES,
    'shift_activation': SHIFT_ACTIVATIONS,
    'log_scale_bound': LOG_SCALE_BOUNDS,
  }
  limits: ClassVar = {'log_scale_low': (None, -0.01), 'log_scale_high': (0.01, None)}

  def setup(self):
    """Declares the layers."""
    if self.boundary == 'learned':
      shape = self.conditioner.event_shape
      self.initial_shift = self.param('initial_shift', nn.initializers.zeros_init(), shape)
      self.initial_log_scale = self.param('initial_log_scale', nn.initializers.zeros_init(), shape)

  @property
  def window(self) -> int:
    """Past steps that the parameters of a step depend on."""
    return self.conditioner.window

  def encode(self, x: Array, mask: Array | None = None) -> Array:
    """Each step by itself, as one batch: [B, T, *event] -> [B, T, *feature_shape]."""
    flat_mask = None if mask is None else mask.reshape(-1)
    features = self.conditioner.encode(x.reshape(-1, *x.shape[2:]), flat_mask)
    return features.reshape(*x.shape[:2], *features.shape[1:])

  def next_parameters(self, features: Array, mask: Array | None = None) -> tuple[Array, Array]:
    """Shift and log-scale of the step after each full window.

    Args:
      features: [B, N, *feature_shape] of steps 0..N-1, N >= window.
      mask: bool [B, N - window + 1], the target steps that count in batch statistics.

    Returns:
      Parameters of steps window..N, two arrays [B, N - window + 1, *event].
    """
    batch, targets = features.shape[0], features.shape[1] - self.window + 1
    slots = [features[:, k : k + targets] for k in range(self.window)]
    windows = jnp.concatenate(slots, axis=-1)
    windows = windows.reshape(-1, *windows.shape[2:])
    flat_mask = None if mask is None else mask.reshape(-1)
    shift, log_scale = self.conditioner.decode(windows, flat_mask)
    shape = (batch, targets, *shift.shape[1:])
    return self._shift(shift).reshape(shape), self._log_scale(log_scale).reshape(shape)

  def initial_parameters(self) -> tuple[Array, Array]:
    """The learned constants of steps before the window is full, two arrays [*event]."""
    return self._shift(self.initial_shift), self._log_scale(self.initial_log_scale)

  def sequence_parameters(self, x: Array, mask: Array) -> tuple[Array, Array]:
    """Parameters of every transformed step of [B, T, *event], in parallel.

    Returns:
      Two arrays [B, T - window, *event] with boundary `context`, [B, T, *event] with `learned`.
    """
    parameters = []
    if self.boundary == 'learned':
      first = (x.shape[0], min(self.window, x.shape[1]), *x.shape[2:])
      parameters.append([jnp.broadcast_to(p, first) for p in self.initial_parameters()])
    if x.shape[1] > self.window:
      # A step counts in the encoder's batch statistics where there is a next one to condition.
      features = self.encode(x[:, :-1], mask[:, 1:])
      parameters.append(self.next_parameters(features, mask[:, self.window :]))
    if not parameters:
      return x[:, :0], x[:, :0]
    shift, log_scale = (jnp.concatenate(parts, axis=1) for parts in zip(*parameters, strict=True))
    return shift, log_scale

  # ---- step by step -----------------------------------------------------------------------------

  def empty_window(self, batch_size: int) -> Window:
    """Before the first step."""
    shape = (batch_size, self.window, *self.conditioner.feature_shape)
    return Window(jnp.zeros(shape), jnp.zeros(batch_size, jnp.int32))

  def push(self, window: Window, x_t: Array, mask_t: Array | None = None) -> Window:
    """The window after x_t [B, *event]."""
    features = self.encode(x_t[:, None], None if mask_t is None else mask_t[:, None])
    features = jnp.concatenate([window.features[:, 1:], features], axis=1)
    return Window(features, window.count + 1)

  def step_parameters(
    self, window: Window, mask_t: Array | None = None
  ) -> tuple[Array, Array, Array]:
    """Shift and log-scale [B, *event] of the next step, and whether it is transformed, bool [B]."""
    full = window.count >= self.window
    mask = None if mask_t is None else mask_t[:, None]
    shift, log_scale = (p[:, 0] for p in self.next_parameters(window.features, mask))
    if self.boundary == 'context':
      return shift, log_scale, full
    shift_0, log_scale_0 = self.initial_parameters()
    ready = jnp.ones_like(full)
    return select(full, shift, shift_0), select(full, log_scale, log_scale_0), ready

  def saturation(self, log_scale: Array) -> Array:
    """Whether each log-scale lies at a bound."""
    low = {'paper': -jnp.inf, 'symmetric': -self.log_scale_high}
    high = affine.LOG_SCALE_MAX_PAPER if self.log_scale_bound == 'paper' else self.log_scale_high
    return affine.near_bounds(log_scale, low.get(self.log_scale_bound, self.log_scale_low), high)

  def _shift(self, raw: Array) -> Array:
    if self.shift_activation == 'sigmoid':
      return nn.sigmoid(raw + self.shift_offset)
    return raw

  def _log_scale(self, raw: Array) -> Array:
    if self.log_scale_bound == 'paper':
      return affine.paper_clamp(raw)
    if self.log_scale_bound == 'symmetric':
      return affine.symmetric_bound(raw, self.log_scale_high)
    return affine.smooth_bound(raw, self.log_scale_low, self.log_scale_high)


def select(condition: Array, new: Array, old: Array) -> Array:
  """Selects per sequence: `condition` is [B], the values [B, ...] or [...]."""
  return jnp.where(condition.reshape(-1, *(1,) * (new.ndim - 1)), new, old)
