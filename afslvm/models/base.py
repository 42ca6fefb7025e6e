"""The contract of every sequence model, and what follows from it once for all of them.

A model states how one step is scored (`step`) and how one is drawn (`predict`). Scoring whole
sequences, masks, and generation from a context are derived here. Models whose steps don't depend on
each other through a recurrence override `sequence_terms` with a parallel computation; a property
test says that it equals the steps.

Random numbers inside a model come from the Linen stream `sample`, or, those of latent variables,
from the collection `noise` where it is given. Dropout is active where the stream `dropout` is
given. The collection `annealing` tells inference by free energies what the divergence weighs in
training. BatchNorm is in training mode exactly when the collection `batch_stats` is mutable.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct

from afslvm import fast_cpu
from afslvm.distributions.normal import Normal
from afslvm.types import Array, EventShape, PyTree, Temperature

# x_t [B, *event] -> x_t with every value inside the range of the data.
Limit = Callable[[Array], Array]
SOWN = ('visuals', 'diagnostics')  # collections that models fill when they are asked for
# What `bound` says of a bound on the likelihood of another model than the one that is stated.
PRIOR_CHAIN_ELBO = 'prior-chain-elbo'


class Latents(struct.PyTreeNode):
  """The distributions and the draw of the latent variables of a step, [B, T, Z] (or [B, Z])."""

  prior: Normal  # p(z_t | ...)
  posterior: Normal  # q(z_t | ...)
  z: Array  # drawn from the posterior

  @property
  def log_ratio(self) -> Array:
    """Returns log q(z_t) - log p(z_t) at the draw [B, T], of which KL(q || p) is the mean."""
    ratio = self.posterior.log_prob(self.z) - self.prior.log_prob(self.z)
    return jnp.sum(ratio, axis=-1)


class StepTerms(struct.PyTreeNode):
  """The terms of the per-step bound, AF paper Eq. 20; each [B, T] (or [B]), nats, event-summed."""

  log_likelihood: Array  # log p(y_t | ...), of the base model on the transformed value
  kl: Array  # KL(q(z_t | ...) || p(z_t | ...)), zero without latent variables
  log_det: Array  # log |det dx_t / dy_t|, summed over flows
  scored: Array  # bool: steps that count
  latents: Latents | None = None

  @property
  def elbo(self) -> Array:
    """Returns log_likelihood - kl - log_det, the exact log-density without latent variables."""
    return self.log_likelihood - self.kl - self.log_det

  @property
  def log_weight(self) -> Array:
    """Returns log p(x_t, z_t | ...) - log q(z_t | ...) at the draw, whose expectation is `elbo`.

    The log of the mean of exp(log_weight) over draws is a bound; that of exp(elbo) is not.
    """
    if self.latents is None:
      return self.elbo
    weight = self.log_likelihood - self.latents.log_ratio - self.log_det
    return jnp.where(self.scored, weight, 0.0)

  def masked(self, mask: Array) -> 'StepTerms':
    """Zeros every term where `mask` or `scored` is False."""
    scored = self.scored & mask

    def keep(term):
      return jnp.where(scored, term, 0.0)

    return self.replace(
      log_likelihood=keep(self.log_likelihood),
      kl=keep(self.kl),
      log_det=keep(self.log_det),
      scored=scored,
    )

  def padded_front(self, steps: int) -> 'StepTerms':
    """Adds `steps` unscored steps of zeros before the first."""

    def pad(term):
      return jnp.pad(term, [(0, 0), (steps, 0), *[(0, 0)] * (term.ndim - 2)])

    return jax.tree.map(pad, self)


class SequenceModel(nn.Module):
  """A distribution over sequences x [B, T, *event].

  A leaf writes `initial_state`, `step` and `predict`, and `sequence_terms` where steps can be
  scored in parallel.

  Attributes:
    event_shape: the shape of one step, (H, W, C) or (D,).
    value_range: the least and the greatest value that data can have, to which `generate` clips
      each step before the next one depends on it; () where values have no limits.
  """

  event_shape: EventShape
  value_range: tuple[float, ...] = dataclasses.field(default=(), kw_only=True)

  @property
  def num_context(self) -> int:
    """The number of steps before the first one where every flow sees a full window.

    The AF paper scores the steps after them.
    """
    return 0

  @property
  def min_context(self) -> int:
    """The length of the shortest context that `generate` can continue."""
    return 0

  @property
  def bound(self) -> str:
    """Says what a sum of `StepTerms.elbo` is: 'exact', 'elbo', or `PRIOR_CHAIN_ELBO`."""
    return 'exact'

  @property
  def measure(self) -> str:
    """Says what exp(log p(x)) is: a 'density', or the 'probability' of discrete data."""
    return 'density'

  @property
  def normal_on_data(self) -> bool:
    """Whether x_t is normal given the past and latent variables.

    Then a normal is fitted to the noise of dequantised data, which costs something if that is not
    normal itself.
    """
    return False

  @property
  def sees_future(self) -> bool:
    """Whether posteriors see later steps; then steps after given ones have no bound."""
    return False

  # ---- what a leaf states -----------------------------------------------------------------------

  def initial_state(self, batch_size: int) -> PyTree:
    """Returns the state before the first step, every array with a leading [B]."""
    raise NotImplementedError

  def step(
    self, state: PyTree, x_t: Array, mask_t: Array | None = None
  ) -> tuple[PyTree, StepTerms]:
    """Scores x_t [B, *event] given the state, and returns the state after it; terms are [B].

    `mask_t`, bool [B], says which sequences haven't ended; it concerns batch statistics only.
    """
    raise NotImplementedError

  def predict(
    self, state: PyTree, temperature: Temperature = 1.0, limit: Limit | None = None
  ) -> tuple[PyTree, Array]:
    """Draws x_t given the state.

    Args:
      state: before the step.
      temperature: scales all standard deviations; of latent variable models it may be a pair, for
        latent variables and for the likelihood.
      limit: is applied to x_t before anything depends on it.

    Returns:
      The state after x_t, and x_t [B, *event]. The state of an inference procedure stays as it was:
      what follows a drawn step is drawn, too, not inferred.
    """
    raise NotImplementedError

  def sequence_terms(self, x: Array, mask: Array) -> StepTerms:
    """Returns terms [B, T] of x [B, T, *event], mask bool [B, T]; by default a scan of `step`."""
    state = self.initial_state(x.shape[0])
    if self.is_initializing():
      # Variables can't be created inside a scan: one plain step creates them.
      terms = self.step(state, x[:, 0], mask[:, 0])[1]
      return jax.tree.map(lambda term: jnp.repeat(term[:, None], x.shape[1], axis=1), terms)
    return self._scan(_step, state, (x, mask))[1]

  # ---- what a particle filter needs -------------------------------------------------------------

  def prepare(self, x: Array, mask: Array) -> PyTree:
    """Returns all that steps need of x [B, T, *event] and isn't recurrent, arrays [B, T, ...]."""
    return x, mask

  def advance(self, state: PyTree, prepared_t: PyTree) -> tuple[PyTree, StepTerms]:
    """Does what `step` does, given one step of what `prepare` returned."""
    return self.step(state, *prepared_t)

  # ---- the model inside flows -------------------------------------------------------------------

  @property
  def core(self) -> 'SequenceModel':
    """Returns the model inside all flows."""
    return self

  @property
  def core_path(self) -> tuple[str, ...]:
    """Returns the keys that lead to the core's variables in those of the whole model."""
    return ()

  def at_core(self, collection: PyTree) -> PyTree:
    """Returns a collection of variables of the core as one of the whole model."""
    for name in reversed(self.core_path):
      collection = {name: collection}
    return collection

  def without_flows(self, x: Array, mask: Array) -> tuple[Array, Array]:
    """Undoes the flows.

    Returns:
      What the core sees of x [B, T, *event], which is [B, T', *event] with T' <= T and ends where
      x ends; and log|det dx_t/dy_t| of these steps, [B, T'], summed over flows.
    """
    del mask
    return x, jnp.zeros(x.shape[:2])

  # ---- derived ----------------------------------------------------------------------------------

  def __call__(self, x: Array, mask: Array | None = None) -> StepTerms:
    """Scores sequences.

    Args:
      x: [B, T, *event], dequantised.
      mask: bool [B, T], False at padding, which must be at the end; its values are ignored.

    Returns:
      Terms [B, T], zero and not `scored` at padding and at steps the model only conditions on.

    Raises:
      ValueError: the event shape is another, or no step could be scored.
    """
    x, mask = self.without_padding(x, mask)
    return self.sequence_terms(x, mask).masked(mask)

  def without_padding(self, x: Array, mask: Array | None) -> tuple[Array, Array]:
    """Checks x [B, T, *event], and replaces padding so that not even a NaN reaches a gradient.

    Returns:
      x with zeros at padding, and the mask, bool [B, T].

    Raises:
      ValueError: the event shape is another.
    """
    if x.shape[2:] != tuple(self.event_shape):
      raise ValueError(
        f'observations have shape {x.shape[2:]}, the model expects {self.event_shape}'
      )
    mask = jnp.ones(x.shape[:2], bool) if mask is None else mask
    return jnp.where(mask.reshape(mask.shape + (1,) * len(self.event_shape)), x, 0.0), mask

  def initialize(self, x: Array, mask: Array | None = None) -> StepTerms:
    """Creates all variables from one batch, with data-dependent initialisation.

    Args:
      x: [B, T, *event].
      mask: bool [B, T], False at padding.

    Whatever doesn't run inside the scan over time, such as flows, encoders, decoders and
    likelihoods, is created by all steps of the batch, as training computes it.
    """
    return self(x, mask)

  def generate(
    self, context: Array, num_steps: int, temperature: Temperature = 1.0, parallel: bool = False
  ) -> Array:
    """Continues sequences.

    Args:
      context: [B, C, *event] with C >= `min_context`.
      num_steps: steps to draw.
      temperature: scales all standard deviations; 0 gives the mean path. A pair, for latent
        variable models, is that of latent variables and that of the likelihood.
      parallel: draws flows by fixed-point iteration over the whole sequence instead of step by
        step. The distribution, and the sequence for given noise, are the same (the noise of one key
        is drawn in another order), but that values are not clipped; whether it is faster depends on
        the machine.

    Returns:
      The continuation, [B, num_steps, *event], within `value_range`.

    Raises:
      ValueError: the context is shorter than `min_context`.
    """
    if context.shape[1] < self.min_context:
      raise ValueError(
        f'a context of {context.shape[1]} steps is too short: this model needs {self.min_context}'
      )
    if parallel:
      return self.continue_in_parallel(context, num_steps, temperature)
    state = self.condition(context)
    times = jnp.zeros((context.shape[0], num_steps))
    limit = (lambda x: jnp.clip(x, *self.value_range)) if self.value_range else None
    return self._scan(
      lambda model, carry, _: model.predict(carry, temperature, limit), state, times
    )[1]

  def condition(self, context: Array) -> PyTree:
    """Returns the state after a context [B, C, *event]."""
    state = self.initial_state(context.shape[0])
    if context.shape[1]:
      everywhere = jnp.ones(context.shape[:2], bool)
      state, _ = self._scan(_step, state, (context, everywhere))
    return state

  def continue_in_parallel(self, context: Array, num_steps: int, temperature: Temperature) -> Array:
    """Does what `generate` does, without a loop over time where the model has such a form."""
    return self.generate(context, num_steps, temperature)

  def _scan(
    self, function: Any, state: PyTree, inputs: PyTree, unroll: int = 1, remat: bool = False
  ) -> tuple[PyTree, PyTree]:
    """Applies `function(model, state, input_t)` over axis 1 of `inputs`, each [B, T, ...].

    With `remat`, gradients keep the states between steps only and compute the steps again.
    """
    function = nn.remat(function, prevent_cse=False) if remat else function
    training = self.is_mutable_collection('batch_stats')
    given = ('params', 'noise', 'annealing', *(() if training else ('batch_stats',)))
    scan = nn.scan(
      function,
      variable_broadcast=given,
      variable_carry='batch_stats' if training else False,
      variable_axes={'visuals': 1},
      split_rngs={'params': False, 'sample': True, 'dropout': True},
      in_axes=1,
      out_axes=1,
      unroll=unroll,
    )
    with fast_cpu.in_loop():
      return scan(self, state, inputs)


@runtime_checkable
class HasFrameLatents(Protocol):
  """A model whose frames are a bijection's images of latents."""

  def latents(self, x: Array) -> tuple[Array, ...]:
    """Returns the latents of x [B, T, *event], arrays [B, T, ...]."""

  def decode(self, latents: tuple[Array, ...]) -> Array:
    """Returns the frames [B, T, *event] of latents."""


def _step(
  model: SequenceModel, state: PyTree, inputs: tuple[Array, Array]
) -> tuple[PyTree, StepTerms]:
  x_t, mask_t = inputs
  return model.step(state, x_t, mask_t)
