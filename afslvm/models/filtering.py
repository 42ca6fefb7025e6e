"""What goes into a step of filtering, what comes out, and what stays between steps."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from afslvm.inference.base import Inferred
from afslvm.models.base import Latents
from afslvm.types import Array, PyTree


class FilterState(NamedTuple):
  """What a latent variable model remembers between steps."""

  latent: PyTree  # of the generative model
  inference: PyTree  # of the inference procedure
  memory: PyTree  # of observations, whatever the latent variables were


class Encoded(NamedTuple):
  """Observations as recurrences need them; [B, T, ...], or [B, ...] of one step."""

  for_posterior: Array
  for_transition: PyTree


class Observed(NamedTuple):
  """Observations as steps need them; [B, T, ...], or [B, ...] of one step."""

  x: Array
  mask: Array
  encoded: Encoded


class Draws(NamedTuple):
  """The randomness of steps; [B, T, ...], or [B, ...] of one step."""

  noise: Array  # standard normal, [..., Z]
  inference_noise: Array | None  # [..., N, S, Z], of estimates of the step free energy
  prior_noise: Array | None  # for draws from the prior, where diagnostics are asked for


class Step(NamedTuple):
  """What the scan finds of a step; [B, T, ...], or [B, ...] of one step."""

  latents: Latents
  features: PyTree
  inferred: Inferred  # its posterior has the gradient that `latents` may lack
  predicted: PyTree  # features of a draw from the prior
  state: PyTree  # of the generative model before the step, where it is needed
  seen_by_prior: PyTree  # of the same, where the prior is not in `latents` yet


def at_step(values: PyTree, t: int) -> PyTree:
  """Step t of arrays [B, T, ...]."""
  return jax.tree.map(lambda value: value[:, t], values)


def flattened(values: PyTree) -> PyTree:
  """All steps as one batch: [B, T, ...] -> [B * T, ...]."""
  return jax.tree.map(lambda v: v.reshape(v.shape[0] * v.shape[1], *v.shape[2:]), values)


def unflattened(values: PyTree, batch_and_steps: tuple[int, int]) -> PyTree:
  """[B * T, ...] -> [B, T, ...]."""
  return jax.tree.map(lambda v: v.reshape(*batch_and_steps, *v.shape[1:]), values)


def normal_noise(model: nn.Module, name: str, shape: tuple[int, ...]) -> Array:
  """Standard normal noise [B, ...]: given in the collection `noise`, or drawn.

  Of a part of a batch, which the collection `part` says, it is what its rows have in the whole.
  """
  if model.has_variable('noise', name):
    return jnp.broadcast_to(model.get_variable('noise', name), shape)
  key = model.make_rng('sample')
  if not model.has_variable('part', 'rows'):
    return jax.random.normal(key, shape)
  rows = model.get_variable('part', 'rows')  # [P, B], of all parts
  return jax.random.normal(key, (rows.size, *shape[1:]))[rows[model.get_variable('part', 'index')]]
