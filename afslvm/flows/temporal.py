"""Autoregressive flows across time: the transform of every step, from the steps before it.

shift_t and log_scale_t are functions of the `window` previous steps (AF paper Eq. 5-8, 15). All
steps of a sequence are computed at once from features that were encoded once.
"""

from typing import ClassVar, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from afslvm.transforms import affine
from afslvm.types import Array, EventShape

BOUNDARIES = ('context', 'learned')
SHIFT_ACTIVATIONS = ('linear', 'sigmoid')
LOG_SCALE_BOUNDS = ('smooth', 'symmetric', 'paper')

# Of a transform: shift and log-scale, each [..., *event]; of a mixture's components [..., *event,
# K], and their log-weights.
Parameters = tuple[Array, ...]


class Window(NamedTuple):
  """What a flow remembers between steps."""

  features: Array  # [B, window, *feature_shape], the encoded past, newest last
  count: Array  # int32 [B], steps seen


class AutoregressiveFlow(nn.Module):
  """The parameters of every step's transform, from the steps before it.

  A subclass states the transform: `parameters`, `forward`, `inverse` and `shown`.

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
    keeps_normal: whether x is normal where y is.
  """

  conditioner: nn.Module
  boundary: str = 'context'
  shift_activation: str = 'linear'
  shift_offset: float = -3.0
  log_scale_bound: str = 'smooth'
  log_scale_low: float = -7.0
  log_scale_high: float = 2.0

  keeps_normal: ClassVar[bool] = False
  choices: ClassVar = {
    'boundary': BOUNDARIES,
    'shift_activation': SHIFT_ACTIVATIONS,
    'log_scale_bound': LOG_SCALE_BOUNDS,
  }
  limits: ClassVar = {'log_scale_low': (None, -0.01), 'log_scale_high': (0.01, None)}

  def setup(self):
    """Declares the layers."""
    if self.boundary == 'learned':
      zeros = nn.initializers.zeros_init()
      self.initial = tuple(
        self.param(f'initial_{name}', zeros, shape) for name, shape in self._raw_shapes.items()
      )

  # ---- what a subclass states -------------------------------------------------------------------

  def parameters(self, *raw: Array) -> Parameters:
    """Returns the parameters of the transform, from what the conditioner decodes."""
    raise NotImplementedError

  def forward(self, y: Array, parameters: Parameters) -> tuple[Array, Array]:
    """Returns x of y [..., *event], and log|det dx/dy| [...]."""
    raise NotImplementedError

  def inverse(self, x: Array, parameters: Parameters) -> tuple[Array, Array]:
    """Returns y of x [..., *event], and log|det dy/dx| [...]."""
    raise NotImplementedError

  def shown(self, parameters: Parameters) -> tuple[Array, Array]:
    """Returns what a picture shows of the parameters: shift and scale, each [..., *event]."""
    raise NotImplementedError

  # ---- all steps at once ------------------------------------------------------------------------

  @property
  def window(self) -> int:
    """Past steps that the parameters of a step depend on."""
    return self.conditioner.window

  @property
  def components(self) -> int:
    """The number of components that the conditioner gives the parameters of."""
    return getattr(self.conditioner, 'components', 1)

  @property
  def _event_ndims(self) -> int:
    return len(self.conditioner.event_shape)

  @property
  def _raw_shapes(self) -> dict[str, EventShape]:
    """The shape of each thing that the conditioner decodes, of one step."""
    event = tuple(self.conditioner.event_shape)
    if self.components == 1:
      return {'shift': event, 'log_scale': event}
    return dict.fromkeys(('shift', 'log_scale', 'weights'), (*event, self.components))

  def encode(self, x: Array, mask: Array | None = None) -> Array:
    """Encodes each step by itself, as one batch: [B, T, *event] -> [B, T, *feature_shape]."""
    flat_mask = None if mask is None else mask.reshape(-1)
    features = self.conditioner.encode(x.reshape(-1, *x.shape[2:]), flat_mask)
    return features.reshape(*x.shape[:2], *features.shape[1:])

  def next_parameters(self, features: Array, mask: Array | None = None) -> Parameters:
    """Returns the parameters of the step after each full window.

    Args:
      features: [B, N, *feature_shape] of steps 0..N-1, N >= window.
      mask: bool [B, N - window + 1], the target steps that count in batch statistics.

    Returns:
      Parameters of steps window..N, arrays [B, N - window + 1, ...].
    """
    batch, targets = features.shape[0], features.shape[1] - self.window + 1
    slots = [features[:, k : k + targets] for k in range(self.window)]
    windows = jnp.concatenate(slots, axis=-1)
    windows = windows.reshape(-1, *windows.shape[2:])
    flat_mask = None if mask is None else mask.reshape(-1)
    found = self.parameters(*self.conditioner.decode(windows, flat_mask))
    return tuple(p.reshape(batch, targets, *p.shape[1:]) for p in found)

  def initial_parameters(self) -> Parameters:
    """Returns the learned constants of steps before the window is full, of one step each."""
    return self.parameters(*self.initial)

  def sequence_parameters(self, x: Array, mask: Array) -> Parameters:
    """Returns the parameters of every transformed step of [B, T, *event], in parallel.

    Returns:
      Arrays [B, T - window, ...] with boundary `context`, [B, T, ...] with `learned`.
    """
    parts = []
    if self.boundary == 'learned':
      first = x.shape[0], min(self.window, x.shape[1])
      parts.append([jnp.broadcast_to(p, (*first, *p.shape)) for p in self.initial_parameters()])
    if x.shape[1] > self.window:
      # A step counts in the encoder's batch statistics where there is a next one to condition.
      features = self.encode(x[:, :-1], mask[:, 1:])
      parts.append(self.next_parameters(features, mask[:, self.window :]))
    if not parts:
      return tuple(jnp.zeros((len(x), 0, *shape), x.dtype) for shape in self._raw_shapes.values())
    return tuple(jnp.concatenate(part, axis=1) for part in zip(*parts, strict=True))

  # ---- step by step -----------------------------------------------------------------------------

  def empty_window(self, batch_size: int) -> Window:
    """Returns the window before the first step."""
    shape = (batch_size, self.window, *self.conditioner.feature_shape)
    return Window(jnp.zeros(shape), jnp.zeros(batch_size, jnp.int32))

  def push(self, window: Window, x_t: Array, mask_t: Array | None = None) -> Window:
    """Returns the window after x_t [B, *event]."""
    features = self.encode(x_t[:, None], None if mask_t is None else mask_t[:, None])
    features = jnp.concatenate([window.features[:, 1:], features], axis=1)
    return Window(features, window.count + 1)

  def step_parameters(self, window: Window, mask_t: Array | None = None) -> tuple[Array, ...]:
    """Returns the next step's parameters [B, ...], and last whether it is transformed, bool [B]."""
    full = window.count >= self.window
    mask = None if mask_t is None else mask_t[:, None]
    found = [p[:, 0] for p in self.next_parameters(window.features, mask)]
    if self.boundary == 'context':
      return *found, full
    pairs = zip(found, self.initial_parameters(), strict=True)
    return *(select(full, p, initial) for p, initial in pairs), jnp.ones_like(full)

  # ---- bounds -----------------------------------------------------------------------------------

  def saturation(self, log_scale: Array) -> Array:
    """Returns whether each log-scale lies at a bound."""
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


class AutoregressiveAffine(AutoregressiveFlow):
  """x_t = shift(x_<t) + exp(log_scale(x_<t)) y_t (AF paper Eq. 5-8)."""

  keeps_normal: ClassVar[bool] = True

  def parameters(self, *raw: Array) -> Parameters:
    """Returns shift and log-scale, each [..., *event]."""
    shift, log_scale = raw
    return self._shift(shift), self._log_scale(log_scale)

  def forward(self, y: Array, parameters: Parameters) -> tuple[Array, Array]:
    """See base class."""
    return affine.forward(y, *parameters, event_ndims=self._event_ndims)

  def inverse(self, x: Array, parameters: Parameters) -> tuple[Array, Array]:
    """See base class."""
    return affine.inverse(x, *parameters, event_ndims=self._event_ndims)

  def shown(self, parameters: Parameters) -> tuple[Array, Array]:
    """See base class."""
    shift, log_scale = parameters
    return shift, jnp.exp(log_scale)


def select(condition: Array, new: Array, old: Array) -> Array:
  """Selects per sequence: `condition` is [B], the values [B, ...] or [...]."""
  return jnp.where(condition.reshape(-1, *(1,) * (new.ndim - 1)), new, old)
