"""The training objective that a config describes."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax

from afslvm.errors import ConfigError
from afslvm.models.base import SequenceModel, StepTerms
from afslvm.models.state_space import StateSpaceModel
from afslvm.objectives import elbo, fivo, iwae, overshooting, variational_em
from afslvm.objectives.annealing import KLSettings, kl_weight, weighted_kl
from afslvm.types import Array, PyTree

BOUNDS = ('elbo', 'iwae', 'fivo')
GRADIENTS = ('bptt', 'em', 'em_online')


class Carried(NamedTuple):
  """The state that goes from one batch to the next beside the parameters."""

  collections: PyTree  # the model's other collections, `batch_stats`
  stream: PyTree = ()  # the model's state after each row, where rows go on in the next batch
  optimizer: PyTree = ()  # of `em_online`, the state of the inference's optimiser


class Outcome(NamedTuple):
  """The results of a loss beside its value."""

  metrics: dict[str, Array]  # with `scored`, the steps that the loss is a mean over
  carried: Carried
  inference: PyTree = None  # of `em_online`, the inference's parameters, moved already


# (params, carried, batch, key, step) -> (loss, outcome); the batch's `x` is dequantised.
Loss = Callable[[PyTree, Carried, dict[str, Array], Array, Array], tuple[Array, Outcome]]


@dataclasses.dataclass(frozen=True)
class ObjectiveSettings(KLSettings):
  """Which bound is maximised, and how its divergence is weighted.

  Attributes:
    bound: `elbo` (AF paper Eq. 20), `iwae` over whole sequences, or `fivo`, a particle filter's.
    num_samples: draws or particles per sequence, K; `elbo` takes one.
    resample_threshold: `fivo` resamples when fewer particles than this share of K are effective.
    first_scored: steps before it are given; the AVF paper never scores the first one.
    overshooting: steps that the prior looks ahead, D (latent overshooting); 1 is the plain bound.
    overshooting_weight: of each divergence of two and more steps.
    gradients: `bptt`, of the bound itself, through time; `em`, variational EM, where the inference
      network is trained by the free energy of each step alone; `em_online`, the same with an update
      of the inference network after every step of a sequence, as in the AVF paper's code.
  """

  bound: str = 'elbo'
  num_samples: int = 1
  resample_threshold: float = 0.5
  first_scored: int = 0
  overshooting: int = 1
  overshooting_weight: float = 1.0
  gradients: str = 'bptt'

  choices: ClassVar = {'bound': BOUNDS, 'gradients': GRADIENTS}
  limits: ClassVar = {
    **KLSettings.limits,
    'num_samples': (1, None),
    'resample_threshold': (0.0, 1.0),
    'first_scored': (0, None),
    'overshooting': (1, None),
    'overshooting_weight': (0.0, None),
  }

  @property
  def is_online(self) -> bool:
    """Whether the inference has an optimiser of its own."""
    return self.gradients == 'em_online'

  def check(self):
    """Raises ConfigError for options that the bound doesn't have."""
    if self.bound == 'elbo' and self.num_samples != 1:
      raise ConfigError(
        f'objective.num_samples={self.num_samples} needs objective.bound=iwae or fivo; elbo takes 1'
      )
    if self.bound != 'elbo' and self.first_scored:
      raise ConfigError(
        f'objective.first_scored={self.first_scored} needs objective.bound=elbo; use 0'
      )
    if self.bound != 'elbo' and (self.free_nats, self.kl_balance) != (0.0, 0.5):
      raise ConfigError(
        f'objective.bound={self.bound} weighs samples, not divergences: free_nats must be 0.0 and '
        'kl_balance 0.5'
      )
    is_plain = (self.bound, self.free_nats, self.kl_balance) == ('elbo', 0.0, 0.5)
    if self.overshooting > 1 and not (is_plain and self.gradients == 'bptt'):
      raise ConfigError(
        f'objective.overshooting={self.overshooting} needs objective.bound=elbo, gradients=bptt, '
        'free_nats=0.0 and kl_balance=0.5; use 1'
      )
    if self.gradients != 'bptt' and not is_plain:
      raise ConfigError(
        f'objective.gradients={self.gradients} needs objective.bound=elbo, free_nats=0.0 and '
        'kl_balance=0.5'
      )


class OnlineSettings(NamedTuple):
  """The optimiser of the inference's parameters in `em_online`."""

  optimizer: optax.GradientTransformation  # gives directions, which the rate scales
  schedule: Callable[[Array], Array]  # from the training step to the rate


def make_loss(
  settings: ObjectiveSettings,
  model: SequenceModel,
  dequantisation: str,
  online: OnlineSettings | None = None,
) -> Loss:
  """Returns the loss of a train step, a mean over scored steps in nats per step.

  Args:
    settings: which bound, and what its divergence weighs.
    model: any sequence model.
    dequantisation: that `x` has gone through, for what is logged.
    online: needed by `em_online`.
  """
  if settings.bound != 'elbo':
    return _weighted_samples(settings, model, dequantisation)
  trained = {'bptt': _bptt, 'em': _em, 'em_online': _em_online}[settings.gradients]
  trained = _overshooting if settings.overshooting > 1 else trained

  def annealed_elbo(params, carried, batch, key, step):
    weight = kl_weight(settings, step)
    context = _Context(settings, model, online, params, carried, batch, key, step, weight)
    terms, further, outcome = trained(context)
    terms = terms.masked(jnp.arange(terms.kl.shape[1]) >= settings.first_scored)
    reconstruction = elbo.per_step(terms.log_det - terms.log_likelihood, terms)
    loss = reconstruction + weighted_kl(terms, settings, step)
    loss = loss + elbo.per_step(jnp.where(terms.scored, further, 0.0), terms)
    metrics = {'loss': loss, **elbo.terms_metrics(model, dequantisation, terms)}
    if terms.latents is not None:
      metrics['kl_weight'] = weight
    return loss, outcome._replace(metrics=metrics)

  return annealed_elbo


class _Context(NamedTuple):
  """The arguments of a loss, for the functions that train by one kind of gradients each."""

  settings: ObjectiveSettings
  model: SequenceModel
  online: OnlineSettings | None
  params: PyTree
  carried: Carried
  batch: dict[str, Array]
  key: Array
  step: Array
  kl_weight: Array

  def call(self, function: Callable[..., Any], **arguments: Any) -> tuple[Any, PyTree]:
    """Calls a function of the bound model in training mode; see `elbo.in_training`."""
    if 'reset' in self.batch:
      arguments['stream'] = (self.carried.stream, self.batch['reset'])
    collections = self.carried.collections
    return elbo.in_training(
      self.model,
      self.params,
      collections,
      self.batch,
      self.key,
      self.kl_weight,
      function,
      **arguments,
    )

  def outcome(self, collections: PyTree, state: PyTree = None, optimizer: PyTree = ()) -> Outcome:
    """Returns an outcome without metrics; `state` is kept where rows go on."""
    stream = jax.lax.stop_gradient(state) if 'reset' in self.batch else ()
    return Outcome({}, Carried(collections, stream, optimizer))


# The ways to train: each returns the terms, what is added to the loss [B, T], and the outcome.


def _bptt(context: _Context) -> tuple[StepTerms, Array | float, Outcome]:
  """Differentiates the bound itself, through draws and states."""
  if 'reset' in context.batch:
    (state, terms), collections = context.call(StateSpaceModel.continued_terms)
    return terms, 0.0, context.outcome(collections, state)
  terms, collections = context.call(SequenceModel.__call__)
  return terms, 0.0, context.outcome(collections)


def _overshooting(context: _Context) -> tuple[StepTerms, Array, Outcome]:
  """Does what `_bptt` does, with divergences from priors that look further ahead."""
  settings = context.settings
  (terms, divergence), collections = context.call(
    overshooting.overshoot, depth=settings.overshooting, weight=settings.overshooting_weight
  )
  return terms, context.kl_weight * (divergence - terms.kl), context.outcome(collections)


def _em(context: _Context) -> tuple[StepTerms, Array, Outcome]:
  """Gives the two groups of parameters objectives of their own.

  The gradient of F_t is that of the inference; its value is in the loss already.
  """
  found, collections = context.call(variational_em.em)
  energy = found.free_energy
  further = energy - jax.lax.stop_gradient(energy)
  return found.terms, further, context.outcome(collections, found.state)


def _em_online(context: _Context) -> tuple[StepTerms, float, Outcome]:
  """Moves the inference's parameters after every step, and trains the others as `_em` does."""
  assert context.online is not None
  rate = jnp.asarray(context.online.schedule(context.step))
  updates = variational_em.OnlineUpdates(context.online.optimizer, context.carried.optimizer, rate)
  first = context.settings.first_scored
  found, collections = context.call(variational_em.em_online, updates=updates, first=first)
  outcome = context.outcome(collections, found.state, found.optimizer)
  return found.terms, 0.0, outcome._replace(inference=found.inference)


def _weighted_samples(
  settings: ObjectiveSettings, model: SequenceModel, dequantisation: str
) -> Loss:
  """Returns the loss of the bounds that weigh several samples."""
  sample = _importance if settings.bound == 'iwae' else _particles

  def negative_bound(params, carried, batch, key, step):
    x, mask = batch['x'], batch['mask']
    if 'part' in batch:
      key = jax.random.fold_in(key, batch['part'])
    weight = kl_weight(settings, step)
    annealing = elbo.annealing(model, weight)
    variables = {'params': params, **carried.collections, 'annealing': annealing}
    bound, terms, updated = sample(settings, model, variables, x, mask, key, weight)
    loss = -jnp.sum(bound) / jnp.maximum(jnp.sum(terms.scored), 1)
    metrics = {'loss': loss, **elbo.terms_metrics(model, dequantisation, terms)}
    return loss, Outcome({**metrics, 'kl_weight': weight}, carried._replace(collections=updated))

  return negative_bound


def _importance(settings, model, variables, x, mask, key, weight):
  """Returns the bound, terms of the first draw for the log, and the updated collections."""
  keys = jax.random.split(key, settings.num_samples)
  bound, terms, updated = iwae.importance_bound(
    model, variables, x, mask, keys, weight, _collections(variables)
  )
  return bound, jax.tree.map(lambda term: term[0], terms), updated


def _particles(settings, model, variables, x, mask, key, weight):
  """Returns the bound, means over particles of the terms, and the updated collections."""
  particles = fivo.ParticleFilter(
    model, settings.num_samples, settings.resample_threshold, mutable=_collections(variables)
  )
  filtered = particles(variables, x, mask, key, weight, dropout=jax.random.fold_in(key, 1))
  return filtered.bound, filtered.terms, filtered.collections


def _collections(variables: PyTree) -> tuple[str, ...]:
  """Returns the names of what training updates besides the parameters."""
  return tuple(name for name in variables if name not in ('params', 'annealing'))
