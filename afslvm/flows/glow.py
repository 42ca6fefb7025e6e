"""Glow: a multi-scale map of frames to latent maps, without a density of its own.

Kingma & Dhariwal 2018. `inverse` and `encode` go from frames to latents, `forward` and `decode`
from latents to frames. What the latents of a level are distributed like is the business of whoever
uses it: VideoFlow's priors, or a conditional likelihood.
"""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg

from afslvm.networks.glow import ACTIVATIONS, GlowStack
from afslvm.networks.normalization import FLOW_FLOOR, ActNorm
from afslvm.transforms import affine, linear, reshape, spline
from afslvm.transforms.chain import Transform
from afslvm.types import Array, EventShape, PyTree

COUPLINGS = ('affine', 'additive', 'spline')
PERMUTATIONS = ('plu', 'fixed', 'reverse')
BOUNDS = ('glow', 'jet', 'symmetric', 'soft', 'realnvp', 'realnvp_zero')
SYMMETRIC_LIMIT = 2.0
LIMITS = {'symmetric': SYMMETRIC_LIMIT, 'soft': 2.5}  # of the bounds that have two ends

# (level, what the coarser levels show of it) -> latents of the level.
Draw = Callable[[int, Array | None], Array]


class Encoded(NamedTuple):
  """What `Glow.encode` makes of N frames; levels are counted from the finest one."""

  latents: tuple[Array, ...]  # [N, h_l, w_l, c_l]
  above: tuple[Array | None, ...]  # what coarser levels are made of, [N, h_l, w_l, c_l']; top None
  log_det: Array  # [N], log |det d latents / d x| in nats
  saturation: Array  # [N], the share of couplings' log-scales at a bound


class InvertibleLinear(nn.Module):
  """A linear map of channels at every pixel, or a permutation of them.

  Attributes:
    kind: `plu`, a matrix by its factors that begins as a random rotation (Glow, Section 3.2);
      `fixed`, a random permutation; `reverse`, which puts the last channel first.
  """

  kind: str = 'plu'

  def inverse(self, x: Array, constants: PyTree) -> tuple[Array, Array]:
    """Returns y [N, h, w, C] of x, and log|det dy/dx| [N]; `constants` are of `constants_of`."""
    if self.kind != 'plu':
      return jnp.take(x, constants['order'], axis=-1), jnp.zeros(len(x))
    return linear.inverse(x, *linear.plu(*self._factors(constants)))

  def forward(self, y: Array, constants: PyTree) -> tuple[Array, Array]:
    """Returns x of y, and log|det dx/dy| [N]."""
    if self.kind != 'plu':
      return jnp.take(y, jnp.argsort(constants['order']), axis=-1), jnp.zeros(len(y))
    return linear.forward(y, *linear.plu_inverse(*self._factors(constants)))

  @nn.compact
  def _factors(self, constants: PyTree) -> tuple[Array, Array, Array]:
    factors = self.param('factors', lambda _: constants['factors'])
    return factors, constants['permutation'], constants['sign']


def constants_of(kind: str, channels: int, level: int, depth: int) -> dict[str, np.ndarray]:
  """Returns what steps don't learn, one for each of `depth` steps along the first axis.

  They are functions of the arguments alone, so that they need not be in a checkpoint: P, the sign
  of s and the factors that `plu` begins with, or the order of the channels.
  """
  # Numbers of a `RandomState` never change with NumPy's version, those of a `Generator` may.
  rngs = [np.random.RandomState([level, step, channels]) for step in range(depth)]
  if kind == 'reverse':
    return {'order': np.tile(np.arange(channels)[::-1], (depth, 1))}
  if kind == 'fixed':
    return {'order': np.stack([rng.permutation(channels) for rng in rngs])}
  factored = [_factored_rotation(rng, channels) for rng in rngs]
  return {name: np.stack([f[name] for f in factored]).astype(np.float32) for name in factored[0]}


def _factored_rotation(rng: np.random.RandomState, channels: int) -> dict[str, np.ndarray]:
  """Returns the factors of a random orthogonal matrix; see `transforms.linear.plu`."""
  rotation = np.linalg.qr(rng.standard_normal((channels, channels)))[0]
  permutation, lower, upper = scipy.linalg.lu(rotation)
  diagonal = np.diag(upper)
  factors = np.tril(lower, -1) + np.triu(upper, 1) + np.diag(np.log(np.abs(diagonal)))
  return {'permutation': permutation, 'sign': np.sign(diagonal), 'factors': factors}


class Coupling(nn.Module):
  """The second half of the channels is transformed, by what the first half and conditions say.

  Attributes:
    network: from the first half and the condition, side by side, to `num_outputs` channels.
    kind: `affine`; `additive`, which only shifts; or `spline`, a monotone rational-quadratic spline
      of every value (Durkan et al. 2019).
    bound: of the affine log-scale, one of `BOUNDS`. `glow`, of Glow's code, contracts only; `jet`
      is in (0, 2) around one; `symmetric` and `soft` have limits on both sides; `realnvp` is a
      gain, which begins at one, times a hyperbolic tangent, plus an offset. With `realnvp_zero`, as
      in the code of the thesis, the gain begins at zero, where under a network that begins at zero
      no gradient ever moves it: couplings then have one constant scale per channel.
    bins: of a spline.
    spline_bound: values further from zero a spline leaves as they are.
  """

  network: nn.Module
  kind: str = 'affine'
  bound: str = 'glow'
  bins: int = 8
  spline_bound: float = 3.0

  def inverse(
    self, x: Array, condition: Array | None, mask: Array | None = None
  ) -> tuple[Array, Array, Array]:
    """Returns y [N, h, w, C] of x, log|det dy/dx| [N], and the share of saturated scales [N]."""
    kept, moved = reshape.halves(x)
    transform, saturation = self._transform(kept, condition, mask)
    moved, log_det = transform.inverse(moved)
    return reshape.joined(kept, moved), log_det, saturation

  def forward(self, y: Array, condition: Array | None) -> tuple[Array, Array]:
    """Returns x of y, and log|det dx/dy| [N]."""
    kept, moved = reshape.halves(y)
    transform, _ = self._transform(kept, condition, None)
    moved, log_det = transform.forward(moved)
    return reshape.joined(kept, moved), log_det

  def _transform(
    self, kept: Array, condition: Array | None, mask: Array | None
  ) -> tuple[Transform, Array]:
    """Returns the transform of the other half, and the share of its log-scales at a bound [N]."""
    inputs = kept if condition is None else reshape.joined(kept, condition)
    raw, none = self.network(inputs, mask), jnp.zeros(len(kept))
    if self.kind == 'spline':
      raw = raw.reshape(*kept.shape, -1)
      return _with_parameters(spline, raw, self.spline_bound), none
    if self.kind == 'additive':
      return _with_parameters(affine, raw, jnp.zeros_like(raw)), none
    shift, raw = reshape.halves(raw)
    log_scale = self._log_scale(raw)
    return _with_parameters(affine, shift, log_scale), self._saturation(log_scale)

  @nn.compact
  def _log_scale(self, raw: Array) -> Array:
    if self.bound in ('realnvp', 'realnvp_zero'):
      first = nn.initializers.constant(float(self.bound == 'realnvp'))
      gain = self.param('bound_gain', first, raw.shape[-1:])
      offset = self.param('bound_offset', nn.initializers.zeros_init(), raw.shape[-1:])
      return affine.realnvp_bound(raw, gain, offset)
    bounded = {
      'glow': affine.glow_bound,
      'jet': affine.jet_bound,
      'soft': affine.soft_bound,
      'symmetric': lambda raw: affine.symmetric_bound(raw, SYMMETRIC_LIMIT),
    }
    return bounded[self.bound](raw)

  def _saturation(self, log_scale: Array) -> Array:
    limit = LIMITS.get(self.bound)
    if limit is None:
      return jnp.zeros(len(log_scale))
    return jnp.mean(affine.near_bounds(log_scale, -limit, limit), axis=(1, 2, 3))


def num_outputs(kind: str, channels: int, bins: int) -> int:
  """Returns how many channels the network of a coupling of `channels` gives."""
  return channels // 2 * {'additive': 1, 'affine': 2, 'spline': 3 * bins - 1}[kind]


def _with_parameters(transform: Any, *parameters: Any) -> Transform:
  """Returns both directions of a module of `transforms` for maps, with its parameters."""
  return Transform(
    lambda y: transform.forward(y, *parameters, 3), lambda x: transform.inverse(x, *parameters, 3)
  )


class FlowStep(nn.Module):
  """One step of flow: `ActNorm`, a linear map of channels, and a coupling.

  Attributes:
    norm: scales every channel.
    linear: mixes the channels.
    coupling: transforms half of them.
  """

  norm: ActNorm
  linear: InvertibleLinear
  coupling: Coupling

  def inverse(
    self, x: Array, constants: PyTree, condition: Array | None, mask: Array | None
  ) -> tuple[Array, Array, Array]:
    """Returns y [N, h, w, C] of x, log|det dy/dx| [N], and the share of saturated scales [N]."""
    h, log_det = self.norm.inverse(x, mask)
    h, of_linear = self.linear.inverse(h, constants)
    y, of_coupling, saturation = self.coupling.inverse(h, condition, mask)
    return y, log_det + of_linear + of_coupling, saturation

  def forward(self, y: Array, constants: PyTree, condition: Array | None) -> tuple[Array, Array]:
    """Returns x of y, and log|det dx/dy| [N]."""
    h, log_det = self.coupling.forward(y, condition)
    h, of_linear = self.linear.forward(h, constants)
    x, of_norm = self.norm.forward(h)
    return x, log_det + of_linear + of_norm


class Glow(nn.Module):
  """Frames ⇄ latents of several levels, each with half the resolution of the one before.

  A level squeezes 2 x 2 pixels into channels and goes through `depth` steps of flow; but for the
  top, the second half of its channels are its latents and the first half goes on.

  Attributes:
    event_shape: (H, W, C), with sides that 2^levels divides.
    levels: how often the resolution is halved.
    depth: steps of flow at each level.
    width: hidden channels of the couplings' networks.
    coupling: one of `COUPLINGS`.
    bound: of the affine couplings' log-scales, one of `BOUNDS`.
    bins: of spline couplings.
    spline_bound: values further from zero spline couplings leave as they are.
    activation: of the couplings' networks, one of `networks.glow.ACTIVATIONS`.
    edge: whether their 3 x 3 layers have a channel that marks the padding.
    permutation: what mixes channels between couplings, one of `PERMUTATIONS`.
    squeeze: the order of squeezed channels, one of `reshape.SQUEEZES`.
    condition_channels: of the maps at each level's resolution on which its couplings depend; ()
      without conditions.
    unroll: steps in one iteration of the loop over steps; 0 unrolls it wholly on CPU, where
      convolutions in loops are slow, and not at all elsewhere, where it takes long to compile.
    remat: whether gradients compute each step again and keep its input only.
    compute_dtype: of the hidden layers' products. Reduced precision breaks the inverse: a rounded
      network is not continuous.
  """

  event_shape: EventShape
  levels: int = 3
  depth: int = 24
  width: int = 512
  coupling: str = 'affine'
  bound: str = 'glow'
  bins: int = 8
  spline_bound: float = 3.0
  activation: str = 'gated'
  edge: bool = True
  permutation: str = 'plu'
  squeeze: str = 'channels'
  condition_channels: tuple[int, ...] = ()
  unroll: int = 0
  remat: bool = False
  compute_dtype: str = 'float32'

  choices: ClassVar = {
    'coupling': COUPLINGS,
    'bound': BOUNDS,
    'activation': ACTIVATIONS,
    'permutation': PERMUTATIONS,
    'squeeze': reshape.SQUEEZES,
    'compute_dtype': ('float32', 'bfloat16'),
  }
  limits: ClassVar = {
    'levels': (1, None),
    'depth': (0, None),
    'width': (1, None),
    'bins': (2, 100),
    'spline_bound': (0.1, None),
    'unroll': (0, None),
  }

  def setup(self):
    """Declares the steps of each level; their parameters have a first axis [depth]."""
    self.level = [self._step(channels) for channels in self._channels]

  def _step(self, channels: int) -> FlowStep:
    outputs = num_outputs(self.coupling, channels, self.bins)
    network = GlowStack(
      outputs, self.width, self.activation, self.edge, self.compute_dtype, exact=True
    )
    return FlowStep(
      ActNorm(FLOW_FLOOR),
      InvertibleLinear(self.permutation),
      Coupling(network, self.coupling, self.bound, self.bins, self.spline_bound),
    )

  @property
  def _channels(self) -> tuple[int, ...]:
    """The channels that go through the steps of each level."""
    return tuple(self.event_shape[-1] * 2 ** (level + 2) for level in range(self.levels))

  @property
  def latent_shapes(self) -> tuple[EventShape, ...]:
    """The shapes (h_l, w_l, c_l) of the latents, finest level first."""
    height, width, _ = self.event_shape
    return tuple(
      (height >> (level + 1), width >> (level + 1), channels // (2 if self._splits(level) else 1))
      for level, channels in enumerate(self._channels)
    )

  @property
  def above_channels(self) -> tuple[int, ...]:
    """The channels of what coarser levels show of each level; 0 at the top."""
    return tuple(
      channels // 2 if self._splits(level) else 0 for level, channels in enumerate(self._channels)
    )

  def _splits(self, level: int) -> bool:
    return level < self.levels - 1

  def encode(
    self, x: Array, conditions: tuple[Array, ...] | None = None, mask: Array | None = None
  ) -> Encoded:
    """Maps frames to latents.

    Args:
      x: [N, H, W, C].
      conditions: one map for each level, [N, h_l, w_l, condition_channels[l]].
      mask: bool [N], False where a frame doesn't count in data-dependent initial values.
    """
    latents, above, h = [], [], x
    log_det = saturation = jnp.zeros(len(x))
    for level in range(self.levels):
      h = reshape.squeeze(h, self.squeeze)
      h, of_level, saturated = self._inverse(level, h, _at(conditions, level), mask)
      log_det, saturation = log_det + of_level, saturation + saturated / self.levels
      if self._splits(level):
        h, z = reshape.halves(h)
        latents, above = [*latents, z], [*above, h]
    return Encoded((*latents, h), (*above, None), log_det, saturation)

  def decode(self, draw: Draw, conditions: tuple[Array, ...] | None = None) -> Array:
    """Maps latents to frames [N, H, W, C], the top level first.

    Args:
      draw: gives the latents of a level, and is given what the coarser ones show of it.
      conditions: see `encode`.
    """
    h = None
    for level in reversed(range(self.levels)):
      z = draw(level, h)
      h = z if h is None else reshape.joined(h, z)
      h = self._forward(level, h, _at(conditions, level))
      h = reshape.unsqueeze(h, self.squeeze)
    return h

  def _inverse(
    self, level: int, x: Array, condition: Array | None, mask: Array | None
  ) -> tuple[Array, Array, Array]:
    """Goes through all steps of a level, and adds up log-determinants; the saturation is a mean."""

    def step(module: FlowStep, carry: Any, constants: PyTree):
      x, log_det = carry
      x, of_step, saturation = module.inverse(x, constants, condition, mask)
      return (x, log_det + of_step), saturation

    zeros = jnp.zeros(len(x))
    if not self.depth:
      return x, zeros, zeros
    (y, log_det), saturation = self._loop(step, level, (x, zeros), reverse=False)
    return y, log_det, jnp.mean(saturation, axis=0)

  def _forward(self, level: int, y: Array, condition: Array | None) -> Array:
    """Goes back through all steps of a level."""

    def step(module: FlowStep, y: Array, constants: PyTree):
      return module.forward(y, constants, condition)[0], ()

    return self._loop(step, level, y, reverse=True)[0] if self.depth else y

  def _loop(self, step: Any, level: int, carry: PyTree, reverse: bool) -> tuple[PyTree, PyTree]:
    """Applies `step(module, carry, constants)` with the parameters of one step after another."""
    on_cpu = jax.default_backend() == 'cpu'
    loop = nn.scan(
      nn.remat(step, prevent_cse=False) if self.remat else step,
      variable_axes={'params': 0},
      split_rngs={'params': True},
      length=self.depth,
      reverse=reverse,
      unroll=self.unroll or (self.depth if on_cpu else 1),
    )
    constants = constants_of(self.permutation, self._channels[level], level, self.depth)
    return loop(self.level[level], carry, jax.tree.map(jnp.asarray, constants))


def _at(conditions: tuple[Array, ...] | None, level: int) -> Array | None:
  return None if conditions is None else conditions[level]
