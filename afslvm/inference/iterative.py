"""Variational filtering EM and its amortised form, AVF (AVF paper Algorithm 1 and Eq. 13).

The posterior of a step begins at the prior, or where another procedure puts it, and is moved a few
times by what the gradient of the step free energy F_t tells.
"""

from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from afslvm.distributions.normal import Normal
from afslvm.inference.base import Inference, Inferred, StepFreeEnergy
from afslvm.networks import conv
from afslvm.networks.highway import Highway
from afslvm.networks.mlp import dense, join
from afslvm.types import Array, PyTree

UPDATE_RULES = ('highway', 'learned_sgd', 'sgd', 'adam')
ENCODINGS = ('layer_norm', 'log_sign', 'raw')
_NORM_EPSILON = 1e-8  # of the variance: constant vectors become zeros, gradients keep their size


def layer_norm(v: Array) -> Array:
  """Returns (v - mean) / standard deviation over the last axis, without gain or bias (AVF B)."""
  centered = v - jnp.mean(v, axis=-1, keepdims=True)
  variance = jnp.sum(jnp.square(centered), axis=-1, keepdims=True) / max(v.shape[-1] - 1, 1)
  return centered / jnp.sqrt(variance + _NORM_EPSILON)


def log_sign(v: Array, decades: float = 10.0) -> Array:
  """Returns magnitude and sign apart, [..., 2 D] in -1..1 or so (Andrychowicz et al. 2016)."""
  threshold = jnp.exp(-decades)
  large = jnp.abs(v) >= threshold
  magnitude = jnp.log(jnp.where(large, jnp.abs(v), threshold)) / decades
  sign = jnp.where(large, jnp.sign(v), v / threshold)
  return jnp.concatenate([magnitude, sign], axis=-1)


def encode_gradient(v: Array, encoding: str) -> Array:
  """Returns one of `ENCODINGS` of a gradient [B, Z]."""
  return {'layer_norm': layer_norm, 'log_sign': log_sign, 'raw': lambda v: v}[encoding](v)


class UpdateNetwork(nn.Module):
  """f_φ of AVF Eq. 13, from an estimate, its gradient and other inputs to the next estimate."""

  latent_size: int
  features: int
  depth: int
  update_rule: str
  gate_bias: float
  initialization: str
  head_initialization: str

  @nn.compact
  def __call__(self, q: Normal, gradient: Normal, inputs: Array) -> Normal:
    """Maps q and gradient [B, Z] and inputs [B, D] to the next q [B, Z].

    `highway` is the paper's output gate, g λ + (1 - g) δ; `learned_sgd`, of its code, is
    λ - g ∇ + δ.
    """
    h = Highway(self.features, self.depth, self.initialization, name='highway')(inputs)

    def moved(value, slope, name):
      init = self.head_initialization or self.initialization
      head = dense(self.latent_size, init, h.shape[-1], f'{name}_change')
      bias = nn.initializers.constant(self.gate_bias)
      gate = nn.sigmoid(nn.Dense(self.latent_size, bias_init=bias, name=f'{name}_gate')(h))
      if self.update_rule == 'highway':
        return gate * value + (1.0 - gate) * head(h)
      return value - gate * slope + head(h)

    return Normal(
      moved(q.loc, gradient.loc, 'loc'), moved(q.log_scale, gradient.log_scale, 'log_scale')
    )


class Trace(NamedTuple):
  """The inputs of the network before each of n updates, arrays [B, n, ...]."""

  estimates: Normal
  slopes: Normal  # scaled gradients of F_t there
  inputs: Array  # [B, n, D], observation and history aside


class Iterative(Inference):
  """q begins at p(z_t | ...), or where `start` puts it, and is updated `num_iterations` times.

  The gradients are exact derivatives of estimates of F_t, each with noise of its own, as in the
  paper's code. z_t is drawn with fresh noise; otherwise q would depend on the noise of its own draw
  and the ELBO would not be a bound.

  Attributes:
    start: where q begins; None is the prior (Algorithm 1, line 4). Its encoder is then this one's.
    num_iterations: updates; evaluation may use another number than training, and with 0 q stays
      where it began.
    update_rule: `highway` and `learned_sgd` are amortised (AVF Eq. 13); `sgd` and `adam` have no
      parameters and make this variational filtering EM.
    gradient_encoding: what the network sees of the gradients, one of `ENCODINGS`.
    estimates: it also sees the current mean and log-scale, each layer-normalised.
    errors: it also sees precision-weighted errors of observation and of latent variable.
    observation: it also sees the encoded observation and the history.
    num_draws: noise draws of each estimate of F_t (paper: 1).
    features: width of the network's layers (paper: 1,024).
    depth: number of its layers (paper: 2; its code's SVG: 1).
    gate_bias: of its gates; above 0 a fresh `highway` moves little.
    normalize_mean: layer-normalises the mean after each update (paper B: more stable).
    step_size: of `sgd` and `adam`.
    gradient_scale: of the gradient in `learned_sgd` and `raw`; the paper's code has 1 / batch size.
    second_order: the network's inputs are differentiated too in training by `bptt`; without it the
      gradient of the bound lacks that part and costs less.
    log_scale_low: least log-scale of z.
    log_scale_high: greatest log-scale of z.
    initialization: of the linear layers, one of `conv.INITIALIZATIONS` (paper's code: 'xavier').
    head_initialization: of those that give the changes δ; '' is the same (paper's code). With
      'small' a fresh network leaves of q what its gates let through, half of it without a bias,
      instead of moving it far from where it began.
  """

  start: Inference | None = None
  num_iterations: int = 1
  update_rule: str = 'highway'
  gradient_encoding: str = 'layer_norm'
  estimates: bool = True
  errors: bool = False
  observation: bool = False
  num_draws: int = 1
  features: int = 1024
  depth: int = 2
  gate_bias: float = 0.0
  normalize_mean: bool = False
  step_size: float = 0.1
  gradient_scale: float = 1.0
  second_order: bool = True
  log_scale_low: float = -7.5
  log_scale_high: float = 2.5
  initialization: str = 'xavier'
  head_initialization: str = 'small'

  choices: ClassVar[dict[str, Any]] = {
    'update_rule': UPDATE_RULES,
    'gradient_encoding': ENCODINGS,
    'initialization': conv.INITIALIZATIONS,
    'head_initialization': ('', *conv.INITIALIZATIONS),
  }
  limits: ClassVar[dict[str, Any]] = {
    **Inference.limits,
    'num_iterations': (0, 1000),
    'num_draws': (1, None),
    'features': (1, None),
    'depth': (1, None),
    'step_size': (0.0, None),
    'gradient_scale': (0.0, None),
  }

  def setup(self):
    """Declares the network, where there is one."""
    if self.amortized:
      self.network = UpdateNetwork(
        self.latent_size,
        self.features,
        self.depth,
        self.update_rule,
        self.gate_bias,
        self.initialization,
        self.head_initialization,
      )

  @property
  def amortized(self) -> bool:
    """Whether the update is learned."""
    return self.update_rule in ('highway', 'learned_sgd')

  @property
  def sees_future(self) -> bool:
    """Returns whether its own encoder or that of `start` smooths."""
    return self.backward is not None or (self.start is not None and self.start.sees_future)

  @property
  def noise_shape(self) -> tuple[int, int]:
    """See base class."""
    return self.num_iterations, self.num_draws

  @property
  def num_trained(self) -> int:
    """See base class."""
    begun = 0 if self.start is None else self.start.num_trained
    return begun + (self.num_iterations if self.amortized else 0)

  @property
  def log_scale_bounds(self) -> tuple[float, float]:
    """See base class."""
    return self.log_scale_low, self.log_scale_high

  def encode(self, evidence: PyTree, mask: Array) -> PyTree:
    """See base class; returns () where neither the network nor `start` sees observations."""
    if self.start is not None:
      return self.start.encode(evidence, mask)
    return super().encode(evidence, mask) if self.observation else ()

  def initial_state(self, batch_size: int) -> PyTree:
    """See base class."""
    return () if self.start is None else self.start.initial_state(batch_size)

  def infer(
    self,
    state: PyTree,
    encoded: PyTree,
    history: PyTree | None,
    prior: Normal,
    free_energy: StepFreeEnergy | None = None,
  ) -> Inferred:
    """See base class (Algorithm 1, lines 4-6)."""
    q = prior
    if self.start is not None:
      state, q, _ = self.start.infer(state, encoded, history, prior)
    assert free_energy is not None
    if self.is_initializing() and self.amortized:
      # Variables can't be created inside a loop; they are the same for any number of iterations.
      self._update(*self._seen(q, free_energy, prior, 0), encoded, history)
    if self.is_initializing() or not self.num_iterations:
      return Inferred(state, q)
    return Inferred(state, *self._iterate(q, encoded, history, prior, free_energy))

  def _iterate(
    self,
    q: Normal,
    encoded: PyTree,
    history: PyTree | None,
    prior: Normal,
    free_energy: StepFreeEnergy,
  ) -> tuple[Normal, Trace]:
    """Returns q after all updates (Algorithm 1, line 6), and what each of them was given."""
    module, variables = self.unbind()  # so that a loop can call the network
    optimizer = optax.identity() if self.amortized else self._optimizer()

    def iteration(i, carry):
      q, memory, trace = carry
      seen = self._seen(q, free_energy, prior, i)
      if self.amortized:
        arguments = (*seen, encoded, history)
        moved = module.apply(variables, *arguments, method=Iterative._update)
      else:
        changes, memory = optimizer.update(seen.slopes, memory, q)
        moved = self._bounded(optax.apply_updates(q, changes))
      given = jax.lax.stop_gradient(seen)
      trace = jax.tree.map(lambda values, value: values.at[:, i].set(value), trace, given)
      return moved, memory, trace

    shapes = jax.eval_shape(lambda: self._seen(q, free_energy, prior, 0))
    count = self.num_iterations
    trace = jax.tree.map(lambda v: jnp.zeros((v.shape[0], count, *v.shape[1:])), shapes)
    q, _, trace = jax.lax.fori_loop(0, count, iteration, (q, optimizer.init(q), trace))
    return q, trace

  def _seen(self, q: Normal, free_energy: StepFreeEnergy, prior: Normal, i: Array | int) -> Trace:
    """Returns what the i-th update is given: q, slopes [B, Z] of F_t there, and inputs [B, D]."""
    slope = free_energy.gradient(q, i)
    if self.amortized:
      slope = jax.tree.map(lambda g: self.gradient_scale * g, slope)
    parts = [encode_gradient(v, self.gradient_encoding) for v in (slope.loc, slope.log_scale)]
    if self.estimates:
      parts += [layer_norm(q.loc), layer_norm(q.log_scale)]
    if self.errors:  # of x and of z (Marino et al. 2018)
      observed = free_energy.errors(q, i)
      latent = (q.loc - prior.loc) * jnp.exp(-2.0 * prior.log_scale)
      parts += [layer_norm(observed.reshape(len(observed), -1)), layer_norm(latent)]
    hold = (lambda value: value) if self.second_order else jax.lax.stop_gradient
    slope, inputs = hold((slope, join(parts)))
    return Trace(q, slope, inputs)

  def _update(
    self, q: Normal, slope: Normal, inputs: Array, encoded: PyTree, history: PyTree | None
  ) -> Normal:
    """Returns what the network makes of an estimate (Eq. 13); arrays are [B, ...]."""
    if self.observation:
      shown = [v.reshape(len(v), -1) for v in jax.tree.leaves((encoded, history))]
      inputs = join([inputs, *shown])
    return self._bounded(self.network(q, slope, inputs))

  def trained_estimates(
    self,
    state: PyTree,
    encoded: PyTree,
    history: PyTree | None,
    prior: Normal,
    trace: PyTree,
  ) -> list[Normal]:
    """See base class: where q began, if a network said so, and each amortised update."""
    found = []
    if self.start is not None:
      found.append(self.start.infer(state, encoded, history, prior).posterior)
    if self.amortized:
      given = [_at(trace, i) for i in range(self.num_iterations)]
      found += [self._update(*seen, encoded, history) for seen in given]
    return found

  def all_estimates(self, trace: PyTree, posterior: Normal) -> list[Normal]:
    """See base class."""
    before = [_at(trace.estimates, i) for i in range(self.num_iterations)]
    return [*before, posterior]

  def _optimizer(self) -> optax.GradientTransformation:
    """Returns the optimiser of the un-amortised updates."""
    if self.update_rule == 'sgd':
      return optax.sgd(self.step_size)
    # Training differentiates the update, whose square root has no slope at a gradient of zero.
    return optax.adam(self.step_size, eps_root=1e-8)

  def _bounded(self, q: Normal) -> Normal:
    """Returns q with its log-scales clipped, and its mean normalised if that is wanted."""
    log_scale = jnp.clip(q.log_scale, self.log_scale_low, self.log_scale_high)
    return Normal(layer_norm(q.loc) if self.normalize_mean else q.loc, log_scale)


def _at(trace: PyTree, i: int) -> PyTree:
  """Returns what a trace holds of the i-th update."""
  return jax.tree.map(lambda value: value[:, i], trace)
