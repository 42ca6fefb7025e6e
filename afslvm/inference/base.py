"""What a latent variable model asks of its inference procedure."""

import flax.linen as nn

from afslvm.distributions.normal import Normal
from afslvm.types import Array, PyTree


class Inference(nn.Module):
  """A filtering posterior q(z_t | x_<=t, z_<t), which knows no model (AF paper Eq. 19).

  It owns the encoder of the observations. What of the past it sees beside its own state is the
  model's choice and comes as `context`.

  Attributes:
    latent_size: Z.
    encoder: from observations [N, *event] and a mask [N] to features [N, F].
  """

  latent_size: int
  encoder: nn.Module

  def encode(self, x: Array, mask: Array) -> Array:
    """Features of all observations, as one batch: [B, T, *event], mask [B, T] -> [B, T, F]."""
    features = self.encoder(x.reshape(-1, *x.shape[2:]), mask.reshape(-1))
    return features.reshape(*x.shape[:2], *features.shape[1:])

  def initial_state(self, batch_size: int) -> PyTree:
    """The state before the first step."""
    raise NotImplementedError

  def posterior(
    self, state: PyTree, observed: Array, context: Array, prior: Normal
  ) -> tuple[PyTree, Normal]:
    """The posterior of one step.

    Args:
      state: of the step before.
      observed: [B, F], the encoded observation.
      context: [B, D], what the model lets the posterior see of the past.
      prior: of this step, [B, Z].

    Returns:
      The state after it, and q, [B, Z].
    """
    raise NotImplementedError
