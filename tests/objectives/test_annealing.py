"""What training does to the divergence: warm-up, free nats, balance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afslvm.distributions.normal import Normal, kl_normal
from afslvm.models.base import Latents, StepTerms
from afslvm.objectives.annealing import KLSettings, kl_weight, weighted_kl

LOC = jnp.array([[[2.0, 0.1, 0.0], [1.0, 0.3, 0.0]], [[0.5, 0.2, 0.0], [9.0, 9.0, 9.0]]])
SCORED = jnp.array([[True, True], [True, False]])


def terms(q_loc, p_loc):
  """Of unit variance: the divergence of a unit is half the squared distance."""
  q, p = Normal(q_loc, jnp.zeros_like(q_loc)), Normal(p_loc, jnp.zeros_like(p_loc))
  kl = jnp.where(SCORED, kl_normal(q, p).sum(axis=-1), 0.0)
  zeros = jnp.zeros_like(kl)
  return StepTerms(zeros, kl, zeros, SCORED, Latents(p, q, q_loc))


def charged(q_loc=LOC, p_loc=None, step=0, **settings):
  p_loc = jnp.zeros_like(LOC) if p_loc is None else p_loc
  return weighted_kl(terms(q_loc, p_loc), KLSettings(**settings), step)


def per_unit_by_hand():
  values = 0.5 * np.asarray(LOC, np.float64) ** 2
  return values[np.asarray(SCORED)].sum(axis=0) / 3


@pytest.mark.parametrize(
  ('initial', 'steps', 'expected'),
  [
    (1.0, 0, [1, 1, 1, 1]),
    (0.3, 0, [1, 1, 1, 1]),
    (0.0, 10, [0, 0.5, 1, 1]),
    (0.2, 10, [0.2, 0.6, 1, 1]),
    (1.0, 10, [1, 1, 1, 1]),
  ],
)
def test_the_weight_rises_linearly(initial, steps, expected):
  settings = KLSettings(kl_initial_weight=initial, kl_warmup_steps=steps)
  found = [float(kl_weight(settings, n)) for n in (0, 5, 10, 99)]
  np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)
  np.testing.assert_allclose(jax.jit(lambda n: kl_weight(settings, n))(jnp.int32(5)), expected[1])


def test_by_default_it_is_the_divergence():
  np.testing.assert_allclose(charged(), per_unit_by_hand().sum(), rtol=1e-6)
  np.testing.assert_allclose(charged(), terms(LOC, 0 * LOC).kl.sum() / 3, rtol=1e-6)
  half = charged(step=5, kl_initial_weight=0.0, kl_warmup_steps=10)
  np.testing.assert_allclose(half, per_unit_by_hand().sum() / 2, rtol=1e-6)


def test_free_nats_are_of_each_unit_on_average():
  """Units of 0.875, 0.0233 and 0 nats: below 0.1 they cost 0.1 and get no gradient."""
  units = per_unit_by_hand()
  assert units[0] > 0.1 > units[1] > units[2] == 0
  np.testing.assert_allclose(charged(free_nats=0.1), units[0] + 0.2, rtol=1e-6)
  grads = jax.grad(lambda loc: charged(loc, free_nats=0.1))(LOC)
  np.testing.assert_array_equal(grads[..., 1:], 0.0)
  # A unit that is above it on average is charged at every step, also where it lies below.
  plain = jax.grad(charged)(LOC)
  np.testing.assert_allclose(grads[..., 0], plain[..., 0], rtol=1e-6)
  assert np.all(np.asarray(plain[..., 0])[np.asarray(SCORED)] != 0)
  np.testing.assert_array_equal(plain[1, 1], 0.0)


@pytest.mark.parametrize('balance', [0.0, 0.3, 0.5, 0.8, 1.0])
def test_balance_shares_out_the_gradient_and_keeps_the_value(balance):
  p_loc = 0.3 + 0.5 * LOC
  value, grads = jax.value_and_grad(lambda q, p: charged(q, p, kl_balance=balance), argnums=(0, 1))(
    LOC, p_loc
  )
  plain, (to_q, to_p) = jax.value_and_grad(charged, argnums=(0, 1))(LOC, p_loc)
  np.testing.assert_allclose(value, plain, rtol=1e-5)
  np.testing.assert_allclose(grads[0], 2 * (1 - balance) * to_q, rtol=1e-5, atol=1e-7)
  np.testing.assert_allclose(grads[1], 2 * balance * to_p, rtol=1e-5, atol=1e-7)


def test_models_without_latent_variables_are_left_alone():
  """Their divergence, if any, isn't of a latent variable's distribution."""
  plain = terms(LOC, 0 * LOC).replace(latents=None)
  settings = KLSettings(kl_initial_weight=0.0, kl_warmup_steps=10, free_nats=3.0)
  np.testing.assert_allclose(weighted_kl(plain, settings, 0), plain.kl.sum() / 3, rtol=1e-6)


def test_nothing_scored_costs_nothing():
  nothing = terms(LOC, 0 * LOC).replace(scored=jnp.zeros_like(SCORED))
  assert float(weighted_kl(nothing, KLSettings(), 0)) == 0
