"""The optax optimiser that a config describes."""

import optax

from afslvm.training.settings import OptimizerSettings


def make_schedule(settings: OptimizerSettings, num_steps: int) -> optax.Schedule:
  """Linear warm-up, then constant or cosine decay over the remaining steps."""
  peak = settings.learning_rate
  if settings.schedule == 'cosine':
    after = optax.cosine_decay_schedule(
      peak, max(num_steps - settings.warmup_steps, 1), settings.final_fraction
    )
  else:
    after = optax.constant_schedule(peak)
  if not settings.warmup_steps:
    return after
  warmup = optax.linear_schedule(0.0, peak, settings.warmup_steps)
  return optax.join_schedules([warmup, after], [settings.warmup_steps])


def make_optimizer(settings: OptimizerSettings, num_steps: int) -> optax.GradientTransformation:
  """Clipping by global norm, then AdamW."""
  adam = optax.adamw(
    make_schedule(settings, num_steps),
    b1=settings.b1,
    b2=settings.b2,
    weight_decay=settings.weight_decay,
  )
  if not settings.clip_norm:
    return adam
  return optax.chain(optax.clip_by_global_norm(settings.clip_norm), adam)
