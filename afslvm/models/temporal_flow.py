"""A temporal autoregressive flow around any sequence model, which is again a sequence model.

AF paper Eq. 15 and 20: with y_t = (x_t - shift(x_<t)) / scale(x_<t), or another invertible function
of x_t that x_<t choose, a model of y is a model of x with the extra term log|det dx_t/dy_t|. M-AF
is M of these around `StandardNormal`; the outermost one touches the data. Nothing here knows which
model the base is.
"""

import functools

import jax
import jax.numpy as jnp

from afslvm.flows.temporal import AutoregressiveFlow, Parameters, Window
from afslvm.models.base import StepTerms
from afslvm.models.transformed import Bijection, Transformed
from afslvm.types import Array, Temperature


class TemporalFlow(Transformed):
  """x ⇄ y by an autoregressive transform across time; y is modelled by `base`.

  With boundary `context` the first `window` steps are conditioned on: they are not scored and the
  base model starts after them. With `learned` every step is transformed and scored.

  Attributes:
    base: the model of y.
    flow: the transform, and its parameters.
  """

  flow: AutoregressiveFlow

  @property
  def num_context(self) -> int:
    """Returns one window per flow, whatever the boundary."""
    return self.flow.window + self.base.num_context

  @property
  def min_context(self) -> int:
    """A `context` boundary needs its window filled before it can draw."""
    past = self.flow.window if self.flow.boundary == 'context' else 0
    return past + self.base.min_context

  @property
  def normal_on_data(self) -> bool:
    """An affine map of a normal variable is normal."""
    return self.flow.keeps_normal and self.base.normal_on_data

  # ---- all steps at once ------------------------------------------------------------------------

  def sequence_terms(self, x: Array, mask: Array) -> StepTerms:
    """See base class; every frame is encoded once.

    Raises:
      ValueError: no step is left to score.
    """
    nothing_left = self.flow.boundary == 'context' or self.is_initializing()
    if x.shape[1] <= self.flow.window and nothing_left:
      raise ValueError(
        f'sequences of {x.shape[1]} steps leave nothing to score after a window of '
        f'{self.flow.window}; use longer ones'
      )
    return super().sequence_terms(x, mask)

  def inverse(self, x: Array, mask: Array) -> tuple[Array, Array]:
    """Returns y of every transformed step, and log|det dy/dx| of each (Eq. 15)."""
    parameters = self.flow.sequence_parameters(x, mask)
    skipped = x.shape[1] - parameters[0].shape[1]
    y, log_det = self.flow.inverse(x[:, skipped:], parameters)
    self._show(parameters, y)
    return y, log_det

  def _show(self, parameters: Parameters, y: Array):
    """Sows the rows of AF paper Fig. 4, which costs nothing unless `visuals` is requested.

    Sequences in `visuals` end at the last step of the data, so they are aligned at their end.
    """
    if self.is_initializing():
      return
    for name, value in zip(('shift', 'scale', 'y'), (*self.flow.shown(parameters), y), strict=True):
      self.sow('visuals', name, value)
    at_bound = self.flow.saturation(parameters[1])
    self.sow('diagnostics', 'saturation', jnp.mean(at_bound, axis=range(2, at_bound.ndim)))

  # ---- step by step -----------------------------------------------------------------------------

  def initial_past(self, batch_size: int) -> Window:
    """Returns an empty window."""
    return self.flow.empty_window(batch_size)

  def at_step(self, past: Window, mask_t: Array | None = None) -> Bijection:
    """Returns the transform that the window determines."""
    *parameters, ready = self.flow.step_parameters(past, mask_t)
    return Bijection(
      functools.partial(self.flow.forward, parameters=tuple(parameters)),
      functools.partial(self.flow.inverse, parameters=tuple(parameters)),
      ready,
    )

  def push(self, past: Window, x_t: Array, mask_t: Array | None = None) -> Window:
    """Moves the window on."""
    return self.flow.push(past, x_t, mask_t)

  # ---- generating all steps at once -------------------------------------------------------------

  def continue_in_parallel(self, context: Array, num_steps: int, temperature: Temperature) -> Array:
    """Fixed-point (Jacobi) iteration of x = forward(y; x_<t), all steps at once.

    The k-th iteration makes at least the first k steps exact, since step t depends on earlier ones
    only; it stops when nothing changes any more, after `num_steps` iterations at the latest (Song
    et al. 2021, arXiv 2002.03629).
    """
    y = self.base.continue_in_parallel(self.normalize(context), num_steps, temperature)
    start = context.shape[1]

    def iterate(carry):
      x, _, k = carry
      sequence = jnp.concatenate([context, x], axis=1)
      parameters = self.flow.sequence_parameters(sequence, jnp.ones(sequence.shape[:2], bool))
      skipped = sequence.shape[1] - parameters[0].shape[1]
      new, _ = self.flow.forward(y, tuple(p[:, start - skipped :] for p in parameters))
      return new, jnp.any(new != x), k + 1

    def unfinished(carry):
      _, changed, k = carry
      return changed & (k < num_steps)

    return jax.lax.while_loop(unfinished, iterate, (jnp.zeros_like(y), True, 0))[0]
