"""Objectives that need more of a latent variable model than its terms look inside it here.

The functions run inside `model.apply`, on a bound model with any number of flows around one with
latent variables.
"""

from collections.abc import Callable

import jax.numpy as jnp

from afslvm.errors import ConfigError
from afslvm.models import filtering
from afslvm.models.base import PRIOR_CHAIN_ELBO, SequenceModel, StepTerms
from afslvm.models.filtering import FilterState, Prepared
from afslvm.models.state_space import StateSpaceModel
from afslvm.types import Array, PyTree

Stream = tuple[FilterState, Array]  # the state before x, and which rows begin anew, bool [B]


def check_has_no_prior_chain(model: SequenceModel, objective: str):
  """Raises ConfigError where the prior has a chain of its own, which has the plain bound only.

  Args:
    model: any sequence model.
    objective: what was asked for instead, in words.
  """
  if model.bound == PRIOR_CHAIN_ELBO:
    raise ConfigError(
      f"{objective} needs model.prior_conditioning='posterior': with 'prior_chain' there is the "
      'plain bound alone, by bptt, which is one of another model'
    )


def look_inside(
  model: SequenceModel,
  x: Array,
  mask: Array,
  stream: Stream | None = None,
  show: Callable[[PyTree], PyTree] = lambda evidence: evidence,
) -> tuple[StateSpaceModel, FilterState, Prepared, Callable[[StepTerms], StepTerms]]:
  """Undoes the flows and looks at the observations.

  Args:
    model: bound.
    x: [B, T, *event].
    mask: bool [B, T].
    stream: of sequences that go on.
    show: is applied to the evidence before the inference procedure sees it.

  Returns:
    The model inside the flows; its state before the first step, with the memory after the last one;
    the observations as it sees them; and a function from its terms to those of the whole model.

  Raises:
    ConfigError: the prior has a chain of its own.
  """
  check_has_no_prior_chain(model, 'variational EM or overshooting')
  x, mask = model.without_padding(x, mask)
  y, log_det = model.without_flows(x, mask)
  skipped, core = x.shape[1] - y.shape[1], model.core
  assert isinstance(core, StateSpaceModel)
  state = core.initial_state(len(x)) if stream is None else core.continued_state(*stream)
  state, prepared = filtering.prepare(core, state, y, mask[:, skipped:], show)

  def finish(terms):
    return terms.replace(log_det=log_det).padded_front(skipped).masked(mask)

  return core, state, prepared, finish


def aligned(values: Array, terms: StepTerms) -> Array:
  """Returns values of steps that the core sees, as long as the terms, zero where none counts."""
  missing = terms.kl.shape[1] - values.shape[1]
  return jnp.where(terms.scored, jnp.pad(values, [(0, 0), (missing, 0)]), 0.0)
