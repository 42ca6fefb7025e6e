"""The motivating example (Eq. 10-14): a particle, and the transforms that whiten it."""

import numpy as np

from afslvm.transforms.chain import chain
from afslvm.transforms.differencing import DIFFERENCING
from tests import oracles


def particle(batch=3, steps=8, dims=2, seed=0):
  """w ~ N(0, I), u_t = u_{t-1} + w_t (Eq. 11), x_t = x_{t-1} + u_t (Eq. 10), from zero."""
  w = np.random.default_rng(seed).standard_normal((batch, steps, dims)).astype(np.float32)
  x, u = np.zeros_like(w), np.zeros_like(w)
  for t in range(steps):
    u[:, t] = (u[:, t - 1] if t else 0) + w[:, t]
    x[:, t] = (x[:, t - 1] if t else 0) + u[:, t]
  return w, u, x


def test_differencing_flow_whitens_particle():
  w, u, x = particle()
  found_u, log_det = DIFFERENCING.inverse(x)
  np.testing.assert_allclose(found_u, u, atol=1e-5)
  np.testing.assert_array_equal(log_det, np.zeros((3, 8)))
  found_w, log_det = chain(DIFFERENCING, DIFFERENCING).inverse(x)
  np.testing.assert_allclose(found_w, w, atol=1e-5)
  np.testing.assert_array_equal(log_det, np.zeros((3, 8)))


def test_one_step_of_x_is_the_gaussian_of_eq_14():
  """w_t is x_t less its mean given two steps, and u_t less its mean given one (Eq. 13)."""
  w, u, x = particle()
  mean = x[:, 1:-1] + x[:, 1:-1] - x[:, :-2]
  np.testing.assert_allclose(x[:, 2:] - mean, w[:, 2:], atol=1e-5)
  np.testing.assert_allclose(u[:, 1:] - u[:, :-1], w[:, 1:], atol=1e-6)


def test_forward_undoes_inverse():
  _, _, x = particle()
  twice = chain(DIFFERENCING, DIFFERENCING)
  np.testing.assert_allclose(twice.forward(twice.inverse(x)[0])[0], x, atol=1e-4)


def test_volume_is_kept():
  x = particle(batch=1, steps=3)[2]
  for direction in DIFFERENCING:
    expected = oracles.dense_log_det(lambda v, d=direction: d(v)[0], x)
    np.testing.assert_allclose(direction(x)[1].sum(), expected, atol=1e-6)


def test_whitening_is_seen_in_covariances():
  """Over many particles: x and u remember, w doesn't."""
  w, u, x = particle(batch=4000, steps=6, dims=1)
  found_u = DIFFERENCING.inverse(x)[0]
  found_w = DIFFERENCING.inverse(found_u)[0]
  covariance = np.cov(np.asarray(found_w)[..., 0].T)
  np.testing.assert_allclose(covariance, np.eye(6), atol=0.1)
  steps = np.arange(1, 7)
  expected = np.minimum(steps[:, None], steps[None])  # of a random walk
  np.testing.assert_allclose(np.cov(np.asarray(found_u)[..., 0].T), expected, atol=0.6)
