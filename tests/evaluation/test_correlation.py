import numpy as np
import pytest

from afslvm.evaluation.correlation import temporal_correlation


def autoregression(coefficient, sequences=200, steps=100, dims=3, seed=0):
  """Stationary AR(1) sequences, each dimension on its own scale and level."""
  noise = np.random.default_rng(seed).standard_normal((sequences, steps, dims))
  x = np.zeros_like(noise)
  x[:, 0] = noise[:, 0]
  for t in range(1, steps):
    x[:, t] = coefficient * x[:, t - 1] + np.sqrt(1 - coefficient**2) * noise[:, t]
  return x * np.arange(1, dims + 1) + 5 * np.arange(dims)


@pytest.mark.parametrize('coefficient', [-0.6, 0.3, 0.95])
def test_of_an_autoregression(coefficient):
  x = autoregression(coefficient)
  found = temporal_correlation(x)
  np.testing.assert_allclose(found, coefficient, atol=0.02)
  before, after = x[:, :-1].reshape(-1, 3), x[:, 1:].reshape(-1, 3)
  by_numpy = [np.corrcoef(before[:, d], after[:, d])[0, 1] for d in range(3)]
  np.testing.assert_allclose(found, np.mean(by_numpy), atol=5e-3)


def test_of_white_noise_is_zero():
  x = np.random.default_rng(0).standard_normal((100, 50, 2, 3, 1))
  assert abs(temporal_correlation(x)) < 0.01


def test_of_frames_that_never_change_is_one():
  pictures = np.random.default_rng(0).uniform(size=(50, 1, 4, 4, 1))
  np.testing.assert_allclose(temporal_correlation(np.repeat(pictures, 9, axis=1)), 1)


def test_dimensions_that_never_vary_are_left_out():
  x = autoregression(0.5)
  constant = np.full((*x.shape[:2], 4), 7.0)
  both = np.concatenate([x, constant], axis=2)
  np.testing.assert_allclose(temporal_correlation(both), temporal_correlation(x))
  assert temporal_correlation(constant) == 0


def test_scale_and_level_do_not_matter():
  x = autoregression(0.5)
  np.testing.assert_allclose(temporal_correlation(3 * x - 8), temporal_correlation(x))
