"""The step free energy F_t of a latent variable model, as a function of q (AVF paper Eq. 8-9)."""

from typing import TYPE_CHECKING

import jax.numpy as jnp

from afslvm.distributions.normal import Normal, kl_normal
from afslvm.inference.base import StepFreeEnergy
from afslvm.likelihoods.base import HasErrors
from afslvm.types import Array, PyTree

if TYPE_CHECKING:
  from afslvm.models.filtering import Prepared
  from afslvm.models.state_space import StateSpaceModel


def emit(model: 'StateSpaceModel', state: PyTree, z: Array, prepared: 'Prepared') -> PyTree:
  """Returns what the likelihood takes, of N steps."""
  return model.emission(state, z, prepared.seen, prepared.mask)


def log_likelihood(
  model: 'StateSpaceModel', state: PyTree, z: Array, prepared: 'Prepared'
) -> Array:
  """Returns log p(x_t | z_t, ...) of N steps, [N], nats."""
  features = emit(model, state, z, prepared)
  return model.likelihood.log_prob(features, prepared.x, prepared.mask)


def of_step(
  model: 'StateSpaceModel', state: PyTree, prior: Normal, prepared: 'Prepared', noise: Array | None
) -> StepFreeEnergy | None:
  """Returns F_t of N steps as a pure function of q, or None without noise to estimate it by.

  Args:
    model: the model, whose variables are held as they are now.
    state: of the generative model before each step.
    prior: p(z_t | ...), [N, Z].
    prepared: the observations of the steps, [N, ...].
    noise: standard normal, [N, estimates, draws, Z].
  """
  if noise is None:
    return None
  if model.is_initializing():
    zeros = jnp.zeros(len(prepared.mask))
    return StepFreeEnergy(lambda q, i: zeros, lambda q, i: jnp.zeros_like(prepared.x))
  module, variables = model.unbind()
  # In training decoders with BatchNorm take the statistics of the step, and learn none from it.
  mutable = ['batch_stats'] if model.is_mutable_collection('batch_stats') else []

  def apply(function, q, i):
    arguments = state, prior, q, prepared, noise[:, i]
    return module.apply(variables, *arguments, method=function, mutable=mutable)[0]

  return StepFreeEnergy(lambda q, i: apply(estimate, q, i), lambda q, i: apply(_errors, q, i))


def estimate(
  model: 'StateSpaceModel',
  state: PyTree,
  prior: Normal,
  q: Normal,
  prepared: 'Prepared',
  noise: Array,
) -> Array:
  """Returns KL(q || p) - E_q[log p(x_t | ...)] [N], nats, by noise [N, S, Z] (AVF Eq. 9)."""
  kl = jnp.sum(kl_normal(q, prior), axis=-1)
  draws = range(noise.shape[1])
  each = [log_likelihood(model, state, q.sample(noise[:, s]), prepared) for s in draws]
  # Training's warm-up of the divergence is followed by what inference minimises.
  annealed = model.has_variable('annealing', 'kl_weight')
  weight = model.get_variable('annealing', 'kl_weight') if annealed else 1.0
  # Padding is masked: through batch statistics it would affect the other sequences.
  return jnp.where(prepared.mask, weight * kl - sum(each) / len(each), 0.0)


def _errors(
  model: 'StateSpaceModel',
  state: PyTree,
  prior: Normal,
  q: Normal,
  prepared: 'Prepared',
  noise: Array,
) -> Array:
  """Returns precision-weighted errors of x_t [N, *event], averaged over noise [N, S, Z]."""
  del prior
  likelihood = model.likelihood
  if not isinstance(likelihood, HasErrors):
    name = type(likelihood).__name__
    raise ValueError(f'errors=True: {name} has no precision-weighted errors; use errors=False')

  def error(noise):
    return likelihood.error(emit(model, state, q.sample(noise), prepared), prepared.x)

  return sum(error(noise[:, s]) for s in range(noise.shape[1])) / noise.shape[1]
