"""Latent overshooting: priors several steps ahead are trained, too (Hafner et al. 2019).

The prior of step t, d steps ahead, is that of a state which the model reached by drawing the d - 1
latent variables before t from its own prior, from the state before step t - d + 1 on. With one step
the divergence is the plain one.
"""

import jax
import jax.numpy as jnp

from afslvm.distributions.normal import kl_normal
from afslvm.models import filtering
from afslvm.models.base import SequenceModel, StepTerms
from afslvm.models.filtering import flattened, unflattened
from afslvm.objectives.inside import aligned, look_inside
from afslvm.types import Array


def overshoot(
  model: SequenceModel, x: Array, mask: Array, depth: int, weight: Array | float = 1.0
) -> tuple[StepTerms, Array]:
  """Scores x [B, T, *event], and what its divergences are when the prior looks further ahead.

  Args:
    model: bound.
    x: the data.
    mask: bool [B, T].
    depth: D, the steps that the prior looks ahead, 1 or more.
    weight: of each divergence of two and more steps.

  Returns:
    The terms [B, T], and for each step (KL_1 + weight Σ_d KL_d) / D, where D is at most the number
    of steps that there are before; [B, T], zero where none is scored. q(z_t) has gradient from its
    own KL_1 only; earlier draws have it, too, as the states that rollouts start from.
  """
  core, state, prepared, finish = look_inside(model, x, mask)
  shape = prepared.mask.shape
  _, filtered = filtering.run(core, state, prepared)
  terms = finish(filtering.terms(core, filtered, prepared))
  posterior = jax.lax.stop_gradient(filtered.posterior)
  observed, states = flattened(prepared), filtered.state
  noise = filtering.normal_noise(core, 'overshooting', (*shape, depth, core.latent_size))
  before = prepared.number - core.given  # steps with latent variables before each
  total = jnp.zeros(shape)
  for d in range(1, depth):
    flat = flattened(states)
    z = core.prior(flat, observed.seen).sample(flattened(noise[:, :, d]))
    after = unflattened(filtering.move(core, flat, z, observed), shape)
    # What was before the first step stays before it; it counts for no step.
    states = jax.tree.map(
      lambda old, new: jnp.concatenate([old[:, :1], new[:, :-1]], axis=1), states, after
    )
    prior = unflattened(core.prior(flattened(states), observed.seen), shape)
    kl = jnp.sum(kl_normal(posterior, prior), axis=-1)
    total = total + jnp.where(before >= d, kl, 0.0)
  count = jnp.maximum(aligned(jnp.clip(before + 1, 1, depth), terms), 1)
  return terms, (terms.kl + weight * aligned(total, terms)) / count
