import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afslvm.transforms import affine
from afslvm.transforms.chain import Transform, chain
from tests import oracles

STEPS, DIM = 4, 2


def autoregressive(seed):
  """x_t = a_t(x_<t) + exp(b_t(x_<t)) y_t with parameters that depend on the step before."""
  a, b = 0.5 * jax.random.normal(jax.random.key(seed), (2, DIM, DIM))

  def parameters(x):
    before = jnp.concatenate([jnp.zeros_like(x[:, :1]), x[:, :-1]], axis=1)
    return before @ a, jnp.tanh(before @ b)

  def inverse(x):
    return affine.inverse(x, *parameters(x), 1)

  def forward(y):
    x = jnp.zeros_like(y)
    for _ in range(y.shape[1]):  # each pass makes one more step exact
      x, log_det = affine.forward(y, *parameters(x), 1)
    return x, log_det

  return Transform(forward, inverse)


@functools.cache
def example():
  parts = [autoregressive(seed) for seed in range(3)]
  return parts, chain(*parts), jax.random.normal(jax.random.key(9), (1, STEPS, DIM))


def test_the_first_transform_is_nearest_the_data():
  (first, second, third), composed, x = example()
  y_1, _ = first.inverse(x)
  y_2, _ = second.inverse(y_1)
  y_3, _ = third.inverse(y_2)
  np.testing.assert_allclose(composed.inverse(x)[0], y_3, rtol=1e-6)
  other_way = chain(third, second, first).inverse(x)[0]
  assert np.abs(other_way - y_3).max() > 0.1


def test_forward_undoes_inverse():
  _, composed, x = example()
  y, inverse_log_det = composed.inverse(x)
  again, log_det = composed.forward(y)
  np.testing.assert_allclose(again, x, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(log_det, -inverse_log_det, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('direction', ['forward', 'inverse'])
def test_log_dets_add_to_that_of_the_dense_jacobian(direction):
  """Eq. 9; the Jacobian is over all steps at once, so its triangular form (Eq. 8) is tested too."""
  _, composed, x = example()
  function = getattr(composed, direction)
  log_det = function(x)[1]
  assert log_det.shape == (1, STEPS)
  expected = oracles.dense_log_det(lambda v: function(v)[0], x)
  np.testing.assert_allclose(log_det.sum(), expected, rtol=1e-4, atol=1e-5)


def test_a_chain_of_nothing_is_refused():
  with pytest.raises(ValueError, match='at least one'):
    chain()
