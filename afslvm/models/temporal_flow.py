"""A temporal autoregressive flow around any sequence model, which is again a sequence model.

AF paper Eq. 15 and 20: with y_t = (x_t - shift(x_<t)) / scale(x_<t), a model of y is a model of x
with the extra term log|det dx_t/dy_t|. M-AF is M of these around `StandardNormal`; the outermost
one touches the data. Nothing here knows which model the base is.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from afslvm.flows.temporal import AutoregressiveAffine, Window, select
from afslvm.models.base import SequenceModel, StepTerms
from afslvm.transforms import affine
from afslvm.types import Array, PyTree


class FlowState(NamedTuple):
  """What a flow remembers between steps."""

  window: Window
  base: PyTree


class TemporalFlow(SequenceModel):
  """x ⇄ y by an affine autoregressive transform across time; y is modelled by `base`.

  With boundary `context` the first `window` steps are conditioned on: they are not scored and the
  base model starts after them. With `learned` every step is transformed and scored.

  Attributes:
    base: the model of y.
    flow: the parameters of the transform.
  """

  base: SequenceModel
  flow: AutoregressiveAffine

  @property
  def num_context(self) -> int:
    """One window per flow, whatever the boundary."""
    return self.flow.window + self.base.num_context

  @property
  def min_context(self) -> int:
    """A `context` boundary needs its window filled before it can draw."""
    own = self.flow.window if self.flow.boundary == 'context' else 0
    return own + self.base.min_context

  @property
  def core(self) -> SequenceModel:
    """The base model's."""
    return self.base.core

  def at_core(self, collection: PyTree) -> PyTree:
    """See base class."""
    return {'base': self.base.at_core(collection)}

  @property
  def bound(self) -> str:
    """The change of variables is exact, so the bound is the base model's."""
    return self.base.bound

  @property
  def sees_future(self) -> bool:
    """That of the base model."""
    return self.base.sees_future

  # ---- normalising direction, parallel in time --------------------------------------------------

  def sequence_terms(self, x: Array, mask: Array) -> StepTerms:
    """Eq. 20 for all steps at once; every frame is encoded once."""
    nothing_left = self.flow.boundary == 'context' or self.is_initializing()
    if x.shape[1] <= self.flow.window and nothing_left:
      raise ValueError(
        f'sequences of {x.shape[1]} steps leave nothing to score after a window of '
        f'{self.flow.window}; use longer ones'
      )
    y, log_det = self._inverse(x, mask)
    skipped = x.shape[1] - y.shape[1]
    terms = self.base.sequence_terms(y, mask[:, skipped:])
    return terms.replace(log_det=terms.log_det - log_det).padded_front(skipped)

  def without_flows(self, x: Array, mask: Array) -> tuple[Array, Array]:
    """See base class."""
    y, log_det = self._inverse(x, mask)
    core, inner = self.base.without_flows(y, mask[:, x.shape[1] - y.shape[1] :])
    return core, inner - log_det[:, y.shape[1] - core.shape[1] :]

  def _inverse(self, x: Array, mask: Array) -> tuple[Array, Array]:
    """y of every transformed step, and log|det dy/dx| of each (Eq. 15)."""
    shift, log_scale = self.flow.sequence_parameters(x, mask)
    skipped = x.shape[1] - shift.shape[1]
    y, log_det = affine.inverse(x[:, skipped:], shift, log_scale, len(self.event_shape))
    self._show(shift, log_scale, y)
    return y, log_det

  def normalize(self, x: Array) -> Array:
    """y of every transformed step of x [B, T, *event] (Eq. 15)."""
    return self._inverse(x, jnp.ones(x.shape[:2], bool))[0]

  def _show(self, shift: Array, log_scale: Array, y: Array):
    """The rows of AF paper Fig. 4; costs nothing unless `visuals` is requested.

    Sequences in `visuals` end at the last step of the data, so they are aligned at their end.
    """
    if self.is_initializing():
      return
    for name, value in (('shift', shift), ('scale', jnp.exp(log_scale)), ('y', y)):
      self.sow('visuals', name, value)
    at_bound = self.flow.saturation(log_scale)
    self.sow('diagnostics', 'saturation', jnp.mean(at_bound, axis=range(2, at_bound.ndim)))

  # ---- step by step -----------------------------------------------------------------------------

  def initial_state(self, batch_size: int) -> FlowState:
    """An empty window."""
    return FlowState(self.flow.empty_window(batch_size), self.base.initial_state(batch_size))

  def step(
    self, state: FlowState, x_t: Array, mask_t: Array | None = None
  ) -> tuple[FlowState, StepTerms]:
    """Scores x_t and moves the window on."""
    shift, log_scale, ready = self.flow.step_parameters(state.window, mask_t)
    y_t, log_det = affine.inverse(x_t, shift, log_scale, len(self.event_shape))
    base, terms = self.base.step(state.base, y_t, mask_t)
    base = jax.tree.map(lambda new, old: select(ready, new, old), base, state.base)
    terms = terms.replace(log_det=terms.log_det - log_det, scored=terms.scored & ready)
    state = FlowState(self.flow.push(state.window, x_t, mask_t), base)
    return state, terms.masked(terms.scored)

  def predict(self, state: FlowState, temperature: float | Array = 1.0) -> tuple[FlowState, Array]:
    """Draws y_t from the base model and maps it to x_t (Eq. 5)."""
    shift, log_scale, _ = self.flow.step_parameters(state.window)
    base, y_t = self.base.predict(state.base, temperature)
    x_t, _ = affine.forward(y_t, shift, log_scale, len(self.event_shape))
    return FlowState(self.flow.push(state.window, x_t), base), x_t

  # ---- generating direction ---------------------------------------------------------------------

  def continue_in_parallel(
    self, context: Array, num_steps: int, temperature: float | Array
  ) -> Array:
    """Fixed-point (Jacobi) iteration of x = shift(x_<t) + scale(x_<t) y, all steps at once.

    The k-th iteration makes at least the first k steps exact, since step t depends on earlier ones
    only; it stops when nothing changes any more, after `num_steps` iterations at the latest (Song
    et al. 2021, arXiv 2002.03629).
    """
    y = self.base.continue_in_parallel(self.normalize(context), num_steps, temperature)
    start = context.shape[1]

    def iterate(carry):
      x, _, k = carry
      sequence = jnp.concatenate([context, x], axis=1)
      shift, log_scale = self.flow.sequence_parameters(sequence, jnp.ones(sequence.shape[:2], bool))
      skipped = sequence.shape[1] - shift.shape[1]
      new, _ = affine.forward(
        y, shift[:, start - skipped :], log_scale[:, start - skipped :], len(self.event_shape)
      )
      return new, jnp.any(new != x), k + 1

    def unfinished(carry):
      _, changed, k = carry
      return changed & (k < num_steps)

    return jax.lax.while_loop(unfinished, iterate, (jnp.zeros_like(y), True, 0))[0]
