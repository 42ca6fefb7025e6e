"""VideoFlow: a multi-scale flow of every frame, with a prior over its latents through time.

Kumar et al. 2020 (arXiv 1903.01434): x_t ⇄ (z_t^1, ..., z_t^L) by Glow, and
p(z_t | z_<t) = Π_l p(z_t^l | z_<t^l, z_t^{>l}). Nothing is recurrent: all frames are encoded at
once, and all steps are scored at once.
"""

import jax.numpy as jnp

from afslvm.flows.glow import Encoded, Glow
from afslvm.flows.temporal import select
from afslvm.models.base import Limit, SequenceModel, StepTerms
from afslvm.models.filtering import normal_noise
from afslvm.models.level_priors import LevelPrior, LevelState
from afslvm.types import Array, Temperature

VideoFlowState = tuple[LevelState, ...]  # what each level remembers between steps, finest first


class VideoFlow(SequenceModel):
  """p(x_t | x_<t) = Π_l p(z_t^l | z_<t^l, z_t^{>l}) |det dz_t / dx_t|, exactly.

  With window 0 frames are independent of each other, and this is Glow. Frames are conditioned on
  with their noise, as they are scored.

  Attributes:
    glow: the map between frames and latents.
    priors: of the levels, finest first, with one window and one boundary.
  """

  glow: Glow
  priors: tuple[LevelPrior, ...]

  @property
  def window(self) -> int:
    """Past steps that the priors see."""
    return self.priors[0].window

  @property
  def num_context(self) -> int:
    """Returns the window."""
    return self.window

  @property
  def min_context(self) -> int:
    """A `context` boundary needs its window filled before it can draw."""
    return self.priors[0].skipped

  # ---- all steps at once ------------------------------------------------------------------------

  def sequence_terms(self, x: Array, mask: Array) -> StepTerms:
    """See base class.

    Raises:
      ValueError: no step is left to score.
    """
    skipped = self.min_context
    if x.shape[1] <= self.window and (skipped or self.is_initializing()):
      raise ValueError(
        f'sequences of {x.shape[1]} steps leave nothing to score after a window of {self.window}; '
        'use longer ones'
      )
    encoded = self._encode(x, mask)
    log_det = -encoded.log_det[:, skipped:]
    log_likelihood = jnp.zeros_like(log_det)
    of_levels = []
    for prior, z, above in zip(self.priors, encoded.latents, encoded.above, strict=True):
      predicted = prior.sequence(z, above, mask)
      of_levels.append(jnp.sum(predicted.log_prob(z[:, skipped:]), axis=(2, 3, 4)))
      log_likelihood = log_likelihood + of_levels[-1]
    self._show(encoded, of_levels, mask)
    terms = StepTerms(
      log_likelihood, jnp.zeros_like(log_det), log_det, jnp.ones(log_det.shape, bool)
    )
    return terms.padded_front(skipped)

  def _encode(self, x: Array, mask: Array | None = None) -> Encoded:
    """Encodes every frame of [B, T, *event]; all arrays are [B, T, ...]."""
    batch_and_steps = x.shape[:2]
    flat_mask = None if mask is None else mask.reshape(-1)
    flat = self.glow.encode(x.reshape(-1, *x.shape[2:]), mask=flat_mask)

    def unflat(values: Array | None) -> Array | None:
      return None if values is None else values.reshape(*batch_and_steps, *values.shape[1:])

    return Encoded(
      tuple(unflat(z) for z in flat.latents),
      tuple(unflat(above) for above in flat.above),
      unflat(flat.log_det),
      unflat(flat.saturation),
    )

  def latents(self, x: Array) -> tuple[Array, ...]:
    """Returns the latents of each level of x [B, T, *event], [B, T, h, w, c], finest first."""
    return self._encode(x).latents

  def decode(self, latents: tuple[Array, ...]) -> Array:
    """Returns the frames [B, T, *event] of latents as `latents` returns them."""
    batch_and_steps = latents[0].shape[:2]
    flat = tuple(z.reshape(-1, *z.shape[2:]) for z in latents)
    frames = self.glow.decode(lambda level, _: flat[level])
    return frames.reshape(*batch_and_steps, *self.event_shape)

  # ---- step by step -----------------------------------------------------------------------------

  def initial_state(self, batch_size: int) -> VideoFlowState:
    """See base class."""
    return tuple(prior.empty(batch_size) for prior in self.priors)

  def condition(self, context: Array) -> VideoFlowState:
    """See base class; all frames of the context are encoded at once."""
    state = self.initial_state(len(context))
    if not context.shape[1]:
      return state
    latents = self._encode(context).latents
    return self._scan(lambda model, state, z_t: (model._push(state, z_t), ()), state, latents)[0]

  def step(
    self, state: VideoFlowState, x_t: Array, mask_t: Array | None = None
  ) -> tuple[VideoFlowState, StepTerms]:
    """See base class; with a `context` boundary the first steps are not scored."""
    encoded = self.glow.encode(x_t, mask=mask_t)
    log_likelihood = jnp.zeros(len(x_t))
    for prior, level, z_t, above in zip(
      self.priors, state, encoded.latents, encoded.above, strict=True
    ):
      log_prob = prior.distribution(level, above).log_prob(z_t)
      log_likelihood = log_likelihood + jnp.sum(log_prob, axis=(1, 2, 3))
    scored = state[0].count >= self.min_context
    terms = StepTerms(log_likelihood, jnp.zeros(len(x_t)), -encoded.log_det, scored)
    return self._push(state, encoded.latents), terms.masked(scored)

  def predict(
    self, state: VideoFlowState, temperature: Temperature = 1.0, limit: Limit | None = None
  ) -> tuple[VideoFlowState, Array]:
    """Draws the latents from the top level down, and decodes them.

    What follows is conditioned on the drawn latents; or, where `limit` changes a frame, on those of
    the changed one.
    """
    temperature = temperature[1] if isinstance(temperature, tuple) else temperature
    drawn: dict[int, Array] = {}

    def draw(level: int, above: Array | None) -> Array:
      prior = self.priors[level].distribution(state[level], above)
      noise = normal_noise(self, f'level_{level}', prior.loc.shape)
      drawn[level] = prior.sample(noise, temperature)
      return drawn[level]

    x_t = self.glow.decode(draw)
    latents = tuple(drawn[level] for level in range(self.glow.levels))
    if limit is not None:
      limited = limit(x_t)
      changed = jnp.any(limited != x_t, axis=(1, 2, 3))
      again = self.glow.encode(limited).latents
      latents = tuple(select(changed, new, z) for new, z in zip(again, latents, strict=True))
      x_t = limited
    return self._push(state, latents), x_t

  def _push(self, state: VideoFlowState, latents: tuple[Array, ...]) -> VideoFlowState:
    levels = zip(self.priors, state, latents, strict=True)
    return tuple(prior.push(level, z_t) for prior, level, z_t in levels)

  # ---- what is shown ----------------------------------------------------------------------------

  def _show(self, encoded: Encoded, of_levels: list[Array], mask: Array):
    """Sows numbers about levels, and the frames that temperature 0 draws, if they are asked for."""
    if self.is_initializing():
      return
    skipped = self.min_context
    if self.is_mutable_collection('diagnostics'):
      self.sow('diagnostics', 'saturation', encoded.saturation[:, skipped:])
      for level, (prior, z) in enumerate(zip(self.priors, encoded.latents, strict=True)):
        u = prior.in_frame(z, prior.moved(z, mask))
        shown = {'log_prob': of_levels[level], 'z': z[:, skipped:], 'u': u[:, skipped:]}
        for name, value in shown.items():
          self.sow('diagnostics', f'{name}_of_level_{level}', value)
    if self.is_mutable_collection('visuals'):
      self.sow('visuals', 'prediction', self._predictions(encoded, mask))

  def _predictions(self, encoded: Encoded, mask: Array) -> Array:
    """Returns the frame that temperature 0 draws at each step, given the true frames before it.

    Returns:
      [B, T - min_context, *event].
    """
    batch, skipped = len(mask), self.min_context

    def draw(level: int, above: Array | None) -> Array:
      if above is not None:
        above = above.reshape(batch, -1, *above.shape[1:])
        above = jnp.pad(above, [(0, 0), (skipped, 0), *[(0, 0)] * 3])
      means = self.priors[level].sequence(encoded.latents[level], above, mask).loc
      return means.reshape(-1, *means.shape[2:])

    frames = self.glow.decode(draw)
    return frames.reshape(batch, -1, *self.event_shape)
