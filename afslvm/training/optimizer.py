"""The optax optimiser that a config describes."""

import dataclasses

import jax
import optax

from afslvm.objectives.objective import OnlineSettings
from afslvm.training.settings import OptimizerSettings
from afslvm.types import PyTree

WEIGHTS = ('kernel', 'inputs', 'outputs')  # by their names; the latter two are NADE's


def make_schedule(settings: OptimizerSettings, num_steps: int) -> optax.Schedule:
  """Returns linear warm-up, then constant or decaying rates over the remaining steps."""
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


def make_optimizers(
  settings: OptimizerSettings, num_steps: int, is_online: bool = False
) -> tuple[optax.GradientTransformation, OnlineSettings | None]:
  """Returns the optimiser of the parameters, and with `is_online` another for the inference's.

  The first clips by global norm and is AdamW; where the inference has a rate of its own, it is one
  more for the inference's parameters. With `is_online` it leaves these alone.
  """
  adam = _adam(settings, num_steps)
  if is_online or settings.inference_learning_rate:
    own = dataclasses.replace(settings, learning_rate=_inference_rate(settings))
    inference = optax.set_to_zero() if is_online else _adam(own, num_steps)
    groups = {'generative': adam, 'inference': inference}
    adam = optax.multi_transform(groups, parameter_groups)
  if settings.clip_norm:
    adam = optax.chain(optax.clip_by_global_norm(settings.clip_norm), adam)
  return adam, make_online(settings, num_steps) if is_online else None


def _inference_rate(settings: OptimizerSettings) -> float:
  return settings.inference_learning_rate or settings.learning_rate


def make_online(settings: OptimizerSettings, num_steps: int) -> OnlineSettings:
  """Returns the optimiser of `em_online`, which moves the inference in every step of a sequence.

  Its gradients are clipped by themselves. Adam counts steps of sequences, and the rate follows
  those of training.
  """
  rate = dataclasses.replace(settings, learning_rate=_inference_rate(settings))
  parts = [optax.scale_by_adam(settings.b1, settings.b2, settings.eps)]
  if settings.clip_norm:
    parts.insert(0, optax.clip_by_global_norm(settings.clip_norm))
  if settings.weight_decay:
    parts.append(optax.add_decayed_weights(settings.weight_decay, are_weights))
  return OnlineSettings(optax.chain(*parts), make_schedule(rate, num_steps))


def _adam(settings: OptimizerSettings, num_steps: int) -> optax.GradientTransformation:
  return optax.adamw(
    make_schedule(settings, num_steps),
    b1=settings.b1,
    b2=settings.b2,
    eps=settings.eps,
    weight_decay=settings.weight_decay,
    mask=are_weights,
  )


def are_weights(params: PyTree) -> PyTree:
  """Returns whether each parameter is one that weight decay should draw to zero.

  Those are the factors of products. Biases, gains, shifts and scales, such as those of `ActNorm`,
  and the factors of invertible matrices are spared: zero means nothing special there.
  """
  return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key in WEIGHTS, params)


def parameter_groups(params: PyTree) -> PyTree:
  """Returns 'inference' for the inference procedure's parameters, 'generative' for all others."""

  def group(path, _):
    return 'inference' if any(getattr(k, 'key', '') == 'inference' for k in path) else 'generative'

  return jax.tree_util.tree_map_with_path(group, params)
