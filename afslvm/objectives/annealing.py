"""Weights of the divergence in training, and nowhere else: warm-up, free nats, balance."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from afslvm.distributions.normal import kl_normal
from afslvm.models.base import StepTerms
from afslvm.types import Array


@dataclasses.dataclass(frozen=True)
class KLSettings:
  """How a training objective weights the divergence; the defaults leave the bound as it is.

  Attributes:
    kl_initial_weight: its weight at step 0.
    kl_warmup_steps: the steps over which the weight rises to 1 (Bowman et al. 2016).
    kl_warmup_power: 1 is linear; the AVF paper's code squares the share of steps done.
    free_nats: the divergence of each latent unit, averaged over steps and sequences, costs nothing
      below this (free bits; Kingma et al. 2016).
    kl_balance: share of the gradient that moves the prior towards the posterior instead of the
      posterior towards the prior, doubled so that 0.5 is the plain bound (Hafner et al. 2021,
      Algorithm 2).
  """

  kl_initial_weight: float = 1.0
  kl_warmup_steps: int = 0
  kl_warmup_power: float = 1.0
  free_nats: float = 0.0
  kl_balance: float = 0.5

  limits: ClassVar = {
    'kl_initial_weight': (0.0, 1.0),
    'kl_warmup_steps': (0, None),
    'kl_warmup_power': (0.1, 10.0),
    'free_nats': (0.0, None),
    'kl_balance': (0.0, 1.0),
  }


def kl_weight(settings: KLSettings, step: Array | int) -> Array:
  """Returns the weight at a step of training."""
  progress = jnp.minimum(jnp.asarray(step, jnp.float32) / max(settings.kl_warmup_steps, 1), 1.0)
  if not settings.kl_warmup_steps:
    progress = jnp.ones_like(progress)
  if settings.kl_warmup_power != 1.0:
    progress = progress**settings.kl_warmup_power
  return settings.kl_initial_weight + (1.0 - settings.kl_initial_weight) * progress


def weighted_kl(terms: StepTerms, settings: KLSettings, step: Array | int) -> Array:
  """Returns the divergence that a training objective charges, in nats per scored step."""
  steps = jnp.maximum(jnp.sum(terms.scored), 1)
  if terms.latents is None:
    return jnp.sum(terms.kl) / steps
  per_unit = _balanced(terms, settings.kl_balance)  # [B, T, Z]
  per_unit = jnp.sum(jnp.where(terms.scored[..., None], per_unit, 0.0), axis=(0, 1)) / steps
  return kl_weight(settings, step) * jnp.sum(jnp.maximum(per_unit, settings.free_nats))


def _balanced(terms: StepTerms, balance: float) -> Array:
  """Returns KL(q || p) per unit [B, T, Z], with the gradient shared out between p and q."""
  assert terms.latents is not None
  p, q = terms.latents.prior, terms.latents.posterior
  if balance == 0.5:
    return kl_normal(q, p)
  move_prior = kl_normal(jax.lax.stop_gradient(q), p)
  move_posterior = kl_normal(q, jax.lax.stop_gradient(p))
  mixed = 2.0 * (balance * move_prior + (1.0 - balance) * move_posterior)
  # The value stays that of the divergence; only the gradient is shared out.
  return mixed - jax.lax.stop_gradient(mixed - kl_normal(q, p))
