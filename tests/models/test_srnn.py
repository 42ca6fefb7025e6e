"""SRNN and VRNN: which variable sees which, smoothing, and the sizes of the AVF paper."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend import core

from tests import constructors

KEY = jax.random.key(0)


def terms_of(model, x, mask=None):
  variables = constructors.randomized(model, x, scale=0.3)
  given = constructors.given_noise(model, jnp.array([0.4, -1.1]))
  return lambda x, noise=given: constructors.apply(model, {**variables, **noise}, x, mask)


def test_the_recurrence_of_srnn_knows_no_latent_variable():
  """Its state after any draws is the same; that of VRNN is not."""
  x = jax.random.uniform(KEY, (2, 4, 3))
  for make, moves in ((constructors.srnn, False), (constructors.vrnn, True)):
    model = make()
    variables = constructors.randomized(model, x, scale=0.3)

    def state_after(z, model=model, variables=variables):
      given = {**variables, **constructors.given_noise(model, z)}
      return constructors.apply(model, given, x, method='condition')

    a, b = state_after(jnp.array([0.4, -1.1])), state_after(jnp.array([-0.4, 1.1]))
    recurrent = (lambda s: s.latent[-1]) if moves else (lambda s: s.latent.past.h)
    assert bool(jnp.any(recurrent(a) != recurrent(b))) == moves


def products_in_loops(jaxpr, inside=False):
  """Matrix products in one round of the loops of a traced function."""
  count = 0
  for equation in jaxpr.eqns:
    count += inside and equation.primitive.name == 'dot_general'
    within = inside or equation.primitive.name == 'scan'
    for value in equation.params.values():
      if isinstance(value, core.ClosedJaxpr):
        count += products_in_loops(value.jaxpr, within)
  return count


@pytest.mark.parametrize(
  ('name', 'count'),
  [
    ('srnn', 1),  # of h
    ('srnn em', 1),
    ('srnn gru residual bernoulli', 1 + 3 + 3),  # and the prior's and the posterior's layers
    ('vrnn', 1 + 2 + 3),  # of h, of z, and the posterior's layers
  ],
)
def test_only_what_is_recurrent_runs_in_loops(name, count):
  model = constructors.MODELS[name]()
  x = constructors.data(model)
  variables = constructors.randomized(model, x)
  noise = constructors.given_noise(model, jnp.array([0.4, -1.1]))
  jaxpr = jax.make_jaxpr(lambda x: model.apply({**variables, **noise}, x))(x)
  assert products_in_loops(jaxpr.jaxpr) == count


def test_the_posterior_sees_the_latent_before_if_told():
  for sees in (False, True):
    model = constructors.srnn(posterior_sees_latent=sees)
    x = constructors.data(model)
    score = terms_of(model, x)
    moved = constructors.given_noise(model, jnp.array([1.4, -0.1]))
    a, b = score(x), score(x, moved)
    changed = bool(jnp.any(a.latents.posterior.loc != b.latents.posterior.loc))
    assert changed == sees
    assert bool(jnp.any(a.latents.prior.loc[:, 1:] != b.latents.prior.loc[:, 1:]))


def test_a_smoothing_posterior_sees_the_future_and_no_padding():
  model = constructors.srnn(smoothing=3)
  x = constructors.data(model)
  score = terms_of(model, x)
  later = score(x.at[:, -1].add(0.5))
  first = score(x)
  assert bool(jnp.any(first.latents.posterior.loc[:, 0] != later.latents.posterior.loc[:, 0]))
  np.testing.assert_allclose(first.latents.prior.loc[:, 0], later.latents.prior.loc[:, 0])
  mask = jnp.arange(9)[None] < jnp.array([[9], [6], [4]])
  masked = terms_of(model, x, mask)(jnp.where(mask[..., None], x, jnp.nan))
  for row, length in enumerate((9, 6, 4)):
    alone = score(x[row : row + 1, :length]).elbo
    np.testing.assert_allclose(masked.elbo[row, :length], alone[0], rtol=1e-4)


def test_a_context_is_filtered_as_it_is_scored():
  """`condition`, which decodes nothing, and the steps end in one state."""
  for name in ('srnn gru residual bernoulli', 'vrnn', 'srnn avf from residual em'):
    model = constructors.MODELS[name]()
    x = constructors.data(model, steps=4)
    given = {
      **constructors.randomized(model, x),
      **constructors.given_noise(model, jnp.array([0.4, -1.1])),
    }

    def by_steps(module, x):
      state = module.initial_state(x.shape[0])
      for t in range(x.shape[1]):
        state, _ = module.step(state, x[:, t])
      return state

    a = constructors.apply(model, given, x, method='condition')
    b = constructors.apply(model, given, x, method=by_steps)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), a, b)


@pytest.mark.parametrize('name', ['srnn', 'vrnn', 'srnn avf from residual em'])
def test_unrolling_the_scan_changes_nothing(name):
  model = constructors.MODELS[name]()
  x = constructors.data(model, steps=6)
  variables = constructors.randomized(model, x)
  given = {**variables, **constructors.given_noise(model, jnp.array([0.4, -1.1]))}
  expected = constructors.apply(model, given, x).elbo
  found = constructors.apply(model.copy(unroll=4), given, x).elbo
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_dropout_takes_of_h_and_leaves_observations_whole():
  model = constructors.srnn().copy(dropout=0.5)
  x = constructors.data(model)
  variables = constructors.randomized(model, x)
  rngs = {'sample': jax.random.key(0), 'dropout': jax.random.key(1)}
  mask = jnp.ones(x.shape[:2], bool)
  whole, with_dropout = (
    constructors.apply(model, variables, x, mask, method='encode', rngs=given)
    for given in (None, rngs)
  )
  np.testing.assert_array_equal(with_dropout, whole)
  given = {**variables, **constructors.given_noise(model, jnp.array([0.4, -1.1]))}
  dropped = constructors.apply(model, given, x, mask, rngs=rngs).latents
  kept = constructors.apply(model, given, x, mask).latents
  assert not np.allclose(dropped.prior.loc[:, 1:], kept.prior.loc[:, 1:], rtol=1e-3)
