"""Wrappers around a sequence model: x ⇄ y by a bijection of each step, with y modelled by `base`.

AF paper Eq. 16 and 20: a model of y is a model of x with the extra term log|det dx_t/dy_t|, so a
wrapper is a sequence model again. What a wrapper states is its bijection, for all steps at once and
for one step; everything else follows here. `TemporalFlow` is one whose bijection depends on
earlier steps.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from afslvm.flows.temporal import select
from afslvm.models.base import Limit, SequenceModel, StepTerms
from afslvm.types import Array, PyTree, Temperature


class Bijection(NamedTuple):
  """x_t ⇄ y_t at one step; each function returns the value and the log-determinant of itself."""

  forward: Callable[[Array], tuple[Array, Array]]  # y_t [B, *event] -> x_t, log|det dx/dy| [B]
  inverse: Callable[[Array], tuple[Array, Array]]  # x_t [B, *event] -> y_t, log|det dy/dx| [B]
  ready: Array  # bool [B], whether the step is transformed and scored, or only given


class TransformedState(NamedTuple):
  """The state of a wrapper between steps."""

  past: PyTree
  base: PyTree


class Transformed(SequenceModel):
  """p(x_t | x_<t) = p(y_t | y_<t) |det dy_t/dx_t|.

  Attributes:
    base: the model of y.
  """

  base: SequenceModel

  # ---- what a wrapper states --------------------------------------------------------------------

  def inverse(self, x: Array, mask: Array) -> tuple[Array, Array]:
    """Maps x to y, all steps at once.

    Args:
      x: [B, T, *event].
      mask: bool [B, T].

    Returns:
      y [B, T', *event] of the last T' steps, the others being given; log|det dy_t/dx_t| [B, T'].
    """
    raise NotImplementedError

  def initial_past(self, batch_size: int) -> PyTree:
    """Returns what the bijection of the first step depends on; by default nothing."""
    del batch_size
    return ()

  def at_step(self, past: PyTree, mask_t: Array | None = None) -> Bijection:
    """Returns the bijection of the next step."""
    raise NotImplementedError

  def push(self, past: PyTree, x_t: Array, mask_t: Array | None = None) -> PyTree:
    """Returns what the bijection of the step after x_t depends on; by default nothing."""
    del x_t, mask_t
    return past

  # ---- what follows -----------------------------------------------------------------------------

  @property
  def num_context(self) -> int:
    """Returns the context of the base model."""
    return self.base.num_context

  @property
  def min_context(self) -> int:
    """Returns the least context of the base model."""
    return self.base.min_context

  @property
  def core(self) -> SequenceModel:
    """Returns the core of the base model."""
    return self.base.core

  @property
  def core_path(self) -> tuple[str, ...]:
    """Leads through the base model."""
    return ('base', *self.base.core_path)

  @property
  def bound(self) -> str:
    """The change of variables is exact, so the bound is the base model's."""
    return self.base.bound

  @property
  def sees_future(self) -> bool:
    """Returns whether the base model's posterior smooths."""
    return self.base.sees_future

  def sequence_terms(self, x: Array, mask: Array) -> StepTerms:
    """Returns Eq. 20 of all steps at once."""
    y, log_det = self.inverse(x, mask)
    skipped = x.shape[1] - y.shape[1]
    terms = self.base.sequence_terms(y, mask[:, skipped:])
    return terms.replace(log_det=terms.log_det - log_det).padded_front(skipped)

  def without_flows(self, x: Array, mask: Array) -> tuple[Array, Array]:
    """See base class."""
    y, log_det = self.inverse(x, mask)
    core, inner = self.base.without_flows(y, mask[:, x.shape[1] - y.shape[1] :])
    return core, inner - log_det[:, y.shape[1] - core.shape[1] :]

  def normalize(self, x: Array) -> Array:
    """Returns y of every transformed step of x [B, T, *event] (Eq. 15)."""
    return self.inverse(x, jnp.ones(x.shape[:2], bool))[0]

  def initial_state(self, batch_size: int) -> TransformedState:
    """See base class."""
    return TransformedState(self.initial_past(batch_size), self.base.initial_state(batch_size))

  def condition(self, context: Array) -> TransformedState:
    """See base class; the base model is conditioned on all of y at once."""
    past = self.initial_past(len(context))
    if not context.shape[1]:
      return TransformedState(past, self.base.initial_state(len(context)))

    def push(model, past, x_t):
      return model.push(past, x_t), ()

    past, _ = self._scan(push, past, context)
    return TransformedState(past, self.base.condition(self.normalize(context)))

  def step(
    self, state: TransformedState, x_t: Array, mask_t: Array | None = None
  ) -> tuple[TransformedState, StepTerms]:
    """See base class; the base model sees no step that is only given."""
    bijection = self.at_step(state.past, mask_t)
    y_t, log_det = bijection.inverse(x_t)
    base, terms = self.base.step(state.base, y_t, mask_t)
    base = jax.tree.map(lambda new, old: select(bijection.ready, new, old), base, state.base)
    terms = terms.replace(log_det=terms.log_det - log_det, scored=terms.scored & bijection.ready)
    return TransformedState(self.push(state.past, x_t, mask_t), base), terms.masked(terms.scored)

  def predict(
    self, state: TransformedState, temperature: Temperature = 1.0, limit: Limit | None = None
  ) -> tuple[TransformedState, Array]:
    """Draws y_t from the base model and maps it to x_t (Eq. 5).

    The base model is limited to those y_t whose x_t are within the limit.
    """
    bijection = self.at_step(state.past)

    def limit_y(y_t: Array) -> Array:
      assert limit is not None
      return bijection.inverse(limit(bijection.forward(y_t)[0]))[0]

    base, y_t = self.base.predict(state.base, temperature, limit_y if limit else None)
    x_t, _ = bijection.forward(y_t)
    x_t = limit(x_t) if limit else x_t  # the way there and back rounds
    return TransformedState(self.push(state.past, x_t), base), x_t
