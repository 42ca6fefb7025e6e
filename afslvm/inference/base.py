"""What a latent variable model asks of its inference procedure."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from afslvm.distributions.normal import Normal
from afslvm.networks.mlp import join
from afslvm.types import Array, PyTree


@dataclasses.dataclass(frozen=True)
class StepFreeEnergy:
  """F_t as a function of q(z_t): the one thing of a model that inference optimises (AVF Eq. 8-9).

  Attributes:
    value: (q, i) -> the i-th Monte Carlo estimate of F_t, one per sequence, [B], nats. Estimates
      have independent noise, so that an update is never scored on the noise it was computed from.
    errors: (q, i) -> precision-weighted errors of the observation [B, *event], by the same noise.
  """

  value: Callable[[Normal, Array | int], Array]
  errors: Callable[[Normal, Array | int], Array]

  def gradient(self, q: Normal, i: Array | int = 0) -> Normal:
    """Returns the gradient of the i-th estimate by mean and log-scale, [B, Z] each.

    Row b depends on sequence b alone, except through batch statistics in training.
    """
    return jax.grad(lambda q: jnp.sum(self.value(q, i)))(q)


class Inferred(NamedTuple):
  """The result of inference at one step."""

  state: PyTree  # of the procedure after the step
  posterior: Normal  # q(z_t | ...), [B, Z]
  trace: PyTree = ()  # what `trained_estimates` needs of the way there


class Inference(nn.Module):
  """A posterior q(z_t | x_<=t, z_<t), which knows no model (AF paper Eq. 19).

  What it sees comes in two parts, each any pytree of arrays: the evidence, which observations alone
  decide, and which `encode` sees of all steps at once; and the history, which earlier latent
  variables decide.

  Attributes:
    latent_size: Z.
    encoder: a network from evidence [N, ...] and a mask [N] to features [N, ...]; None shows the
      evidence as it is.
    backward: a recurrence from the last step to the first over the features, whose outputs are seen
      instead of them (SRNN, Fraccaro et al. 2016), with the method `run_backwards`; None filters.
  """

  latent_size: int
  encoder: nn.Module | None = None
  backward: nn.Module | None = None

  limits: ClassVar[dict[str, Any]] = {}

  @property
  def sees_future(self) -> bool:
    """Returns whether the posterior of a step sees later observations."""
    return self.backward is not None

  @property
  def noise_shape(self) -> tuple[int, int] | None:
    """Returns the estimates of F_t that a step takes, and the draws of each; None without F_t."""
    return None

  @property
  def num_trained(self) -> int:
    """Returns the number of estimates of q that `trained_estimates` returns."""
    return 1

  @property
  def log_scale_bounds(self) -> tuple[float, float] | None:
    """Returns the least and the greatest log-scale of the posterior, or None without bounds."""
    return None

  def encode(self, evidence: PyTree, mask: Array) -> PyTree:
    """Returns features of all steps, [B, T, ...], of evidence [B, T, ...] and mask [B, T]."""
    features = evidence
    if self.encoder is not None:
      flat = jax.tree.map(lambda v: v.reshape(-1, *v.shape[2:]), evidence)
      features = self.encoder(flat, mask.reshape(-1))
      features = jax.tree.map(lambda v: v.reshape(*mask.shape, *v.shape[1:]), features)
    if self.backward is not None:
      features = self.backward.run_backwards(join(features), mask)
    return features

  def initial_state(self, batch_size: int) -> PyTree:
    """Returns the procedure's state before the first step; by default it has none."""
    del batch_size
    return ()

  def infer(
    self,
    state: PyTree,
    encoded: PyTree,
    history: PyTree | None,
    prior: Normal,
    free_energy: StepFreeEnergy | None = None,
  ) -> Inferred:
    """Returns the posterior of one step.

    Args:
      state: of the procedure, after the step before.
      encoded: what `encode` made of the step, [B, ...].
      history: what the model shows of earlier latent variables, [B, ...], or None.
      prior: p(z_t | ...), [B, Z].
      free_energy: F_t, for a procedure with a `noise_shape`.
    """
    raise NotImplementedError

  def trained_estimates(
    self,
    state: PyTree,
    encoded: PyTree,
    history: PyTree | None,
    prior: Normal,
    trace: PyTree,
  ) -> list[Normal]:
    """Returns the estimates of q that parameters gave on the way, each with gradients of its own.

    Variational EM trains each of them for its own F_t. The arguments are those of `infer`, and the
    `trace` that it returned; gradients go to parameters, and through `encoded`, only.
    """
    del trace
    return [self.infer(state, encoded, history, prior).posterior]

  def all_estimates(self, trace: PyTree, posterior: Normal) -> list[Normal]:
    """Returns all estimates of an iterative procedure, the last one being the posterior.

    A procedure without iterations has none.
    """
    del trace, posterior
    return []
