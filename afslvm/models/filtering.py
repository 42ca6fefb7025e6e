"""What goes into a step of filtering, what comes out, and what stays between steps."""

from typing import NamedTuple

import jax

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


def at_step(values: PyTree, t: int) -> PyTree:
  """Step t of arrays [B, T, ...]."""
  return jax.tree.map(lambda value: value[:, t], values)


def flattened(value: Array) -> Array:
  """All steps as one batch: [B, T, ...] -> [B * T, ...]."""
  return value.reshape(value.shape[0] * value.shape[1], *value.shape[2:])
