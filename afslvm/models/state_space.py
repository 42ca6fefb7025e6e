"""What a latent variable model states: its graphical model, as a few functions of one step.

    p(x, z) = Π_t p(x_t | emission(...)) p(z_t | state, x_<t),    q(z_t | evidence, history)

(AF paper Eq. 17, AVF paper Eq. 1.) `filtering` is the engine that runs these over a sequence.
Latent variables are flat [B, Z] between model, inference and objectives; a leaf whose
`latent_shape` is (h, w, c) makes maps of them for its networks.
"""

import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from afslvm.distributions.normal import Normal
from afslvm.inference.base import Inference
from afslvm.likelihoods.base import ConditionalLikelihood
from afslvm.models import filtering
from afslvm.models.base import PRIOR_CHAIN_ELBO, Limit, SequenceModel, StepTerms
from afslvm.models.filtering import FilterState, Prepared
from afslvm.types import Array, PyTree, Temperature

LEVELS = 256  # of 8-bit data
POSTERIOR, PRIOR_CHAIN = 'posterior', 'prior_chain'  # whose draws condition the prior


class StateSpaceModel(SequenceModel, kw_only=True):
  """Latent variables z_t whose state moves on step by step, and observations given them.

  `state` is what earlier latent variables decided, `memory` and `seen` are functions of
  observations alone. Each is any pytree of arrays with a leading [B].

  Networks with dropout belong in `observe`, and those with batch statistics there or in `emission`:
  prior and transition are evaluated more than once for a step.

  Attributes:
    latent_shape: the shape of z_t, (Z,) or (h, w, c).
    likelihood: p(x_t | emission).
    inference: q(z_t | ...).
    given: the first steps that are only conditioned on: they draw no latent variable and are not
      scored, so that a posterior that smooths can be used after them.
    clean_inputs: data x = (v + u) / 256 with uniform noise u are seen as v / 256 by all networks of
      observations, and as x by the likelihood alone; the bound is one of the same density, with
      less noise in what it depends on.
    prior_conditioning: whose draws decide the state that the prior sees. `posterior`: those of the
      posterior, which everything else sees, too; this is the stated model. `prior_chain`: those of
      the priors of the steps before, a chain that no posterior corrects. The bound is then one of
      another model, whose z_t are independent of each other given the chain, and it is named so
      (`bound`). Drawn sequences have one z_t for both, as in the stated model.
    unroll: steps of the scan that are compiled as one.
    remat: whether gradients compute steps again, to keep only the states between them.
  """

  latent_shape: tuple[int, ...]
  likelihood: ConditionalLikelihood
  inference: Inference
  given: int = 0
  clean_inputs: bool = False
  prior_conditioning: str = POSTERIOR
  unroll: int = 1
  remat: bool = False

  prior_sees_latents: ClassVar[bool] = True  # whether the state has a part in the prior at all
  choices: ClassVar[dict[str, Any]] = {'prior_conditioning': (POSTERIOR, PRIOR_CHAIN)}
  limits: ClassVar[dict[str, Any]] = {'unroll': (1, None), 'given': (0, None)}

  # ---- what a leaf states -----------------------------------------------------------------------

  def initial(self, batch_size: int) -> PyTree:
    """Returns the state before the first step."""
    raise NotImplementedError

  def prior(self, state: PyTree, seen_t: PyTree) -> Normal:
    """Returns p(z_t | ...), [B, Z]; of `seen_t` it may use what x_<t decide."""
    raise NotImplementedError

  def emission(self, state: PyTree, z_t: Array, seen_t: PyTree, mask_t: Array) -> PyTree:
    """Returns what the likelihood takes; of `seen_t` it may use what x_<t decide.

    `mask_t`, bool [B], is False at padding, for batch statistics.
    """
    raise NotImplementedError

  def transition(self, state: PyTree, z_t: Array, seen_t: PyTree) -> PyTree:
    """Returns the state after z_t [B, Z] and x_t."""
    raise NotImplementedError

  def initial_memory(self, batch_size: int) -> PyTree:
    """Returns what is remembered of observations before the first; by default nothing."""
    del batch_size
    return ()

  def observe(self, memory: PyTree, x: Array, mask: Array) -> tuple[PyTree, PyTree]:
    """Computes all that is a function of observations alone, for all steps at once.

    Args:
      memory: of the steps before the first of these.
      x: [B, T, *event].
      mask: bool [B, T].

    Returns:
      The memory after the last step; and `seen`, arrays [B, T, ...], which at t may depend on
      x_<=t. By default this is x itself.
    """
    del mask
    return memory, x

  def evidence(self, seen: PyTree) -> PyTree:
    """Returns what the posterior is shown of observations, [B, T, ...]; by default all of it."""
    return seen

  def history(self, state: PyTree) -> PyTree | None:
    """Returns what the posterior is shown of earlier latent variables; None shows nothing."""
    del state

  def skip(self, state: PyTree, seen_t: PyTree) -> PyTree:
    """Returns the state after a step that is only given; by default it doesn't move."""
    del seen_t
    return state

  @property
  def prior_log_scale_bounds(self) -> tuple[float, float] | None:
    """Returns the least and the greatest log-scale of the prior, or None without bounds."""
    return None

  # ---- what follows -----------------------------------------------------------------------------

  @property
  def latent_size(self) -> int:
    """Z, the number of latent variables of a step."""
    return math.prod(self.latent_shape)

  def as_map(self, z: Array) -> Array:
    """Returns latent variables [..., Z] as [..., *latent_shape]."""
    return z.reshape(*z.shape[:-1], *self.latent_shape)

  @property
  def num_context(self) -> int:
    """See base class."""
    return self.given

  @property
  def min_context(self) -> int:
    """See base class."""
    return self.given

  @property
  def has_prior_chain(self) -> bool:
    """Returns whether the prior sees a state of its own, which draws of priors decide."""
    return self.prior_conditioning == PRIOR_CHAIN

  @property
  def bound(self) -> str:
    """See base class."""
    return PRIOR_CHAIN_ELBO if self.has_prior_chain else 'elbo'

  @property
  def normal_on_data(self) -> bool:
    """Whether the likelihood is normal."""
    return self.likelihood.is_normal

  @property
  def measure(self) -> str:
    """Returns the measure of the likelihood."""
    return self.likelihood.measure

  @property
  def sees_future(self) -> bool:
    """Returns whether the inference procedure smooths."""
    return self.inference.sees_future

  def initial_state(self, batch_size: int) -> FilterState:
    """See base class."""
    latent = self.initial(batch_size)
    return FilterState(
      latent,
      self.inference.initial_state(batch_size),
      self.initial_memory(batch_size),
      jnp.zeros(batch_size, jnp.int32),
      latent if self.has_prior_chain else (),
    )

  def sequence_terms(self, x: Array, mask: Array) -> StepTerms:
    """See base class; only what depends on earlier draws runs in a scan."""
    return filtering.score(self, self.initial_state(x.shape[0]), x, mask)[1]

  def continued_state(self, state: FilterState, new: Array) -> FilterState:
    """Returns the state that streams go on from, through which no gradient goes back.

    Args:
      state: after the steps before.
      new: bool [B], rows that begin anew.
    """

    def choose(first, old):
      return jnp.where(new.reshape(-1, *(1,) * (old.ndim - 1)), first, jax.lax.stop_gradient(old))

    return jax.tree.map(choose, self.initial_state(len(new)), state)

  def continued_terms(
    self, x: Array, mask: Array, stream: tuple[FilterState, Array]
  ) -> tuple[FilterState, StepTerms]:
    """Scores x [B, T, *event] of streams: each row goes on where the state says, or begins anew.

    Args:
      x: the observations.
      mask: bool [B, T].
      stream: arguments of `continued_state`.

    Returns:
      The state after the last step, and terms as `__call__` gives them.
    """
    x, mask = self.without_padding(x, mask)
    state, terms = filtering.score(self, self.continued_state(*stream), x, mask)
    return state, terms.masked(mask)

  def step(
    self, state: FilterState, x_t: Array, mask_t: Array | None = None
  ) -> tuple[FilterState, StepTerms]:
    """See base class."""
    mask_t = jnp.ones(x_t.shape[:1], bool) if mask_t is None else mask_t
    state, terms = filtering.score(self, state, x_t[:, None], mask_t[:, None])
    return state, filtering.at_step(terms, 0)

  def prepare(self, x: Array, mask: Array) -> Prepared:
    """See base class; sequences are taken from their first step on."""
    return filtering.prepare(self, self.initial_state(x.shape[0]), x, mask)[1]

  def advance(self, state: FilterState, prepared_t: Prepared) -> tuple[FilterState, StepTerms]:
    """See base class; what `prepare` went through, such as the memory, stays as it is."""
    prepared = jax.tree.map(lambda value: value[:, None], prepared_t)
    state, filtered = filtering.run(self, state, prepared)
    return state, filtering.at_step(filtering.terms(self, filtered, prepared), 0)

  def condition(self, context: Array) -> FilterState:
    """See base class; nothing is decoded."""
    state = self.initial_state(context.shape[0])
    if not context.shape[1]:
      return state
    state, prepared = filtering.prepare(self, state, context, jnp.ones(context.shape[:2], bool))
    return filtering.run(self, state, prepared)[0]

  def predict(
    self, state: FilterState, temperature: Temperature = 1.0, limit: Limit | None = None
  ) -> tuple[FilterState, Array]:
    """Draws z_t from the prior and x_t given it; see base class.

    Where the prior has a chain, z_t is that of the chain, too.
    """
    of_latent, of_observed = temperature if isinstance(temperature, tuple) else (temperature,) * 2
    batch_size = state.count.shape[0]
    everywhere = jnp.ones((batch_size, 1), bool)
    # x_t isn't there yet. Whoever used it before it is drawn would draw what is no number.
    unknown = jnp.full((batch_size, 1, *self.event_shape), jnp.nan)
    seen_t = filtering.at_step(self.observe(state.memory, unknown, everywhere)[1], 0)
    prior = self.prior(state.chain if self.has_prior_chain else state.latent, seen_t)
    z_key, x_key = jax.random.split(self.make_rng('sample'))
    z_t = prior.sample(jax.random.normal(z_key, prior.loc.shape), of_latent)
    features = self.emission(state.latent, z_t, seen_t, everywhere[:, 0])
    x_t = self.likelihood.sample(features, x_key, of_observed)
    x_t = limit(x_t) if limit else x_t
    memory, seen = self.observe(state.memory, self.inputs(x_t[:, None]), everywhere)
    seen_t = filtering.at_step(seen, 0)
    latent = self.transition(state.latent, z_t, seen_t)
    chain = self.transition(state.chain, z_t, seen_t) if self.has_prior_chain else ()
    return FilterState(latent, state.inference, memory, state.count + 1, chain), x_t

  def inputs(self, x: Array) -> Array:
    """Returns observations as everything but the likelihood sees them."""
    if not self.clean_inputs:
      return x
    return jnp.clip(jnp.floor(x * LEVELS), 0, LEVELS - 1) / LEVELS
