"""The diagonal normal, against numpy and numerical integration."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afslvm.distributions.normal import Normal, kl_normal

PAIRS = [((0.3, -0.4), (-0.5, 0.2)), ((0.0, 0.0), (0.0, 0.0)), ((2.0, 0.7), (1.0, -0.6))]


def density(x, loc, log_scale):
  scale = np.exp(log_scale)
  return np.exp(-0.5 * ((x - loc) / scale) ** 2) / (scale * np.sqrt(2 * np.pi))


@pytest.mark.parametrize(('loc', 'log_scale'), [(0.0, 0.0), (1.5, -2.0), (-3.0, 1.2)])
def test_log_prob(loc, log_scale):
  x = np.linspace(-4, 4, 9)
  found = Normal(jnp.float32(loc), jnp.float32(log_scale)).log_prob(jnp.array(x, jnp.float32))
  scale = np.exp(log_scale)
  expected = -0.5 * ((x - loc) / scale) ** 2 - np.log(scale) - 0.5 * np.log(2 * np.pi)
  np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_it_integrates_to_one():
  normal, x = Normal(jnp.float32(0.4), jnp.float32(-0.3)), np.linspace(-10, 10, 20001)
  values = np.exp(normal.log_prob(jnp.array(x, jnp.float32)), dtype=np.float64)
  np.testing.assert_allclose(np.trapezoid(values, x), 1.0, rtol=1e-5)


@pytest.mark.parametrize(('q', 'p'), PAIRS)
def test_kl_is_the_integral(q, p):
  x = np.linspace(-25, 25, 200001)
  ratio = np.log(density(x, *q) + 1e-300) - np.log(density(x, *p) + 1e-300)
  expected = np.trapezoid(density(x, *q) * ratio, x)
  found = kl_normal(*(Normal(*map(jnp.float32, pair)) for pair in (q, p)))
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_kl_at_extreme_log_scales_is_finite():
  """Between the bounds of the paper's clip, -15 and 5, as are its gradients."""

  def kl(a, b):
    return kl_normal(Normal(jnp.float32(0.0), a), Normal(jnp.float32(0.0), b))

  for a, b in ((-15.0, 5.0), (5.0, -15.0), (-15.0, -15.0)):
    value, grads = jax.value_and_grad(kl, argnums=(0, 1))(jnp.float32(a), jnp.float32(b))
    assert np.all(np.isfinite([value, *grads]))
    assert value >= 0


def test_draws_are_reparameterised():
  normal = Normal(jnp.array([1.0, -2.0]), jnp.array([0.0, 1.0]))
  noise = jnp.array([0.5, -1.0])
  np.testing.assert_allclose(normal.sample(noise), [1.5, -2.0 - np.e], rtol=1e-6)
  np.testing.assert_allclose(normal.sample(noise, 0.0), normal.loc)
  grads = jax.grad(lambda n: normal.replace(log_scale=n).sample(noise).sum())(normal.log_scale)
  np.testing.assert_allclose(grads, noise * np.exp(normal.log_scale), rtol=1e-6)
