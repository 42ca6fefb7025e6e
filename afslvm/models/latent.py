"""What all latent variable models share: filtering, scoring and generation from four methods.

A leaf reads like its graphical model: `initial_latent`, `prior`, `features` and `transition`. Only
what is recurrent runs inside the scan; observations are encoded before it, and decoder and
likelihood evaluated after it, each on one batch of all frames. A property test says that this
equals the steps.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from afslvm.distributions.normal import Normal, kl_normal
from afslvm.inference.base import Inference
from afslvm.likelihoods.base import ConditionalLikelihood
from afslvm.models.base import Latents, SequenceModel, StepTerms
from afslvm.types import Array, PyTree


class FilterState(NamedTuple):
  """What a latent variable model remembers between steps."""

  latent: PyTree  # of the generative model
  inference: PyTree  # of the inference procedure


class Encoded(NamedTuple):
  """Observations as recurrences need them; [B, T, ...], or [B, ...] of one step."""

  for_posterior: Array
  for_transition: Array


class Observed(NamedTuple):
  """Observations as steps need them; [B, T, ...], or [B, ...] of one step."""

  x: Array
  mask: Array
  encoded: Encoded


class Draws(NamedTuple):
  """The randomness of steps; [B, T, ...], or [B, ...] of one step."""

  noise: Array  # standard normal, [..., Z]
  prior_noise: Array | None  # for draws from the prior, where diagnostics are asked for


class LatentVariableModel(SequenceModel):
  """p(x, z) = Π p(x_t | features(...)) p(z_t | ...), with a filtering posterior (AF paper Eq. 17).

  Attributes:
    latent_size: Z, the size of z_t.
    likelihood: p(x_t | features).
    inference: q(z_t | ...).
  """

  latent_size: int
  likelihood: ConditionalLikelihood
  inference: Inference

  # ---- what a leaf states -----------------------------------------------------------------------

  def initial_latent(self, batch_size: int) -> PyTree:
    """The generative model's state before the first step, every array with a leading [B]."""
    raise NotImplementedError

  def prior(self, state: PyTree) -> Normal:
    """p(z_t | ...), [B, Z]."""
    raise NotImplementedError

  def context(self, state: PyTree) -> Array:
    """What the posterior of this step sees of the past, [B, D]."""
    raise NotImplementedError

  def features(self, state: PyTree, z_t: Array) -> Array:
    """What the decoder sees, [B, F]; it should cost little, for it runs inside the scan."""
    raise NotImplementedError

  def transition(self, state: PyTree, z_t: Array, encoded_t: Array) -> PyTree:
    """The state after z_t [B, Z] and an observation, encoded by `encode`."""
    raise NotImplementedError

  def encode(self, x: Array, mask: Array) -> Array:
    """What transitions see of observations [B, T, *event]: [B, T, ...]; nothing, unless stated."""
    return jnp.zeros((*mask.shape, 0), x.dtype)

  def decode(self, features: Array, mask: Array) -> Array:
    """From features [N, F] to what the likelihood takes, [N, ...]; `mask` is [N]."""
    del mask
    return features

  # ---- what follows -----------------------------------------------------------------------------

  @property
  def bound(self) -> str:
    """See base class."""
    return 'elbo'

  def initial_state(self, batch_size: int) -> FilterState:
    """See base class."""
    return FilterState(self.initial_latent(batch_size), self.inference.initial_state(batch_size))

  def sequence_terms(self, x: Array, mask: Array) -> StepTerms:
    """Only the recurrences run in the scan."""
    state = self.initial_state(x.shape[0])
    inputs = self.observe(x, mask).encoded, self._draws(mask.shape)
    if self.is_initializing():
      # Variables can't be created inside a scan: one plain step creates them.
      first = self._filter(state, jax.tree.map(lambda value: value[:, 0], inputs))[1]
      steps = jax.tree.map(lambda value: jnp.repeat(value[:, None], x.shape[1], axis=1), first)
    else:
      steps = self._scan(_filter, state, inputs)[1]
    return self._terms(x, mask, *steps)

  def step(
    self, state: FilterState, x_t: Array, mask_t: Array | None = None
  ) -> tuple[FilterState, StepTerms]:
    """See base class."""
    mask_t = jnp.ones(x_t.shape[:1], bool) if mask_t is None else mask_t
    seen = self.observe(x_t[:, None], mask_t[:, None])
    return self.advance(state, jax.tree.map(lambda value: value[:, 0], seen))

  def observe(self, x: Array, mask: Array) -> Observed:
    """See base class."""
    return Observed(x, mask, Encoded(self.inference.encode(x, mask), self.encode(x, mask)))

  def advance(self, state: FilterState, observed_t: Observed) -> tuple[FilterState, StepTerms]:
    """See base class."""
    draws = self._draws((observed_t.x.shape[0], 1))
    draws_t = jax.tree.map(lambda value: value[:, 0], draws)
    state, outputs = self._filter(state, (observed_t.encoded, draws_t))
    seen, *outputs = jax.tree.map(lambda value: value[:, None], (observed_t, *outputs))
    terms = self._terms(seen.x, seen.mask, *outputs)
    return state, jax.tree.map(lambda term: term[:, 0], terms)

  def predict(
    self, state: FilterState, temperature: float | Array = 1.0
  ) -> tuple[FilterState, Array]:
    """Draws z_t from the prior and x_t given it. The inference's state isn't needed, and stays."""
    prior = self.prior(state.latent)
    z_t = prior.sample(jax.random.normal(self.make_rng('sample'), prior.loc.shape), temperature)
    there = jnp.ones(z_t.shape[:1], bool)
    decoded = self.decode(self.features(state.latent, z_t), there)
    x_t = self.likelihood.sample(decoded, temperature)
    encoded_t = self.encode(x_t[:, None], there[:, None])[:, 0]
    return state._replace(latent=self.transition(state.latent, z_t, encoded_t)), x_t

  def _draws(self, batch_and_steps: tuple[int, ...]) -> Draws:
    """The randomness of all steps."""
    shape = (*batch_and_steps, self.latent_size)
    if self.has_variable('noise', 'latent'):
      noise = jnp.broadcast_to(self.get_variable('noise', 'latent'), shape)
    else:
      noise = jax.random.normal(self.make_rng('sample'), shape)
    prior_noise = None
    if self._diagnosing:
      prior_noise = jax.random.normal(self.make_rng('sample'), shape)
    return Draws(noise, prior_noise)

  def _filter(self, state: FilterState, inputs: tuple[Encoded, Draws]) -> tuple[FilterState, Any]:
    """One step of AF paper Eq. 29: prior, posterior, a draw, and on to the next state."""
    encoded, draws = inputs
    prior = self.prior(state.latent)
    inferred, posterior = self.inference.posterior(
      state.inference, encoded.for_posterior, self.context(state.latent), prior
    )
    z_t = posterior.sample(draws.noise)
    features = self.features(state.latent, z_t)
    predicted = None
    if draws.prior_noise is not None:
      predicted = self.features(state.latent, prior.sample(draws.prior_noise))
    latent = self.transition(state.latent, z_t, encoded.for_transition)
    return FilterState(latent, inferred), (Latents(prior, posterior, z_t), features, predicted)

  def _terms(
    self, x: Array, mask: Array, latents: Latents, features: Array, predicted: Array | None
  ) -> StepTerms:
    """Decoder, likelihood and divergence of all steps; arrays are [B, T, ...]."""
    log_likelihood, decoded = self._log_likelihood(x, mask, features)
    kl = jnp.sum(kl_normal(latents.posterior, latents.prior), axis=-1)
    if not self.is_initializing():
      self._show(x, mask, decoded, predicted)
    scored = jnp.ones(mask.shape, bool)
    return StepTerms(log_likelihood, kl, jnp.zeros_like(kl), scored, latents)

  def _log_likelihood(self, x: Array, mask: Array, features: Array) -> tuple[Array, Array]:
    """log p(x_t | features) [B, T], and the decoded features [B*T, ...]."""
    decoded = self.decode(features.reshape(-1, *features.shape[2:]), mask.reshape(-1))
    flat = x.reshape(-1, *x.shape[2:])
    return self.likelihood.log_prob(decoded, flat).reshape(mask.shape), decoded

  @property
  def _diagnosing(self) -> bool:
    return self.is_mutable_collection('diagnostics') and not self.is_initializing()

  def _show(self, x: Array, mask: Array, decoded: Array, predicted: Array | None):
    """What pictures and diagnostics need; costs nothing unless they are requested."""
    if self.is_mutable_collection('visuals'):
      self.sow('visuals', 'mean', self.likelihood.mean(decoded).reshape(x.shape))
    if predicted is not None:
      self.sow('diagnostics', 'saturation', self.likelihood.saturation(decoded).reshape(mask.shape))
      self.sow('diagnostics', 'prior_log_likelihood', self._log_likelihood(x, mask, predicted)[0])


def _filter(model: LatentVariableModel, state: FilterState, inputs: tuple[Encoded, Draws]):
  return model._filter(state, inputs)
