"""What all latent variable models share: filtering, scoring and generation from a few methods.

A leaf reads like its graphical model: `initial_latent`, `prior`, `features` and `transition`. Only
what depends on earlier draws runs inside the scan. What needs observations alone runs before it, on
all frames at once, decoder and likelihood after it; a property test says that it equals the steps.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp

from afslvm.distributions.normal import Normal, kl_normal
from afslvm.inference.base import Inference, Inferred, StepFreeEnergy, local_objective
from afslvm.likelihoods.base import ConditionalLikelihood
from afslvm.models import filtering, streams
from afslvm.models.base import Latents, SequenceModel, StepTerms
from afslvm.models.filtering import Draws, Encoded, FilterState, Observed, Step, at_step, flattened
from afslvm.types import Array, PyTree, Temperature

GRADIENTS = ('bptt', 'em')


class LatentVariableModel(SequenceModel, kw_only=True):
  """p(x, z) = Π p(x_t | features(...)) p(z_t | ...) and a posterior (AF paper Eq. 17; AVF Eq. 1).

  Attributes:
    latent_size: Z, the size of z_t.
    likelihood: p(x_t | features).
    inference: q(z_t | ...).
    gradients: `bptt`, of the bound itself; or `em`, variational EM as in the AVF paper's code: the
      generative parameters take the posterior's draws as given, and those of the inference are
      trained for F_t of their own step alone, everything else held.
    unroll: steps of the scan that are compiled as one.
    remat: whether gradients compute steps again, to keep only the states between them.
  """

  latent_size: int
  likelihood: ConditionalLikelihood
  inference: Inference
  gradients: str = 'bptt'
  unroll: int = 1
  remat: bool = False

  choices: ClassVar = {'gradients': GRADIENTS}
  limits: ClassVar = {'unroll': (1, None)}

  # ---- what a leaf states -----------------------------------------------------------------------

  def initial_latent(self, batch_size: int) -> PyTree:
    """The generative model's state before the first step, every array with a leading [B]."""
    raise NotImplementedError

  def prior(self, state: PyTree) -> Normal:
    """p(z_t | ...), [B, Z]."""
    raise NotImplementedError

  def seen_by_prior(self, state: PyTree) -> PyTree | None:
    """The state without what `prior` doesn't need: then that may be called after the scan."""
    del state
    return None

  def context(self, state: PyTree) -> Array:
    """What the posterior of this step sees of earlier draws, [B, D]."""
    raise NotImplementedError

  def features(self, state: PyTree, z_t: Array) -> PyTree:
    """What the decoder sees, [B, ...]; it should cost little, for it runs inside the scan."""
    raise NotImplementedError

  def transition(self, state: PyTree, z_t: Array, seen_t: PyTree) -> PyTree:
    """The state after z_t [B, Z] and an observation, as `remember` gives it."""
    raise NotImplementedError

  def encode(self, x: Array, mask: Array) -> PyTree:
    """Observations [B, T, *event] by themselves, [B, T, ...]; nothing, unless stated."""
    return jnp.zeros((*mask.shape, 0), x.dtype)

  def initial_memory(self, batch_size: int) -> PyTree:
    """What is remembered of observations before the first; nothing, unless stated."""
    del batch_size
    return ()

  def remember(self, memory: PyTree, encoded: PyTree) -> tuple[PyTree, PyTree]:
    """Goes through encoded observations [B, T, ...], whatever the latent variables are.

    Returns:
      The memory after them, and what each transition sees, [B, T, ...]: at t it may depend on
      x_<=t. By default observations are seen as they were encoded.
    """
    return memory, encoded

  def evidence(self, x: Array, encoded: PyTree, memory: PyTree, seen: PyTree) -> Array:
    """What the inference's encoder is shown, [B, T, ...]: x, unless stated.

    Args:
      x: [B, T, *event].
      encoded: of them.
      memory: before the first of them.
      seen: of `remember`.
    """
    del encoded, memory, seen
    return x

  def decode(self, features: PyTree, mask: Array) -> Array:
    """From features [N, ...] to what the likelihood takes, [N, ...]; `mask` is [N]."""
    del mask
    return features

  # ---- what follows -----------------------------------------------------------------------------

  @property
  def bound(self) -> str:
    """See base class."""
    return 'elbo'

  @property
  def measure(self) -> str:
    """That of the likelihood."""
    return self.likelihood.measure

  @property
  def sees_future(self) -> bool:
    """That of the inference."""
    return self.inference.sees_future

  def initial_state(self, batch_size: int) -> FilterState:
    """See base class."""
    return FilterState(
      self.initial_latent(batch_size),
      self.inference.initial_state(batch_size),
      self.initial_memory(batch_size),
    )

  def empty_carry(self, batch_size: int) -> PyTree:
    """What `streams` keep, before the first batch."""
    return streams.empty(self.initial_state(batch_size))

  def sequence_terms(self, x: Array, mask: Array) -> StepTerms:
    """Only what depends on earlier draws runs in the scan."""
    state = streams.first_state(self, self.initial_state(x.shape[0]))
    observed, memory = self._observe(state.memory, x, mask)
    state, steps = self._filter_all(state, observed)
    streams.leave(self, state._replace(memory=memory))
    return self._terms(observed, steps)

  def step(
    self, state: FilterState, x_t: Array, mask_t: Array | None = None
  ) -> tuple[FilterState, StepTerms]:
    """See base class."""
    mask_t = jnp.ones(x_t.shape[:1], bool) if mask_t is None else mask_t
    observed, memory = self._observe(state.memory, x_t[:, None], mask_t[:, None])
    state, terms = self.advance(state, at_step(observed, 0))
    return state._replace(memory=memory), terms

  def observe(self, x: Array, mask: Array) -> Observed:
    """See base class; sequences are taken from their first step on."""
    return self._observe(self.initial_memory(x.shape[0]), x, mask)[0]

  def advance(self, state: FilterState, observed_t: Observed) -> tuple[FilterState, StepTerms]:
    """See base class; the state's memory is left as it was."""
    observed = jax.tree.map(lambda value: value[:, None], observed_t)
    draws = at_step(self._draws(observed.mask.shape), 0)
    state, step = self._filter(state, (observed_t, draws, None))
    terms = self._terms(observed, jax.tree.map(lambda value: value[:, None], step))
    return state, at_step(terms, 0)

  def condition(self, context: Array) -> FilterState:
    """See base class; nothing is decoded."""
    state = self.initial_state(context.shape[0])
    if not context.shape[1]:
      return state
    observed, memory = self._observe(state.memory, context, jnp.ones(context.shape[:2], bool))
    return self._filter_all(state, observed)[0]._replace(memory=memory)

  def predict(
    self, state: FilterState, temperature: Temperature = 1.0
  ) -> tuple[FilterState, Array]:
    """Draws z_t from the prior and x_t given it. The inference's state isn't needed, and stays."""
    latent, observed = temperature if isinstance(temperature, tuple) else (temperature,) * 2
    prior = self.prior(state.latent)
    z_t = prior.sample(jax.random.normal(self.make_rng('sample'), prior.loc.shape), latent)
    there = jnp.ones(z_t.shape[:1], bool)
    decoded = self.decode(self.features(state.latent, z_t), there)
    x_t = self.likelihood.sample(decoded, observed)
    encoded = self.encode(x_t[:, None], there[:, None])
    memory, seen = self.remember(state.memory, encoded)
    latent = self.transition(state.latent, z_t, at_step(seen, 0))
    return FilterState(latent, state.inference, memory), x_t

  # ---- filtering --------------------------------------------------------------------------------

  @property
  def _local(self) -> bool:
    """Whether inference is trained step by step, by free energies of its own."""
    return self.gradients == 'em' and not self.is_initializing()

  @property
  def _needs_free_energy(self) -> bool:
    return self._local or self.inference.uses_free_energy

  @property
  def _diagnosing(self) -> bool:
    return self.is_mutable_collection('diagnostics') and not self.is_initializing()

  def _observe(self, memory: PyTree, x: Array, mask: Array) -> tuple[Observed, PyTree]:
    """All that needs no draw, of steps after `memory`; and the memory after them."""
    encoded = self.encode(x, mask)
    after, seen = self.remember(memory, encoded)
    evidence = self.evidence(x, encoded, memory, seen)
    evidence = jax.lax.stop_gradient(evidence) if self._local else evidence
    return Observed(x, mask, Encoded(self.inference.encode(evidence, mask), seen)), after

  def _draws(self, batch_and_steps: tuple[int, ...]) -> Draws:
    """The randomness of all steps, drawn here or given in the collection `noise`."""

    def normal(name, *shape):
      return filtering.normal_noise(self, name, (*batch_and_steps, *shape, self.latent_size))

    return Draws(
      normal('latent'),
      # Another one than the draw's: a posterior may not depend on the noise of its own draw.
      normal('free_energy', *self.inference.noise_shape) if self._needs_free_energy else None,
      normal('predicted') if self._diagnosing else None,
    )

  def _filter_all(self, state: FilterState, observed: Observed) -> tuple[FilterState, Step]:
    """The scan over steps [B, T, ...]."""
    inputs = observed, self._draws(observed.mask.shape), self._infer_at_once(state, observed)
    if not self.inference.uses_free_energy:
      # Else x would be cut into steps for nothing.
      inputs = observed._replace(x=observed.mask), *inputs[1:]
    if self.is_initializing():
      # Variables can't be created inside a scan: one plain step creates them.
      state, first = self._filter(state, at_step(inputs, 0))
      steps = observed.mask.shape[1]
      return state, jax.tree.map(lambda v: jnp.repeat(v[:, None], steps, axis=1), first)
    return self._scan(_filter, state, inputs, self.unroll, self.remat)

  def _infer_at_once(self, state: FilterState, observed: Observed) -> Inferred | None:
    """The posteriors of all steps [B, T, ...], if they depend on nothing but observations."""
    past = jax.tree.leaves((state.inference, self.context(state.latent)))
    if self.inference.uses_prior or any(leaf.size for leaf in past):
      return None
    features = flattened(observed.encoded.for_posterior)
    own = self.inference.initial_state(len(features))
    inferred = self.inference.infer(own, features, jnp.zeros((len(features), 0)))
    return filtering.unflattened(inferred, observed.mask.shape)

  def _filter(
    self, state: FilterState, inputs: tuple[Observed, Draws, Inferred | None]
  ) -> tuple[FilterState, Step]:
    """One step of AVF Algorithm 1: prior, posterior, a draw, and on to the next state."""
    observed, draws, inferred = inputs
    held = jax.lax.stop_gradient if self._local else lambda value: value
    record = draws.prior_noise is not None  # inside the scan no collection says so
    prior, seen_by_prior = None, None
    if not (self.inference.uses_prior or record or self.is_initializing()):
      seen_by_prior = self.seen_by_prior(state.latent)
    if seen_by_prior is None:
      prior = self.prior(state.latent)
    free_energy = None
    if self.inference.uses_free_energy:
      noise = draws.inference_noise
      free_energy = self._free_energy(held(state.latent), held(prior), observed, noise, record)
    if inferred is None:
      inferred = self.inference.infer(
        state.inference,
        observed.encoded.for_posterior,
        held(self.context(state.latent)),
        held(prior),
        free_energy,
      )
    posterior = held(inferred.posterior)
    z_t = posterior.sample(draws.noise)
    predicted = None
    if record:
      predicted = self.features(state.latent, prior.sample(draws.prior_noise))
    hoisted = self._local and not self.inference.uses_free_energy
    step = Step(
      Latents(prior, posterior, z_t),
      self.features(state.latent, z_t),
      inferred._replace(state=()),
      predicted,
      (held(state.latent), draws.inference_noise) if hoisted else (),
      seen_by_prior,
    )
    latent = self.transition(state.latent, z_t, observed.encoded.for_transition)
    return FilterState(latent, held(inferred.state), state.memory), step

  # ---- the step free energy ---------------------------------------------------------------------

  def _free_energy(
    self, state: PyTree, prior: Normal, observed: Observed, noise: Array, record: bool = False
  ) -> StepFreeEnergy:
    """F_t of one step as a pure function of q (AVF Eq. 9), with noise [B, N, S, Z]."""
    if self.is_initializing():
      batch, size = observed.mask.shape[0], observed.x[0].size
      return StepFreeEnergy(lambda q, i: jnp.zeros(batch), lambda q, i: jnp.zeros((batch, size)))
    model, variables = self.unbind()
    if self._local:
      variables = jax.lax.stop_gradient(variables)
    # In training decoders with BatchNorm take the statistics of the step, and learn none from it.
    mutable = ['batch_stats'] if self.is_mutable_collection('batch_stats') else []

    def apply(method, q, i):
      arguments = (state, prior, q, observed.x, observed.mask, noise[:, i])
      return model.apply(variables, *arguments, method=method, mutable=mutable)[0]

    return StepFreeEnergy(
      lambda q, i: apply('step_free_energy', q, i),
      lambda q, i: apply('step_errors', q, i),
      local=self._local,
      record=record,
    )

  def step_free_energy(
    self, state: PyTree, prior: Normal, q: Normal, x_t: Array, mask_t: Array, noise: Array
  ) -> Array:
    """F_t [B], nats (AVF Eq. 9): KL(q || p) - E_q[log p(x_t | ...)], by noise [B, S, Z]."""
    kl = jnp.sum(kl_normal(q, prior), axis=-1)

    def log_likelihood(noise):
      decoded = self.decode(self.features(state, q.sample(noise)), mask_t)
      return self.likelihood.log_prob(decoded, x_t)

    each = [log_likelihood(noise[:, s]) for s in range(noise.shape[1])]
    energy = self._kl_weight() * kl - sum(each) / len(each)
    # Else padding would pull at the others where batch statistics join them.
    return jnp.where(mask_t, energy, 0.0)

  def step_errors(
    self, state: PyTree, prior: Normal, q: Normal, x_t: Array, mask_t: Array, noise: Array
  ) -> Array:
    """Precision-weighted errors of x_t [B, D], averaged over noise [B, S, Z]."""
    del prior

    def error(noise):
      decoded = self.decode(self.features(state, q.sample(noise)), mask_t)
      return self.likelihood.error(decoded, x_t).reshape(x_t.shape[0], -1)

    return sum(error(noise[:, s]) for s in range(noise.shape[1])) / noise.shape[1]

  def _kl_weight(self) -> Array | float:
    """Of training's warm-up, which what inference minimises follows; else 1."""
    if self.has_variable('annealing', 'kl_weight'):
      return self.get_variable('annealing', 'kl_weight')
    return 1.0

  def _local_objective(self, observed: Observed, step: Step) -> Array | None:
    """What trains the inference in variational EM, [B, T]: F_t of each step, all else held."""
    if not self._local:
      return None
    inferred = step.inferred
    if inferred.trail is not None:
      return inferred.local + self.inference.replay(inferred.trail, observed.encoded.for_posterior)
    if self.inference.uses_free_energy:
      return inferred.local
    # A posterior that needs no F_t has it evaluated for all steps at once.
    (state, noise), q = step.state, step.inferred.posterior
    flat = flattened((state, jax.lax.stop_gradient(step.latents.prior), observed, noise, q))
    energy, gradient = self._free_energy(*flat[:-1]).gradient(flat[-1])
    return local_objective(energy, gradient, flat[-1]).reshape(observed.mask.shape)

  # ---- terms ------------------------------------------------------------------------------------

  def _terms(self, observed: Observed, step: Step) -> StepTerms:
    """Decoder, likelihood and divergence of all steps; arrays are [B, T, ...]."""
    x, mask = observed.x, observed.mask
    if step.latents.prior is None:
      prior = filtering.unflattened(self.prior(flattened(step.seen_by_prior)), mask.shape)
      step = step._replace(latents=step.latents.replace(prior=prior))
    latents = step.latents
    log_likelihood, decoded = self._log_likelihood(x, mask, step.features)
    kl = jnp.sum(kl_normal(latents.posterior, latents.prior), axis=-1)
    if not self.is_initializing():
      self._show(x, mask, decoded, step)
    scored, local = jnp.ones(mask.shape, bool), self._local_objective(observed, step)
    return StepTerms(log_likelihood, kl, jnp.zeros_like(kl), scored, latents, local)

  def _log_likelihood(self, x: Array, mask: Array, features: PyTree) -> tuple[Array, Array]:
    """log p(x_t | features) [B, T], and the decoded features [B*T, ...]."""
    decoded = self.decode(flattened(features), mask.reshape(-1))
    values = self.likelihood.log_prob(decoded, flattened(x))
    return values.reshape(mask.shape), decoded

  def _show(self, x: Array, mask: Array, decoded: Array, step: Step):
    """What pictures and diagnostics need; costs nothing unless they are requested."""
    if self.is_mutable_collection('visuals'):
      self.sow('visuals', 'mean', self.likelihood.mean(decoded).reshape(x.shape))
    if step.predicted is not None:
      self.sow('diagnostics', 'saturation', self.likelihood.saturation(decoded).reshape(mask.shape))
      predicted = self._log_likelihood(x, mask, step.predicted)[0]
      self.sow('diagnostics', 'prior_log_likelihood', predicted)
    if step.inferred.free_energies is not None:
      self.sow('diagnostics', 'free_energy', step.inferred.free_energies)


def _filter(model: LatentVariableModel, state: FilterState, inputs: tuple[Observed, Draws]):
  return model._filter(state, inputs)
