"""Variational filtering EM and its amortised form, AVF (AVF paper Algorithm 1 and Eq. 13).

The posterior of a step begins at the prior, or where another procedure puts it, and is moved a few
times by what the gradient of the step free energy F_t tells.
"""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from afslvm.distributions.normal import Normal
from afslvm.inference.base import (
  Inference,
  Inferred,
  StepFreeEnergy,
  Trail,
  local_objective,
)
from afslvm.networks import conv
from afslvm.networks.highway import Highway
from afslvm.networks.mlp import dense
from afslvm.types import Array, PyTree

UPDATE_RULES = ('highway', 'learned_sgd', 'sgd', 'adam')
ENCODINGS = ('layer_norm', 'log_sign', 'raw')
_NORM_EPSILON = 1e-8  # of the variance: constant vectors become zeros, gradients keep their size


def layer_norm(v: Array) -> Array:
  """(v - mean) / standard deviation over the last axis, without gain and bias (AVF paper B)."""
  centered = v - jnp.mean(v, axis=-1, keepdims=True)
  variance = jnp.sum(jnp.square(centered), axis=-1, keepdims=True) / max(v.shape[-1] - 1, 1)
  return centered / jnp.sqrt(variance + _NORM_EPSILON)


def log_sign(v: Array, decades: float = 10.0) -> Array:
  """Magnitude and sign apart, [..., 2 D] in -1..1 or so (Andrychowicz et al. 2016)."""
  threshold = jnp.exp(-decades)
  large = jnp.abs(v) >= threshold
  magnitude = jnp.log(jnp.where(large, jnp.abs(v), threshold)) / decades
  sign = jnp.where(large, jnp.sign(v), v / threshold)
  return jnp.concatenate([magnitude, sign], axis=-1)


def encode_gradient(v: Array, encoding: str) -> Array:
  """One of `ENCODINGS` of a gradient [B, Z]."""
  return {'layer_norm': layer_norm, 'log_sign': log_sign, 'raw': lambda v: v}[encoding](v)


class UpdateNetwork(nn.Module):
  """f_φ of AVF Eq. 13: from estimates, gradients and what else is seen to the next estimates."""

  latent_size: int
  features: int
  depth: int
  update_rule: str
  gate_bias: float
  initialization: str

  @nn.compact
  def __call__(self, q: Normal, gradient: Normal, inputs: Array) -> Normal:
    """q and gradient [B, Z], inputs [B, D] -> q [B, Z].

    `highway` is the paper's output gate, g λ + (1 - g) δ; `learned_sgd`, of its code, is
    λ - g ∇ + δ.
    """
    h = Highway(self.features, self.depth, self.initialization, name='highway')(inputs)

    def moved(value, slope, name):
      head = dense(self.latent_size, self.initialization, h.shape[-1], f'{name}_change')
      bias = nn.initializers.constant(self.gate_bias)
      gate = nn.sigmoid(nn.Dense(self.latent_size, bias_init=bias, name=f'{name}_gate')(h))
      if self.update_rule == 'highway':
        return gate * value + (1.0 - gate) * head(h)
      return value - gate * slope + head(h)

    return Normal(
      moved(q.loc, gradient.loc, 'loc'), moved(q.log_scale, gradient.log_scale, 'log_scale')
    )


class Iterative(Inference):
  """q begins at p(z_t | ...), or where `start` puts it, and is updated `num_iterations` times.

  The gradients are exact derivatives of estimates of F_t, each with noise of its own, as in the
  paper's code: scored with the noise that its gradient told, an update would learn to fit that
  noise. So has the draw that goes on to the model, for a posterior that has seen its own noise
  would not be the density of its draw, and the bound no bound.

  Attributes:
    start: where q begins; None is the prior (Algorithm 1, line 4). Its encoder is then this one's.
    num_iterations: may be another one in evaluation than in training; with 0 q stays where it was.
    update_rule: `highway` and `learned_sgd` are amortised (AVF Eq. 13); `sgd` and `adam` have no
      parameters and make this variational filtering EM.
    gradient_encoding: what the network sees of the gradients, one of `ENCODINGS`.
    estimates: it also sees the current mean and log-scale, each layer-normalised.
    errors: it also sees precision-weighted errors of observation and of latent variable.
    observation: it also sees the encoded observation and the model's context.
    num_draws: noise draws of the estimate of F_t (paper: 1).
    features: width of the network's layers (paper: 1,024).
    depth: its layers (paper: 2; its code's SVG: 1).
    gate_bias: of its gates; above 0 a fresh `highway` moves little.
    normalize_mean: layer-normalises the mean after each update (paper B: more stable).
    step_size: of `sgd` and `adam`.
    gradient_scale: of the gradient in `learned_sgd` and `raw`; the paper's code has 1 / batch size.
    second_order: the network's inputs are differentiated too in training, which `em` never does;
      without it the gradient of the bound lacks that part and costs less.
    log_scale_low: least log-scale of z.
    log_scale_high: greatest log-scale of z.
    initialization: of the linear layers, one of `conv.INITIALIZATIONS` (paper's code: 'xavier').
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

  uses_free_energy: ClassVar = True
  choices: ClassVar = {
    **Inference.choices,
    'update_rule': UPDATE_RULES,
    'gradient_encoding': ENCODINGS,
    'initialization': conv.INITIALIZATIONS,
  }
  limits: ClassVar = {
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
    super().setup()
    if self.amortized:
      self.network = UpdateNetwork(
        *(self.latent_size, self.features, self.depth, self.update_rule),
        *(self.gate_bias, self.initialization),
      )

  @property
  def amortized(self) -> bool:
    """Whether the update is learned."""
    return self.update_rule in ('highway', 'learned_sgd')

  @property
  def sees_future(self) -> bool:
    """Whether it, or what it begins at, smooths."""
    return self.smoothing > 0 or (self.start is not None and self.start.sees_future)

  @property
  def noise_shape(self) -> tuple[int, int]:
    """See base class."""
    return self.num_iterations + 1, self.num_draws

  def encode(self, evidence: Array, mask: Array) -> Array:
    """See base class; nothing, where nobody looks at it."""
    if self.start is not None:
      return self.start.encode(evidence, mask)
    if self.observation:
      return super().encode(evidence, mask)
    return jnp.zeros((*mask.shape, 0), evidence.dtype)

  def initial_state(self, batch_size: int) -> PyTree:
    """See base class."""
    return () if self.start is None else self.start.initial_state(batch_size)

  def infer(
    self,
    state: PyTree,
    observed: Array,
    context: Array,
    prior: Normal,
    free_energy: StepFreeEnergy | None = None,
  ) -> Inferred:
    """See base class."""
    q = prior
    if self.start is not None:
      state, q, *_ = self.start.infer(state, observed, context, prior)
    if self.is_initializing():
      if self.amortized:  # variables can't be created inside a loop
        zeros = jax.tree.map(jnp.zeros_like, q)
        inputs = self._own_inputs(q, zeros, prior, free_energy)
        self.network(q, zeros, self._with_seen(inputs, observed, context))
      return Inferred(state, q)
    assert free_energy is not None
    return self._iterate(Inferred(state, q), observed, context, prior, free_energy)

  def _iterate(
    self,
    begun: Inferred,
    observed: Array,
    context: Array,
    prior: Normal,
    free_energy: StepFreeEnergy,
  ) -> Inferred:
    """Algorithm 1, line 6."""
    local, first, count = free_energy.local, begun.posterior, self.num_iterations
    hold = jax.lax.stop_gradient if local or not self.second_order else lambda value: value
    update, optimizer = self._update_function(hold=local), self._optimizer()
    if local:  # all that is learned from the iterations is learned in `replay`
      observed, context = hold(observed), hold(context)

    def iteration(i, carry):
      q, memory, records = carry
      energy, slope = free_energy.gradient(q, i)
      slope = hold(slope)
      if self.amortized:
        scaled = jax.tree.map(lambda g: self.gradient_scale * g, slope)
        inputs = hold(self._own_inputs(q, scaled, prior, free_energy, i))
        moved = update(q, scaled, self._with_seen(inputs, observed, context))
        seen = (q, scaled, inputs) if local else ()
      else:
        changes, memory = optimizer.update(slope, memory, q)
        moved, seen = optax.apply_updates(q, changes), ()
      now = jax.lax.stop_gradient((energy, slope, seen))
      records = jax.tree.map(lambda record, value: record.at[:, i].set(value), records, now)
      return self._bounded(moved), memory, records

    q = hold(first) if local else first
    shapes = jax.eval_shape(lambda: self._record(q, prior, free_energy))
    records = jax.tree.map(lambda v: jnp.zeros((v.shape[0], count, *v.shape[1:])), shapes)
    if count:  # the body is traced even for no iteration
      start = (q, optimizer.init(q), records)
      q, _, records = jax.lax.fori_loop(0, count, iteration, start)
    found = begun._replace(posterior=q)
    if not (local or free_energy.record):
      return found
    last = jax.lax.stop_gradient(free_energy.gradient(q, count))
    energies, slopes = jax.tree.map(
      lambda record, value: jnp.concatenate([record, value[:, None]], axis=1), records[:2], last
    )
    if free_energy.record:
      found = found._replace(free_energies=energies)
    if not local:
      return found
    before = local_objective(energies[:, 0], jax.tree.map(lambda v: v[:, 0], slopes), first)
    found = found._replace(local=before / self._num_trained)
    if not (self.amortized and count):
      return found
    after = jax.tree.map(lambda v: v[:, 1:], slopes)
    return found._replace(trail=Trail(*records[2], after, energies[:, 1:], context))

  @property
  def _num_trained(self) -> int:
    """Estimates that have parameters: all that is counted in the local objective is their mean."""
    return max(self.num_iterations * self.amortized + (self.start is not None), 1)

  def _record(self, q: Normal, prior: Normal, free_energy: StepFreeEnergy) -> PyTree:
    """What is kept of an iteration: energy, slope, and, to be replayed, what the network saw."""
    energy = jnp.zeros(q.loc.shape[0])
    seen = (q, q, self._own_inputs(q, q, prior, free_energy))
    return energy, q, seen if free_energy.local and self.amortized else ()

  def replay(self, trail: Trail, observed: Array) -> Array:
    """See base class."""
    count = trail.inputs.shape[-2]
    every = (jnp.repeat(v[..., None, :], count, axis=-2) for v in (observed, trail.context))
    inputs = self._with_seen(trail.inputs, *every)
    moved = self._bounded(self.network(trail.estimates, trail.gradients, inputs))
    each = local_objective(trail.energies, trail.slopes, moved)
    return jnp.sum(each, axis=-1) / self._num_trained

  def _update_function(self, hold: bool) -> Any:
    """The network as a pure function, which a loop can call; `hold` its parameters."""
    if not self.amortized:
      return None
    network, variables = self.network.unbind()
    if hold:
      variables = jax.lax.stop_gradient(variables)
    return lambda *arguments: network.apply(variables, *arguments)

  def _optimizer(self) -> optax.GradientTransformation:
    """Of the un-amortised updates."""
    if self.amortized:
      return optax.identity()
    if self.update_rule == 'sgd':
      return optax.sgd(self.step_size)
    # Training differentiates the update, whose square root has no slope at a gradient of zero.
    return optax.adam(self.step_size, eps_root=1e-8)

  def _own_inputs(
    self,
    q: Normal,
    gradient: Normal,
    prior: Normal,
    free_energy: StepFreeEnergy | None,
    i: Array | int = 0,
  ) -> Array:
    """What the network sees, [B, D], each layer-normalised by itself, the observation aside."""
    parts = [encode_gradient(v, self.gradient_encoding) for v in (gradient.loc, gradient.log_scale)]
    if self.estimates:
      parts += [layer_norm(q.loc), layer_norm(q.log_scale)]
    if self.errors:  # of x and of z (Marino et al. 2018)
      assert free_energy is not None
      latent = (q.loc - prior.loc) * jnp.exp(-2.0 * prior.log_scale)
      parts += [layer_norm(free_energy.errors(q, i)), layer_norm(latent)]
    return jnp.concatenate(parts, axis=-1)

  def _with_seen(self, inputs: Array, observed: Array, context: Array) -> Array:
    """The observation and the context beside the others, where they are seen."""
    return jnp.concatenate([inputs, observed, context], axis=-1) if self.observation else inputs

  def _bounded(self, q: Normal) -> Normal:
    log_scale = jnp.clip(q.log_scale, self.log_scale_low, self.log_scale_high)
    return Normal(layer_norm(q.loc) if self.normalize_mean else q.loc, log_scale)
