"""What a latent variable model asks of its inference procedure."""

import dataclasses
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from afslvm.distributions.normal import Normal
from afslvm.networks.recurrent import CELLS, Recurrence
from afslvm.types import Array, PyTree


@dataclasses.dataclass(frozen=True)
class StepFreeEnergy:
  """F_t as a function of q(z_t): the one thing of a model that inference optimises (AVF Eq. 8-9).

  Attributes:
    value: (q, i) -> the i-th unbiased estimate of F_t [B], nats, each of its own sequence. Each has
      noise of its own: a q that was moved by the slope of one is not judged by the same one, whose
      noise it could fit.
    errors: (q, i) -> precision-weighted errors of the observation [B, D], with that noise.
    local: each iteration is trained for its own free energy, and nothing else (variational EM).
    record: the free energy after the last iteration is wanted, too.
  """

  value: Callable[[Normal, Array | int], Array]
  errors: Callable[[Normal, Array | int], Array]
  local: bool = False
  record: bool = False

  def gradient(self, q: Normal, i: Array | int = 0) -> tuple[Array, Normal]:
    """The i-th F_t [B] and its gradient by mean and log-scale, [B, Z] each.

    Examples don't mix, but through batch statistics in training.
    """

    def total(q):
      energies = self.value(q, i)
      return jnp.sum(energies), energies

    gradient, energies = jax.grad(total, has_aux=True)(q)
    return energies, gradient


def local_objective(energy: Array, gradient: Normal, q: Normal) -> Array:
  """Has the value of F_t(q) [B], and its gradient through q and nothing else (AVF Eq. 13)."""
  slope, moved = jax.lax.stop_gradient(gradient), jax.tree.map(_change, q)
  products = jax.tree.map(lambda g, d: jnp.sum(g * d, axis=-1), slope, moved)
  return jax.lax.stop_gradient(energy) + products.loc + products.log_scale


def _change(value: Array) -> Array:
  """Zero, with the gradient of `value`."""
  return value - jax.lax.stop_gradient(value)


class Trail(NamedTuple):
  """What iterations did in a step, everything held; [B, n, ...]."""

  estimates: Normal  # before each update
  gradients: Normal  # that each update was given
  inputs: Array  # [B, n, D], of the network, the observation and context aside
  slopes: Normal  # of F_t after each update
  energies: Array  # [B, n], F_t there
  context: Array  # [B, C]


class Inferred(NamedTuple):
  """What an inference procedure makes of a step."""

  state: PyTree
  posterior: Normal  # [B, Z]
  free_energies: Array | None = None  # [B, iterations + 1], before each iteration and after all
  local: Array | None = None  # [B], what trains the parameters of where q begins, in variational EM
  trail: Trail | None = None  # with which `replay` trains those of the iterations


class Inference(nn.Module):
  """A posterior q(z_t | x_<=t, z_<t), which knows no model (AF paper Eq. 19).

  It owns the encoder of the observations. What of the past it sees beside its own state is the
  model's choice and comes as `context`.

  Attributes:
    latent_size: Z.
    encoder: from what the model shows of observations [N, ...] and a mask [N] to features [N, F];
      None shows it as it is.
    smoothing: units of a recurrence from the last step to the first over the features, whose
      outputs are seen instead of them (SRNN; Fraccaro et al. 2016); 0 is none, and q filters.
    smoothing_cell: of that recurrence.
  """

  latent_size: int
  encoder: nn.Module | None = None
  smoothing: int = 0
  smoothing_cell: str = 'gru'

  uses_free_energy: ClassVar = False
  choices: ClassVar = {'smoothing_cell': CELLS}
  limits: ClassVar = {'smoothing': (0, None)}

  def setup(self):
    """Declares what all inference procedures have; a subclass calls it first."""
    if self.smoothing:
      self.backward = Recurrence(self.smoothing, self.smoothing_cell)

  @property
  def sees_future(self) -> bool:
    """Whether it smooths."""
    return self.smoothing > 0

  @property
  def uses_prior(self) -> bool:
    """Whether `infer` needs the prior of the step."""
    return True

  @property
  def noise_shape(self) -> tuple[int, int]:
    """How many estimates of F_t a step takes, and how many draws each of them."""
    return 1, 1

  def encode(self, evidence: Array, mask: Array) -> Array:
    """Features of all steps, as one batch: [B, T, ...], mask [B, T] -> [B, T, F]."""
    features = evidence
    if self.encoder is not None:
      features = self.encoder(evidence.reshape(-1, *evidence.shape[2:]), mask.reshape(-1))
      features = features.reshape(*mask.shape, *features.shape[1:])
    return self.backward.run_backwards(features, mask) if self.smoothing else features

  def initial_state(self, batch_size: int) -> PyTree:
    """The state before the first step."""
    raise NotImplementedError

  def replay(self, trail: Trail, observed: Array) -> Array:
    """The local objective of all iterations [B, T], of trails [B, T, n, ...] (AVF Eq. 13).

    In variational EM no gradient goes from one iteration or step to another, so the parameters are
    trained on all of them at once, outside the scan.
    """
    raise NotImplementedError

  def infer(
    self,
    state: PyTree,
    observed: Array,
    context: Array,
    prior: Normal | None = None,
    free_energy: StepFreeEnergy | None = None,
  ) -> Inferred:
    """The posterior of one step.

    Args:
      state: of the step before.
      observed: [B, F], of `encode`.
      context: [B, D], what the model lets the posterior see of the past.
      prior: of this step, [B, Z], where the class says that it `uses_prior`.
      free_energy: of this step, where the class says that it `uses_free_energy`; None only while
        variables are created.
    """
    raise NotImplementedError
