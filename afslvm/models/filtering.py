"""The engine of latent variable models: prior, posterior, a draw, and on to the next state.

Only what depends on earlier draws of the posterior runs in the scan over time (AVF paper Algorithm
1). What observations alone decide is computed before it, and prior, emission, likelihood and
divergence after it, for all steps as one batch.

Where the prior is conditioned on a chain of its own draws, no draw of the posterior decides that
chain, so it is drawn before the scan, too. A step has one prior (`prior_of`), which divergence, F_t
and the posterior all see.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from afslvm.distributions.normal import Normal, kl_normal
from afslvm.likelihoods.base import HasScales
from afslvm.models import free_energy
from afslvm.models.base import Latents, StepTerms
from afslvm.transforms import affine
from afslvm.types import Array, PyTree

if TYPE_CHECKING:
  from afslvm.models.state_space import StateSpaceModel


class FilterState(NamedTuple):
  """The state of a latent variable model between steps; every array has a leading [B]."""

  latent: PyTree  # the state of the generative model
  inference: PyTree  # the state of the inference procedure
  memory: PyTree  # what is remembered of observations
  count: Array  # int32 [B], the steps so far
  chain: PyTree = ()  # the state that the prior sees, where that is another than `latent`


class Prepared(NamedTuple):
  """Observations as steps need them; [B, T, ...], or [B, ...] of one step."""

  x: Array
  mask: Array  # bool, False at padding
  seen: PyTree  # what the model makes of observations
  encoded: PyTree  # what the inference procedure makes of the evidence
  number: Array  # int32, of the step in its sequence, from 0
  chain: PyTree = ()  # the state that the prior sees, where no draw of the posterior decides it


class Draws(NamedTuple):
  """Standard normal noise; [B, T, ...], or [B, ...] of one step."""

  latent: Array  # [..., Z], of the draws of z_t
  free_energy: Array | None  # [..., N, S, Z], of N estimates of F_t with S draws each


class Filtered(NamedTuple):
  """The results of the scan, arrays [B, T, ...]."""

  state: PyTree  # of the generative model before each step
  inference: PyTree  # of the inference procedure before each step
  posterior: Normal  # q(z_t | ...)
  z: Array  # drawn from it
  trace: PyTree  # what an iterative inference went through


# ---- the scan ------------------------------------------------------------------------------------


def filter_step(
  model: 'StateSpaceModel', carry: tuple[PyTree, PyTree], inputs: tuple[Prepared, Draws]
) -> tuple[tuple[PyTree, PyTree], Filtered]:
  """Takes one step of AVF Algorithm 1, lines 4-6, and draws z_t.

  The compiler drops whatever of it nobody uses, such as the prior of a posterior that sees none.
  """
  (state, inference), (prepared, draws) = carry, inputs
  prior = prior_of(model, state, prepared)
  objective = free_energy.of_step(model, state, prior, prepared, draws.free_energy)
  inferred = model.inference.infer(
    inference, prepared.encoded, model.history(state), prior, objective
  )
  # Another noise than that of F_t: a posterior may not depend on the noise of its own draw.
  z_t = inferred.posterior.sample(draws.latent)
  found = Filtered(state, inference, inferred.posterior, z_t, inferred.trace)
  return (move(model, state, z_t, prepared), inferred.state), found


def prior_of(model: 'StateSpaceModel', state: PyTree, prepared: Prepared) -> Normal:
  """Returns p(z_t | ...) of N steps, [N, Z]; `state` is the filter's before each step."""
  return model.prior(prepared.chain if model.has_prior_chain else state, prepared.seen)


def move(model: 'StateSpaceModel', state: PyTree, z_t: Array, prepared: Prepared) -> PyTree:
  """Returns the state after z_t, or after a step that is only given."""
  after = model.transition(state, z_t, prepared.seen)
  if not model.given:
    return after

  drawn = prepared.number >= model.given
  return jax.tree.map(
    lambda new, old: jnp.where(drawn.reshape(-1, *(1,) * (new.ndim - 1)), new, old),
    after,
    model.skip(state, prepared.seen),
  )


def run(
  model: 'StateSpaceModel', state: FilterState, prepared: Prepared, draws: Draws | None = None
) -> tuple[FilterState, Filtered]:
  """Filters all steps of `prepared` [B, T, ...] from `state` on, by `draws` or by fresh ones.

  What `prepare` went through, such as memory and count of steps, stays.
  """
  draws = draw(model, prepared.mask.shape) if draws is None else draws
  inputs = prepared, draws
  carry = state.latent, state.inference
  if model.is_initializing():
    # Loops inside a scan can't create variables: one plain step does.
    filter_step(model, carry, at_step(inputs, 0))
  (latent, inference), filtered = model._scan(filter_step, carry, inputs, model.unroll, model.remat)
  return state._replace(latent=latent, inference=inference), filtered


def replay(model: 'StateSpaceModel', state: PyTree, z: Array, prepared: Prepared) -> PyTree:
  """Returns the generative model's states before each step, [B, T, ...], for given z [B, T, Z]."""

  def step(model, state, inputs):
    z_t, prepared_t = inputs
    return move(model, state, z_t, prepared_t), state

  return model._scan(step, state, (z, prepared), model.unroll)[1]


# ---- before it -----------------------------------------------------------------------------------


def prepare(
  model: 'StateSpaceModel',
  state: FilterState,
  x: Array,
  mask: Array,
  show: Callable[[PyTree], PyTree] = lambda evidence: evidence,
) -> tuple[FilterState, Prepared]:
  """Computes all that needs no draw, for all steps of x [B, T, *event].

  Args:
    model: bound.
    state: before the first step.
    x: observations.
    mask: bool [B, T].
    show: is applied to the evidence before the inference procedure sees it.

  Returns:
    `state` with memory, count of steps and chain after the last step, and what the scan goes
    through.
  """
  memory, seen = model.observe(state.memory, model.inputs(x), mask)
  encoded = model.inference.encode(show(model.evidence(seen)), mask)
  number = state.count[:, None] + jnp.arange(x.shape[1])
  state = state._replace(memory=memory, count=state.count + x.shape[1])
  prepared = Prepared(x, mask, seen, encoded, number)
  return with_prior_chain(model, state, prepared) if model.has_prior_chain else (state, prepared)


def with_prior_chain(
  model: 'StateSpaceModel', state: FilterState, prepared: Prepared
) -> tuple[FilterState, Prepared]:
  """Draws z_t ~ p(z_t | the chain's z_<t, x_<t) for all steps, and adds the states in between."""

  def step(model, chain, inputs):
    prepared_t, noise_t = inputs
    z_t = model.prior(chain, prepared_t.seen).sample(noise_t)
    return move(model, chain, z_t, prepared_t), chain

  noise = normal_noise(model, 'chain', (*prepared.mask.shape, model.latent_size))
  if model.is_initializing():
    # As in `run`: one plain step creates the variables.
    step(model, state.chain, at_step((prepared, noise), 0))
  after, chain = model._scan(step, state.chain, (prepared, noise), model.unroll, model.remat)
  return state._replace(chain=after), prepared._replace(chain=chain)


def draw(model: 'StateSpaceModel', batch_and_steps: tuple[int, ...]) -> Draws:
  """Draws the noise of all steps, or takes it from the collection `noise`."""
  size = model.latent_size
  estimates = model.inference.noise_shape
  return Draws(
    normal_noise(model, 'latent', (*batch_and_steps, size)),
    normal_noise(model, 'free_energy', (*batch_and_steps, *estimates, size)) if estimates else None,
  )


def normal_noise(model: nn.Module, name: str, shape: tuple[int, ...]) -> Array:
  """Returns standard normal noise [B, ...]: given in the collection `noise`, or drawn.

  Of a part of a batch, which the collection `part` says, it is what its rows have in the whole.
  """
  if model.has_variable('noise', name):
    return jnp.broadcast_to(model.get_variable('noise', name), shape)
  key = model.make_rng('sample')
  if not model.has_variable('part', 'rows'):
    return jax.random.normal(key, shape)
  rows = model.get_variable('part', 'rows')  # [P, B], of all parts
  return jax.random.normal(key, (rows.size, *shape[1:]))[rows[model.get_variable('part', 'index')]]


# ---- after it ------------------------------------------------------------------------------------


def score(
  model: 'StateSpaceModel', state: FilterState, x: Array, mask: Array
) -> tuple[FilterState, StepTerms]:
  """Filters x [B, T, *event] and scores every step; returns the state after the last one, too."""
  state, prepared = prepare(model, state, x, mask)
  state, filtered = run(model, state, prepared)
  return state, terms(model, filtered, prepared)


def terms(model: 'StateSpaceModel', filtered: Filtered, prepared: Prepared) -> StepTerms:
  """Returns the terms of Eq. 20, [B, T], of all steps as one batch."""
  shape, flat = prepared.mask.shape, flattened((filtered, prepared))
  prior = prior_of(model, flat[0].state, flat[1])
  features = free_energy.emit(model, flat[0].state, flat[0].z, flat[1])
  log_likelihood = model.likelihood.log_prob(features, flat[1].x, flat[1].mask)
  kl = jnp.sum(kl_normal(flat[0].posterior, prior), axis=-1)
  if not model.is_initializing():
    _show(model, features, prior, *flat, shape)
  log_likelihood, kl, prior = unflattened((log_likelihood, kl, prior), shape)
  latents = Latents(prior, filtered.posterior, filtered.z)
  scored = prepared.number >= model.given
  return StepTerms(log_likelihood, kl, jnp.zeros_like(kl), scored, latents).masked(scored)


def _show(
  model: 'StateSpaceModel',
  features: PyTree,
  prior: Normal,
  filtered: Filtered,
  prepared: Prepared,
  shape: tuple[int, int],
):
  """Sows what pictures and diagnostics need, of all steps as one batch, where they are asked for.

  Args:
    model: the model.
    features: what the likelihood takes.
    prior: of every step.
    filtered: flat, [B * T, ...].
    prepared: flat, [B * T, ...].
    shape: (B, T).
  """
  if model.is_mutable_collection('visuals'):
    mean = model.likelihood.predict(features)
    model.sow('visuals', 'mean', unflattened(mean, shape))
  if not model.is_mutable_collection('diagnostics'):
    return
  if isinstance(model.likelihood, HasScales):
    share = model.likelihood.saturation(features, prepared.x)
    model.sow('diagnostics', 'saturation', unflattened(share, shape))
  for name, normal, bounds in (
    ('prior', prior, model.prior_log_scale_bounds),
    ('posterior', filtered.posterior, model.inference.log_scale_bounds),
  ):
    if bounds is not None:
      share = jnp.mean(affine.near_bounds(normal.log_scale, *bounds), axis=-1)
      model.sow('diagnostics', f'{name}_saturation', unflattened(share, shape))
  noise = flattened(normal_noise(model, 'predicted', (*shape, model.latent_size)))
  predicted = free_energy.log_likelihood(model, filtered.state, prior.sample(noise), prepared)
  model.sow('diagnostics', 'prior_log_likelihood', unflattened(predicted, shape))
  estimates = model.inference.all_estimates(filtered.trace, filtered.posterior)
  if estimates:
    noise = flattened(normal_noise(model, 'judged', (*shape, len(estimates), 1, model.latent_size)))
    judged = free_energy.of_step(model, filtered.state, prior, prepared, noise)
    energies = jnp.stack([judged.value(q, i) for i, q in enumerate(estimates)], axis=-1)
    model.sow('diagnostics', 'free_energy', unflattened(energies, shape))


# ---- shapes --------------------------------------------------------------------------------------


def at_step(values: PyTree, t: int) -> PyTree:
  """Returns step t of arrays [B, T, ...]."""
  return jax.tree.map(lambda value: value[:, t], values)


def flattened(values: PyTree) -> PyTree:
  """Returns all steps as one batch: [B, T, ...] -> [B * T, ...]."""
  return jax.tree.map(lambda v: v.reshape(v.shape[0] * v.shape[1], *v.shape[2:]), values)


def unflattened(values: PyTree, batch_and_steps: tuple[int, ...]) -> PyTree:
  """Returns [B * T, ...] as [B, T, ...]."""
  return jax.tree.map(lambda v: v.reshape(*batch_and_steps, *v.shape[1:]), values)
