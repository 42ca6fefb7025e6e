"""The optax optimiser that a config describes."""

import dataclasses

import jax
import optax

from afslvm.training.settings import OptimizerSettings
from afslvm.types import PyTree


def make_schedule(settings: OptimizerSettings, num_steps: int) -> optax.Schedule:
  """Linear warm-up, then constant or decay over the remaining steps."""
  peak, left = settings.learning_rate, max(num_steps - settings.warmup_steps, 1)
  if settings.schedule == 'cosine':
    after = optax.cosine_decay_schedule(peak, left, settings.final_fraction)
  elif settings.schedule == 'exponential':
    after = optax.exponential_decay(peak, left, settings.final_fraction)
  else:
    after = optax.constant_schedule(peak)
  if not settings.warmup_steps:
    return after
  warmup = optax.linear_schedule(0.0, peak, settings.warmup_steps)
  return optax.join_schedules([warmup, after], [settings.warmup_steps])


def make_optimizer(settings: OptimizerSettings, num_steps: int) -> optax.GradientTransformation:
  """Clipping by global norm, then AdamW; with a rate of its own, one more for the inference."""
  adam = _adam(settings, num_steps)
  if settings.inference_learning_rate:
    own = dataclasses.replace(settings, learning_rate=settings.inference_learning_rate)
    adam = optax.multi_transform(
      {'generative': adam, 'inference': _adam(own, num_steps)}, parameter_groups
    )
  if not settings.clip_norm:
    return adam
  return optax.chain(optax.clip_by_global_norm(settings.clip_norm), adam)


def _adam(settings: OptimizerSettings, num_steps: int) -> optax.GradientTransformation:
  return optax.adamw(
    make_schedule(settings, num_steps),
    b1=settings.b1,
    b2=settings.b2,
    weight_decay=settings.weight_decay,
  )


def parameter_groups(params: PyTree) -> PyTree:
  """'inference' for the parameters of the inference procedure, 'generative' for all others."""

  def group(path, _):
    return 'inference' if any(getattr(k, 'key', '') == 'inference' for k in path) else 'generative'

  return jax.tree_util.tree_map_with_path(group, params)
