"""p(z_t | z_<t, above_t) of one level of a multi-scale flow over time (Kumar et al. 2020).

A level's prior sees its own latents of the last `window` steps and what the coarser levels say of
the same step. Before it sees them, and before it says what z_t is like, they may be moved into
another frame of reference, u_t = (z_t - shift_t) / scale_t with a shift and a scale that depend on
z_<t only: Eq. 15 of the AF paper on latents, of which VideoFlow's skip from z_{t-1} is one case.
"""

from typing import ClassVar, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from afslvm.distributions.normal import Normal
from afslvm.flows.temporal import BOUNDARIES, AutoregressiveAffine, Window, select
from afslvm.networks.glow import BorderMap, PastNetwork, ZeroConv
from afslvm.transforms import affine, reshape
from afslvm.types import Array, EventShape

FRAMES = ('none', 'last', 'flow', 'flow_last')
SEES = ('z', 'u', 'both')


class LevelState(NamedTuple):
  """What a level remembers between steps."""

  seen: Array  # [B, window, h, w, c or 2c], what its network sees of the past, newest last
  last: Array  # [B, h, w, c], z_{t-1}, or zeros before the first step
  flow: Window | None  # of the flow that moves the frame
  count: Array  # int32 [B], steps seen


class Moved(NamedTuple):
  """The frame of reference of a step: u = (z - shift) / exp(log_scale)."""

  shift: Array
  log_scale: Array


class LevelPrior(nn.Module):
  """A diagonal normal for the latent map of one level.

  Attributes:
    event_shape: (h, w, c) of z_t.
    above_channels: of what the coarser levels show of it; 0 at the top.
    network: from the past and the level's mean to a mean and a log-scale of u_t, raw; None where
      `window` is 0.
    flow: the shift and the log-scale of the frame `flow` or `flow_last`, otherwise None. Its
      boundary is `learned`, since no latent is given to it.
    window: steps of the past that the network sees; with 0 all steps are independent.
    boundary: `context`: the first `window` steps are given and have no distribution; `learned`:
      they are distributed as the coarser levels alone say.
    frame: `none`: u = z; `last`: u = z_t - z_{t-1}, VideoFlow's skip; `flow`: the shift and scale
      of `flow`; `flow_last`: the same after the shift by z_{t-1}.
    sees: which past the network sees: `z`, `u`, or `both`.
    log_scale_limit: a smooth bound on both sides of log-scales; 0 is none.
    edge: whether 3 x 3 layers have a channel that marks the padding.
  """

  event_shape: EventShape
  above_channels: int
  network: PastNetwork | None
  flow: AutoregressiveAffine | None = None
  window: int = 3
  boundary: str = 'context'
  frame: str = 'last'
  sees: str = 'z'
  log_scale_limit: float = 8.0
  edge: bool = True

  choices: ClassVar = {'boundary': BOUNDARIES, 'frame': FRAMES, 'sees': SEES}
  limits: ClassVar = {'window': (0, None), 'log_scale_limit': (0.0, None)}

  def setup(self):
    """Declares what the coarser levels say of the first steps and, their mean, of the others."""
    outputs = (2 if self._has_marginal else 1) * self.event_shape[-1]
    if self.above_channels:
      self.from_above = ZeroConv(outputs, self.edge)
    elif self._has_marginal:
      self.at_top = BorderMap(outputs, self.edge)

  @property
  def skipped(self) -> int:
    """The number of first steps without a distribution."""
    return self.window if self.boundary == 'context' else 0

  @property
  def _has_marginal(self) -> bool:
    return self.boundary == 'learned' or not self.window

  # ---- all steps at once ------------------------------------------------------------------------

  def sequence(self, z: Array, above: Array | None, mask: Array) -> Normal:
    """Returns the distributions of all steps but the first `skipped`, [B, T - skipped, h, w, c].

    Args:
      z: [B, T, h, w, c].
      above: [B, T, h, w, above_channels], or None at the top.
      mask: bool [B, T].
    """
    batch, steps = z.shape[:2]
    shown = None if above is None else _flat(above[:, self.skipped :])
    first, level_mean = self._from_above(shown, batch * (steps - self.skipped))
    parts = []
    if self._has_marginal:
      alone = min(self.window, steps) if self.window else steps
      parts.append(Normal(*(_unflat(p, batch)[:, :alone] for p in first)))
    if self.window and steps > self.window:
      if level_mean is not None:
        level_mean = _flat(_unflat(level_mean, batch)[:, self.window - self.skipped :])
      parts.append(self._after_full_windows(z, level_mean, mask))
    return Normal(
      jnp.concatenate([p.loc for p in parts], axis=1),
      jnp.concatenate([p.log_scale for p in parts], axis=1),
    )

  def _after_full_windows(self, z: Array, level_mean: Array | None, mask: Array) -> Normal:
    batch, targets = len(z), z.shape[1] - self.window
    moved = self.moved(z, mask)
    seen = self._seen(z, self.in_frame(z, moved))
    windows = jnp.stack([seen[:, k : k + targets] for k in range(self.window)], axis=2)
    of_u = self._of_u(_flat(windows), level_mean, mask[:, self.window :].reshape(-1))
    of_u = Normal(*(_unflat(p, batch) for p in (of_u.loc, of_u.log_scale)))
    return _out_of_frame(of_u, Moved(*(m[:, self.window :] for m in moved)))

  def moved(self, z: Array, mask: Array) -> Moved:
    """Returns the frames of reference of all steps of z [B, T, h, w, c]."""
    shift = log_scale = jnp.zeros_like(z)
    if self.flow is not None:
      shift, log_scale = self.flow.sequence_parameters(z, mask)
    if self.frame in ('last', 'flow_last'):
      shift = shift + jnp.pad(z[:, :-1], [(0, 0), (1, 0), *[(0, 0)] * 3])
    return Moved(shift, log_scale)

  def in_frame(self, z: Array, moved: Moved) -> Array:
    """Returns u of z."""
    return affine.inverse(z, *moved, 3)[0]

  # ---- step by step -----------------------------------------------------------------------------

  def empty(self, batch_size: int) -> LevelState:
    """Returns the state before the first step."""
    *size, channels = self.event_shape
    channels_seen = channels * (2 if self.sees == 'both' else 1)
    return LevelState(
      jnp.zeros((batch_size, self.window, *size, channels_seen)),
      jnp.zeros((batch_size, *self.event_shape)),
      None if self.flow is None else self.flow.empty_window(batch_size),
      jnp.zeros(batch_size, jnp.int32),
    )

  def distribution(self, state: LevelState, above: Array | None) -> Normal:
    """Returns p(z_t | z_<t, above_t), [B, h, w, c]; without a full window it may mean nothing."""
    first, level_mean = self._from_above(above, len(state.last))
    if not self.window:
      return Normal(*first)
    later = _out_of_frame(self._of_u(state.seen, level_mean, None), self._moved_at(state))
    if not self._has_marginal:
      return later
    full = state.count >= self.window
    return Normal(select(full, later.loc, first[0]), select(full, later.log_scale, first[1]))

  def push(self, state: LevelState, z_t: Array) -> LevelState:
    """Returns the state after z_t [B, h, w, c]."""
    seen = self._seen(z_t, self.in_frame(z_t, self._moved_at(state)))
    past = jnp.concatenate([state.seen, seen[:, None]], axis=1)[:, 1:]
    flow = None if self.flow is None else self.flow.push(state.flow, z_t)
    return LevelState(past, z_t, flow, state.count + 1)

  def _moved_at(self, state: LevelState) -> Moved:
    shift = log_scale = jnp.zeros_like(state.last)
    if self.flow is not None:
      shift, log_scale, _ = self.flow.step_parameters(state.flow)
    return Moved(shift + state.last if self.frame in ('last', 'flow_last') else shift, log_scale)

  # ---- what both have in common -----------------------------------------------------------------

  def _from_above(
    self, above: Array | None, frames: int
  ) -> tuple[tuple[Array, Array] | None, Array | None]:
    """Returns mean and log-scale without a past [N, h, w, c], or None; and the level's mean."""
    if self.above_channels:
      raw = self.from_above(above)
      if not self._has_marginal:
        return None, raw
      mean, log_scale = reshape.halves(raw)
      return (mean, self._bounded(log_scale)), mean
    if not self._has_marginal:
      return None, None
    raw = self.at_top(self.event_shape[:2])
    mean, log_scale = reshape.halves(jnp.broadcast_to(raw, (frames, *raw.shape[1:])))
    return (mean, self._bounded(log_scale)), None

  def _of_u(self, windows: Array, level_mean: Array | None, mask: Array | None) -> Normal:
    """Returns the distribution of u after full windows, [N, h, w, c]."""
    mean, log_scale = reshape.halves(self.network(windows, level_mean, mask))
    return Normal(mean, self._bounded(log_scale))

  def _seen(self, z: Array, u: Array) -> Array:
    if self.sees == 'both':
      return reshape.joined(z, u)
    return u if self.sees == 'u' else z

  def _bounded(self, log_scale: Array) -> Array:
    if not self.log_scale_limit:
      return log_scale
    return affine.symmetric_bound(log_scale, self.log_scale_limit)


def _out_of_frame(of_u: Normal, moved: Moved) -> Normal:
  """Returns the distribution of z that u's and the frame of reference make."""
  loc, _ = affine.forward(of_u.loc, *moved, 3)
  return Normal(loc, of_u.log_scale + moved.log_scale)


def _flat(values: Array) -> Array:
  """[B, T, ...] -> [B T, ...]."""
  return values.reshape(-1, *values.shape[2:])


def _unflat(values: Array, batch: int) -> Array:
  """[B T, ...] -> [B, T, ...]."""
  return values.reshape(batch, -1, *values.shape[1:])
