"""Matrices by their LU factors, against NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afslvm.transforms import linear
from tests import oracles

SIZE = 5


def parts(seed=0, scale=0.5):
  """Random factors, a permutation that is not its own inverse, and signs."""
  rng = np.random.default_rng(seed)
  factors = scale * rng.standard_normal((SIZE, SIZE)).astype(np.float32)
  permutation = np.eye(SIZE, dtype=np.float32)[[2, 0, 1, 4, 3]]
  assert np.any(permutation != permutation.T)
  return factors, permutation, np.array([1, -1, -1, 1, -1], np.float32)


def product(factors, permutation, sign):
  """P L (U + diag(s)) as it is written."""
  factors = factors.astype(np.float64)
  lower, upper = np.eye(SIZE), np.zeros((SIZE, SIZE))
  for i, j in np.ndindex(SIZE, SIZE):
    if i > j:
      lower[i, j] = factors[i, j]
    elif i < j:
      upper[i, j] = factors[i, j]
    else:
      upper[i, i] = sign[i] * np.exp(factors[i, i])
  return permutation @ lower @ upper


@pytest.mark.parametrize('seed', range(3))
def test_the_matrix_and_its_inverse_are_those_of_numpy(seed):
  factors, permutation, sign = parts(seed)
  expected = product(factors, permutation, sign)
  weights, log_det = linear.plu(factors, permutation, sign)
  np.testing.assert_allclose(weights, expected, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(log_det, np.linalg.slogdet(expected)[1], rtol=1e-5)
  weights, log_det = linear.plu_inverse(factors, permutation, sign)
  np.testing.assert_allclose(weights, np.linalg.inv(expected), rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(log_det, -np.linalg.slogdet(expected)[1], rtol=1e-5)


def test_no_factors_make_it_singular():
  """The log-determinant is exact where the determinant itself is below all of float32."""
  factors, permutation, sign = parts(scale=0.0)
  factors = factors - 30 * np.eye(SIZE, dtype=np.float32)
  weights, log_det = linear.plu(factors, permutation, sign)
  assert np.float32(np.exp(-30 * SIZE)) == 0
  np.testing.assert_allclose(log_det, -30.0 * SIZE, rtol=1e-6)
  inverse, _ = linear.plu_inverse(factors, permutation, sign)
  np.testing.assert_allclose(weights @ inverse, np.eye(SIZE), atol=1e-5)


def test_maps_are_multiplied_at_every_pixel():
  """And the log-determinant of the whole map is that of its Jacobian."""
  weights, log_det = linear.plu(*parts())
  x = jax.random.normal(jax.random.key(0), (2, 3, 2, 4, SIZE))
  y, found = linear.inverse(x, weights, log_det)
  for index in np.ndindex(2, 3, 2, 4):
    np.testing.assert_allclose(y[index], np.asarray(x[index]) @ weights, rtol=1e-4, atol=1e-5)
  assert found.shape == (2, 3)
  dense = oracles.dense_log_det(lambda v: linear.inverse(v, weights, log_det)[0], x[0, 0])
  np.testing.assert_allclose(found, np.full((2, 3), dense), rtol=1e-4)


def test_forward_undoes_inverse():
  x = jax.random.normal(jax.random.key(0), (2, 2, 4, SIZE))
  y, log_det = linear.inverse(x, *linear.plu(*parts()))
  again, other = linear.forward(y, *linear.plu_inverse(*parts()))
  np.testing.assert_allclose(again, x, rtol=1e-4, atol=1e-5)
  np.testing.assert_array_equal(other, -log_det)


def test_all_factors_and_nothing_else_are_learned():
  """A gradient for every entry, those below and above the diagonal and on it."""
  x = jax.random.normal(jax.random.key(0), (3, 2, 2, SIZE))
  factors, permutation, sign = parts()

  def loss(factors):
    y, log_det = linear.inverse(x, *linear.plu(factors, permutation, sign))
    return jnp.sum(y**3) + jnp.sum(log_det)

  gradient = jax.grad(loss)(jnp.asarray(factors))
  assert np.all(np.asarray(gradient) != 0)
