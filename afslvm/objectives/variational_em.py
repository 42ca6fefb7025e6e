"""Variational EM: generative model and inference network have an objective each.

AVF paper Algorithm 1: in every step of a sequence inference minimises the free energy F_t of that
step alone, everything else held (E-step, Eq. 13); the generative parameters take the draws of the
posterior as given (M-step). `em` moves the inference network once per batch; `em_online`, like the
paper's code, after every step of the sequences in it, by an optimiser of its own.

In training BatchNorm takes the statistics of what it is shown: in the filter those of a step, in
the judgement of `em` and in the M-step those of all steps.

These functions run inside `model.apply`, on a bound model with any number of flows around one with
latent variables.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from afslvm import fast_cpu
from afslvm.distributions.normal import Normal
from afslvm.models import filtering, free_energy
from afslvm.models.base import SequenceModel, StepTerms
from afslvm.models.filtering import Filtered, FilterState, Prepared, flattened, unflattened
from afslvm.models.state_space import StateSpaceModel
from afslvm.objectives.inside import Stream, aligned, look_inside
from afslvm.types import Array, PyTree

held = jax.lax.stop_gradient


class OnlineUpdates(NamedTuple):
  """The optimiser of the inference's parameters in `em_online`, and its state and rate."""

  optimizer: optax.GradientTransformation  # gives directions, which the rate scales
  state: PyTree  # of the optimiser
  rate: Array  # the learning rate in this batch


class Trained(NamedTuple):
  """The objectives of a batch, and the states after it."""

  terms: StepTerms  # [B, T], whose gradient is that of the generative parameters
  free_energy: Array  # F_t [B, T], nats; in `em` its gradient is that of the inference's parameters
  state: FilterState  # of the core after the last step
  inference: PyTree = None  # in `em_online`, the inference's parameters after the last step
  optimizer: PyTree = None  # in `em_online`, the state of their optimiser


def em(model: SequenceModel, x: Array, mask: Array, stream: Stream | None = None) -> Trained:
  """Returns the two objectives of variational EM for x [B, T, *event] and mask bool [B, T]."""
  core, state, prepared, finish = look_inside(model, x, mask, stream, show=held)
  after, filtered, energy = e_step(core, state, prepared)
  terms = finish(m_step(core, state, prepared, filtered))
  return Trained(terms, aligned(energy, terms), after)


def em_online(
  model: SequenceModel,
  x: Array,
  mask: Array,
  updates: OnlineUpdates,
  first: int = 0,
  stream: Stream | None = None,
) -> Trained:
  """Trains the inference's parameters on x [B, T, *event], and returns the generative objective.

  Args:
    model: bound.
    x: the data.
    mask: bool [B, T].
    updates: how the inference's parameters are moved.
    first: steps before it are given, and train nothing.
    stream: of sequences that go on.
  """
  core, state, prepared, finish = look_inside(model, x, mask, stream, show=held)
  if core.sees_future or not core.inference.num_trained:
    raise ValueError(
      'em_online moves the parameters of an inference step by step: this one smooths, or has none'
    )
  skipped = x.shape[1] - prepared.mask.shape[1]
  counted = prepared.mask & (prepared.number >= core.given)
  counted = counted & (jnp.arange(skipped, x.shape[1]) >= first)
  found, inference, optimizer = online_e_step(core, state, prepared, counted, updates)
  after, filtered, energy = found
  terms = finish(m_step(core, state, prepared, filtered))
  return Trained(terms, aligned(energy, terms), after, inference, optimizer)


# ---- M-step --------------------------------------------------------------------------------------


def m_step(
  core: StateSpaceModel, state: FilterState, prepared: Prepared, filtered: Filtered
) -> StepTerms:
  """Returns the generative model's terms for given posteriors and draws, [B, T]."""
  states = filtering.replay(core, state.latent, filtered.z, prepared)
  return filtering.terms(core, filtered._replace(state=states), prepared)


# ---- E-step --------------------------------------------------------------------------------------


def e_step(
  core: StateSpaceModel, state: FilterState, prepared: Prepared
) -> tuple[FilterState, Filtered, Array]:
  """Filters with everything held, and judges the posteriors that the inference's parameters gave.

  Args:
    core: bound.
    state: before the first step.
    prepared: the observations; `encoded` has the gradient of the inference's parameters.

  Returns:
    The state after the last step; what the filter found, held; F_t [B, T], nats.
  """
  apply, fixed = _with_held_variables(core), held(prepared)
  draws = filtering.draw(core, prepared.mask.shape)
  after, filtered = held(apply(filtering.run, held(state), fixed, draws))
  first = core.inference.initial_state(len(state.count))
  first = jax.tree.map(
    lambda v: jnp.broadcast_to(v[:, None], (*draws.latent.shape[:2], *v.shape[1:])), first
  )
  flat = flattened((filtered, prepared._replace(x=fixed.x, seen=fixed.seen), first))
  trained, prior = _trained(core.inference, apply, *flat)
  noise = flattened(_judging_noise(core, prepared.mask.shape))
  states, steps = flattened((filtered.state, fixed))
  energy = _judged(apply, trained, prior, states, steps, noise)
  return after, filtered, unflattened(energy, prepared.mask.shape)


def online_e_step(
  core: StateSpaceModel,
  state: FilterState,
  prepared: Prepared,
  counted: Array,
  updates: OnlineUpdates,
) -> tuple[tuple[FilterState, Filtered, Array], PyTree, PyTree]:
  """Filters, and moves the inference's parameters after every step as the paper's code does.

  Args:
    core: bound.
    state: before the first step.
    prepared: the observations.
    counted: bool [B, T], the steps that train.
    updates: how the parameters are moved, by the mean of F_t over the sequences that count.

  Returns:
    What `e_step` returns; the inference's parameters; the state of their optimiser.
  """
  shape, fixed = prepared.mask.shape, held(prepared)
  evidence = held(core.evidence(prepared.seen))
  inputs = fixed, evidence, filtering.draw(core, shape), _judging_noise(core, shape), counted
  inputs = (
    *jax.tree.map(lambda value: jnp.moveaxis(value, 1, 0), inputs),
    _dropout_keys(core, shape),
  )

  def step(carry, inputs):
    (latent, inference), params, optimizer = carry
    prepared_t, evidence_t, draws_t, noise_t, counted_t, rngs_t = inputs

    def encode(module, params=params):
      shown = jax.tree.map(lambda value: value[:, None], (evidence_t, prepared_t.mask))
      return filtering.at_step(module.inference.encode(*shown), 0)

    apply = _with_held_variables(core, params, rngs_t)
    now = prepared_t._replace(encoded=apply(encode))
    after, found = held(apply(filtering.filter_step, (latent, inference), (now, draws_t)))

    def objective(params):
      own = _with_held_variables(core, params, rngs_t)
      seen = prepared_t._replace(encoded=own(encode))
      first = own(lambda module: module.inference.initial_state(len(counted_t)))
      trained, prior = own(lambda module: _trained(module.inference, apply, found, seen, first))
      energy = _judged(apply, trained, prior, found.state, prepared_t, noise_t)
      return jnp.sum(jnp.where(counted_t, energy, 0.0)) / jnp.maximum(jnp.sum(counted_t), 1), energy

    slopes, energy = jax.grad(objective, has_aux=True)(params)
    directions, moved = updates.optimizer.update(slopes, optimizer, params)
    new = jax.tree.map(lambda p, d: p - updates.rate * d, params, directions)
    # A step that all sequences have ended before trains nothing.
    params, optimizer = jax.tree.map(
      lambda a, b: jnp.where(jnp.any(counted_t), a, b), (new, moved), (params, optimizer)
    )
    return (after, params, optimizer), (found, energy)

  params = held(core.inference.variables.get('params', {}))
  start = (held((state.latent, state.inference)), params, updates.state)
  with fast_cpu.in_loop():
    ((latent, inference), params, optimizer), outputs = jax.lax.scan(step, start, inputs)
  filtered, energy = jax.tree.map(lambda value: jnp.moveaxis(value, 0, 1), outputs)
  after = state._replace(latent=latent, inference=inference)
  return (after, filtered, held(energy)), params, optimizer


def _dropout_keys(core: StateSpaceModel, batch_and_steps: tuple[int, ...]) -> dict[str, Array]:
  """Returns a key of the stream `dropout` for each step, where dropout is active."""
  if not core.has_rng('dropout'):
    return {}
  return {'dropout': jax.random.split(core.make_rng('dropout'), batch_and_steps[1])}


def _with_held_variables(
  core: StateSpaceModel, inference: PyTree = None, rngs: dict[str, Array] | None = None
) -> Callable[..., Any]:
  """Returns apply(function, *arguments) -> function(model, *arguments), whose variables are held.

  Args:
    core: bound; in training its networks take the statistics of what they see, and learn none.
    inference: parameters of the inference that stand for its own, and are not held.
    rngs: keys of the stream `dropout`; None draws one, where dropout is active.
  """
  module, variables = core.unbind()
  variables = held(variables)
  if inference is not None:
    variables = {**variables, 'params': {**variables['params'], 'inference': inference}}
  mutable = ['batch_stats'] if core.is_mutable_collection('batch_stats') else []
  if rngs is None:
    rngs = {'dropout': core.make_rng('dropout')} if core.has_rng('dropout') else {}

  def apply(function, *arguments):
    return module.apply(variables, *arguments, method=function, mutable=mutable, rngs=rngs)[0]

  return apply


def _trained(
  inference: Any, apply: Callable[..., Any], filtered: Filtered, prepared: Prepared, first: PyTree
) -> tuple[list[Normal], Normal]:
  """Returns the estimates of q that parameters gave in N steps, and the prior of each step.

  Args:
    inference: bound.
    apply: of `_with_held_variables`.
    filtered: of N steps; all of it is held.
    prepared: of N steps.
    first: the inference's first state, of which its parameters learn where a sequence begins.
  """

  def given(module, state, seen):
    return module.history(state), module.prior(state, seen)

  history, prior = held(apply(given, filtered.state, prepared.seen))
  begins = prepared.number == 0
  state = jax.tree.map(
    lambda new, old: jnp.where(begins.reshape(-1, *(1,) * (old.ndim - 1)), new, old),
    first,
    filtered.inference,
  )
  trained = inference.trained_estimates(state, prepared.encoded, history, prior, filtered.trace)
  return trained, prior


def _judging_noise(core: StateSpaceModel, batch_and_steps: tuple[int, ...]) -> Array:
  """Returns noise [B, T, K, S, Z] for K estimates of q, which none of them has seen."""
  _, draws = core.inference.noise_shape or (0, 1)
  shape = (*batch_and_steps, core.inference.num_trained, draws, core.latent_size)
  return filtering.normal_noise(core, 'judged', shape)


def _judged(
  apply: Callable[..., Any],
  trained: list[Normal],
  prior: Normal,
  state: PyTree,
  prepared: Prepared,
  noise: Array,
) -> Array:
  """Returns the mean of F_t over the trained estimates of q, [N], everything but q held."""
  if len(trained) != noise.shape[1]:
    raise ValueError(
      f'num_trained={noise.shape[1]}, and there are {len(trained)} trained estimates'
    )
  if not trained:
    return jnp.zeros(len(prepared.mask))
  each = [
    apply(free_energy.estimate, state, prior, q, prepared, noise[:, i])
    for i, q in enumerate(trained)
  ]
  return sum(each) / len(each)
