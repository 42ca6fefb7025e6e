"""Is the model healthy? Numbers about its parts, and plain sentences where one looks wrong."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from afslvm.distributions.normal import kl_normal
from afslvm.evaluation import levels
from afslvm.evaluation.correlation import temporal_correlation
from afslvm.models.base import SequenceModel
from afslvm.types import Array, PyTree

# Of one unit's divergence per step. Burda et al. (2016, Section 5.2) ask how much the posterior's
# mean varies, which says little here: with a prior that depends on the past it varies anyway.
ACTIVE_NATS = 0.01
DEAD_NATS = 0.1  # per step, of the divergence
SATURATED_SHARE = 0.05
CORRELATED = 0.3

# What each number is, for logs and reports.
MEANING = {
  'kl': 'KL(posterior ‖ prior), nats per step',
  'active_units': 'latent units whose own KL is above 0.01 nats per step',
  'latent_size': 'latent units',
  'predictive_gap': 'log-likelihood given posterior draws less that given prior draws, nats/step',
  'residual_correlation': 'temporal correlation of what the last flow passes on',
  'saturation/prior': "share of the prior's log-scales that lie at a bound",
  'saturation/posterior': "share of the posterior's log-scales that lie at a bound",
}
OF_LEVELS = {
  'bits_per_dim': 'what latents of this level cost given the past, bits per frame dimension; '
  'their scale is arbitrary, and the log-determinant is apart',
  'correlation': 'temporal correlation of latents of this level',
  'moved_correlation': 'the same in the frame of reference that its prior predicts from the past',
}
# What a model with latent variables sows, and the part that it is a number about.
_LATENT_SCALES = {'prior_saturation': 'prior', 'posterior_saturation': 'posterior'}
# Lists of numbers: of steps, and of inference iterations.
LISTS = ('kl_per_step', 'free_energy_per_iteration')


def diagnose(
  model: SequenceModel, variables: PyTree, x: Array, mask: Array, key: Array, first: int = 0
) -> dict[str, Any]:
  """Numbers about one batch.

  Args:
    model: any sequence model.
    variables: its variables.
    x: [B, T, *event], dequantised.
    mask: bool [B, T].
    key: of the model's draws.
    first: steps before it are given, and don't count.

  Returns:
    The entries of `MEANING` that the model has; of each level, those of `OF_LEVELS`;
    `kl_per_step`, a list over scored steps; `free_energy_per_iteration` of an iterative inference,
    the mean over scored steps of F_t before the first iteration and after each, nats;
    `saturation/flow 1`, ... and, where the likelihood has log-scales, `saturation/likelihood`:
    shares of log-scales at a bound.
  """
  # Where several processes share the batch, each needs the rows of all.
  found = multihost_utils.process_allgather(_apply(model, variables, x, mask, key), tiled=True)
  terms, shown, diagnostics = found
  scored = np.asarray(terms.scored) & (np.arange(x.shape[1]) >= first)
  values: dict[str, Any] = {}
  for depth, level in enumerate(_levels(diagnostics), 1):
    is_core = 'prior_log_likelihood' in level
    of_levels = levels.of_levels(level, scored, math.prod(model.event_shape))
    values.update(levels.numbers(of_levels))
    whose = 'likelihood' if is_core else 'couplings' if of_levels else f'flow {depth}'
    parts = {'saturation': whose, **_LATENT_SCALES}
    for name, part in parts.items():
      if name in level:
        share = np.asarray(level[name][-1])
        values[f'saturation/{part}'] = float(share[scored[:, -share.shape[1] :]].mean())
    if is_core:
      predicted = np.asarray(level['prior_log_likelihood'][-1])
      own = scored[:, -predicted.shape[1] :]
      known = np.asarray(terms.log_likelihood)[:, -predicted.shape[1] :]
      values['predictive_gap'] = float((known - predicted)[own].mean())
  if terms.latents is not None:
    values.update(_latent_values(terms, scored))
  if (energies := _found(diagnostics, 'free_energy')) is not None:
    own = energies[scored[:, -energies.shape[1] :]]  # [N, iterations + 1]
    values['free_energy_per_iteration'] = [float(v) for v in own.mean(axis=0, dtype=np.float64)]
  residual = [level['y'][-1] for level in _levels(shown) if 'y' in level]
  steps = int(scored.all(axis=0).sum())
  if residual and steps > 1:
    values['residual_correlation'] = temporal_correlation(np.asarray(residual[-1])[:, -steps:])
  return values


@functools.partial(jax.jit, static_argnums=0)
def _apply(model: SequenceModel, variables: PyTree, x: Array, mask: Array, key: Array):
  collections = ['visuals', 'diagnostics']
  terms, updated = model.apply(variables, x, mask, rngs={'sample': key}, mutable=collections)
  return terms, updated.get('visuals', {}), updated.get('diagnostics', {})


def _levels(tree: dict[str, Any]) -> list[dict[str, Any]]:
  """Returns what each model shows, from the data inwards."""
  levels = []
  while tree:
    levels.append({name: value for name, value in tree.items() if not isinstance(value, dict)})
    tree = tree.get('base', {})
  return levels


def _found(tree: dict[str, Any], name: str) -> np.ndarray | None:
  """What was sown under a name, wherever in the model."""
  if name in tree:
    return np.asarray(tree[name][-1])
  inner = (_found(value, name) for value in tree.values() if isinstance(value, dict))
  return next((value for value in inner if value is not None), None)


def _latent_values(terms: Any, scored: np.ndarray) -> dict[str, Any]:
  kl, counts = np.where(scored, terms.kl, 0.0).sum(axis=0), scored.sum(axis=0)
  own = np.asarray(kl_normal(terms.latents.posterior, terms.latents.prior))[scored]  # [N, Z]
  return {
    'kl': float(kl.sum()) / float(counts.sum()),
    'kl_per_step': [float(v) for v in kl[counts > 0] / counts[counts > 0]],
    'active_units': int((own.mean(axis=0) > ACTIVE_NATS).sum()),
    'latent_size': own.shape[1],
  }


def is_number(value: Any) -> bool:
  """Whether a value from a record is a finite number."""
  return isinstance(value, int | float) and math.isfinite(value)


def recorded(record: dict[str, Any]) -> dict[str, Any]:
  """Returns what `diagnose` found, of a line of metrics.jsonl, the finite numbers only."""
  values = {
    key: value
    for key, value in record.items()
    if (key in MEANING or key.startswith(('saturation/', 'level '))) and is_number(value)
  }
  for name in LISTS:
    found = record.get(name)
    if isinstance(found, list) and found and all(map(is_number, found)):
      values[name] = found
  return values


def sentences(history: Sequence[dict[str, Any]]) -> list[str]:
  """Returns sentences about what looks wrong after the last of several validations.

  Args:
    history: of one run, oldest first: `step`, and what was `recorded` then.
  """
  if not history:
    return []
  last, found = history[-1], []
  if last.get('kl', DEAD_NATS) < DEAD_NATS:
    since = _since(history, lambda values: values.get('kl', DEAD_NATS) < DEAD_NATS)
    found.append(
      f'posterior equals prior: KL {last["kl"]:.2f} nats/step since step {since}; try a longer '
      'objective.kl_warmup_steps from a lower objective.kl_initial_weight, or objective.free_nats'
    )
  elif last.get('active_units') == 0:
    found.append(f'no latent unit is active: each has a KL below {ACTIVE_NATS} nats/step')
  energies = last.get('free_energy_per_iteration', [])
  if len(energies) > 1 and energies[-1] >= energies[0]:
    found.append(
      f'inference iterations do not lower the free energy: {energies[0]:.2f} nats/step before, '
      f'{energies[-1]:.2f} after {len(energies) - 1}; try a lower inference learning '
      'rate, or the observation among the inputs of the inference'
    )
  for name, share in last.items():
    if name.startswith('saturation/') and share > SATURATED_SHARE:
      part = name.removeprefix('saturation/')
      remedy = _remedy(part, is_iterative=len(energies) > 1)
      found.append(f'{share:.0%} of the log-scales of {part} lie at a bound; {remedy}')
  if last.get('residual_correlation', 0.0) > CORRELATED:
    found.append(
      f'the flows leave a temporal correlation of {last["residual_correlation"]:.2f}: they predict '
      'little; train longer, or look at the shift in the report'
    )
  return found


def _remedy(part: str, is_iterative: bool) -> str:
  """Returns what helps a part whose log-scales lie at a bound."""
  if part == 'couplings':
    return 'train with a lower optimizer.learning_rate, or another `bound` of the flow of frames'
  if part not in _LATENT_SCALES.values():
    return 'widen log_scale_low and log_scale_high, or train with a lower optimizer.learning_rate'
  update = (
    ", or model.inference.update_rule='highway' with normalize_mean=False" if is_iterative else ''
  )
  return (
    'those that are clipped get no gradient and stay: train anew with another log_scale_high of '
    f'prior and inference, or a longer objective.kl_warmup_steps{update}'
  )


def _since(history: Sequence[dict[str, Any]], holds: Any) -> int:
  """The step from which on something has held without a break."""
  since = history[-1]['step']
  for values in reversed(history):
    if not holds(values):
      break
    since = values['step']
  return since
