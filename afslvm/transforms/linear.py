"""Invertible linear maps of channels, by an LU factorisation that is never singular.

Kingma & Dhariwal 2018 (Glow), Section 3.2: W = P L (U + diag(s)), so that log|det W| = Σ log|s|.
"""

import jax
import jax.numpy as jnp

from afslvm.types import Array


def plu(factors: Array, permutation: Array, sign: Array) -> tuple[Array, Array]:
  """Returns the matrix that its factors describe.

  Args:
    factors: [C, C] with L below the diagonal, whose own is one, U above it, and log|s| on it.
    permutation: the matrix P [C, C].
    sign: of s, [C], ones and minus ones.

  Returns:
    W = P L (U + diag(s)) [C, C], and log|det W| [] in nats.
  """
  log_diagonal = jnp.diagonal(factors)
  lower = jnp.tril(factors, -1) + jnp.eye(len(factors), dtype=factors.dtype)
  upper = jnp.triu(factors, 1) + jnp.diag(sign * jnp.exp(log_diagonal))
  return _product(permutation, _product(lower, upper)), jnp.sum(log_diagonal)


def plu_inverse(factors: Array, permutation: Array, sign: Array) -> tuple[Array, Array]:
  """Returns W^-1 [C, C] by two triangular solves, and log|det W^-1| []; see `plu`."""
  log_diagonal = jnp.diagonal(factors)
  upper = jnp.triu(factors, 1) + jnp.diag(sign * jnp.exp(log_diagonal))
  solve = jax.scipy.linalg.solve_triangular
  through_lower = solve(factors, permutation.T, lower=True, unit_diagonal=True)
  return solve(upper, through_lower), -jnp.sum(log_diagonal)


def inverse(x: Array, weights: Array, log_det: Array) -> tuple[Array, Array]:
  """Returns y = x W at every pixel, and its log-determinant.

  Args:
    x: [..., H, W, C].
    weights: W [C, C].
    log_det: log|det W| [].

  Returns:
    y [..., H, W, C] and log|det dy/dx| [...] in nats.
  """
  height, width = x.shape[-3:-1]
  return _product(x, weights), jnp.broadcast_to(height * width * log_det, x.shape[:-3])


def forward(y: Array, inverse_weights: Array, log_det: Array) -> tuple[Array, Array]:
  """Returns x = y W^-1, and log|det dx/dy| of it, given W^-1 and log|det W^-1|."""
  return inverse(y, inverse_weights, log_det)


def _product(a: Array, b: Array) -> Array:
  # An inverse has to be exact to float32's rounding, which accelerators' products are not.
  return jnp.matmul(a, b, precision='highest')
