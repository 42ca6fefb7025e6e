import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afslvm.transforms import preprocessing

KEY = jax.random.key(3)
LEVELS = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(80, axis=0)


def test_gauss256_adds_the_papers_noise():
  noise = preprocessing.dequantise(KEY, LEVELS, 'gauss256') - LEVELS.astype(np.float32) / 255
  count = noise.size
  assert noise.dtype == jnp.float32
  assert abs(float(noise.mean())) < 4 / 256 / math.sqrt(count)
  np.testing.assert_allclose(noise.std(), 1 / 256, rtol=4 / math.sqrt(2 * count))
  kurtosis = float(((noise * 256) ** 4).mean())
  assert abs(kurtosis - 3) < 4 * math.sqrt(96 / count)


def test_uniform_fills_each_bin_and_nothing_else():
  x = np.asarray(preprocessing.dequantise(KEY, LEVELS, 'uniform'))
  assert x.min() >= 0
  assert x.max() <= 1
  inside = x * 256 - LEVELS
  assert inside.min() >= 0
  assert inside.max() <= 1 + 1e-4
  np.testing.assert_allclose(inside.mean(), 0.5, atol=4 / math.sqrt(12 * x.size))
  np.testing.assert_allclose(inside.var(), 1 / 12, rtol=0.05)


def test_none_leaves_continuous_values():
  x = np.linspace(-3, 300, 7)
  np.testing.assert_array_equal(preprocessing.dequantise(KEY, x, 'none'), x.astype(np.float32))


@pytest.mark.parametrize('kind', ['gauss256', 'uniform'])
def test_noise_is_decided_by_the_key(kind):
  a, b = (preprocessing.dequantise(KEY, LEVELS, kind) for _ in range(2))
  np.testing.assert_array_equal(a, b)
  c = preprocessing.dequantise(jax.random.key(4), LEVELS, kind)
  assert np.mean(a == c) < 0.01


def test_unknown_kind_is_refused():
  with pytest.raises(ValueError, match='gauss255'):
    preprocessing.dequantise(KEY, LEVELS, 'gauss255')


def test_log_levels():
  assert preprocessing.log_levels('none') == 0
  for kind in ('gauss256', 'uniform'):
    np.testing.assert_allclose(preprocessing.log_levels(kind), 5.545, atol=5e-4)


@pytest.mark.parametrize('kind', ['gauss256', 'uniform'])
def test_the_mean_of_the_noise_is_taken_away(kind):
  x = preprocessing.dequantise(KEY, LEVELS, kind)
  error = np.asarray(preprocessing.without_noise(x, kind)) - LEVELS / 255
  for half in (LEVELS < 128, LEVELS >= 128):
    assert abs(error[half].mean()) < 4 / 256 / math.sqrt(half.sum())
