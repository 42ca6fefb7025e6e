"""What is particular to latent variable models; the laws of all models are in test_contract.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afslvm.distributions.normal import Normal
from tests import constructors
from tests import linear_gaussian as lg


@pytest.fixture(scope='module')
def frames():
  model = constructors.slvm(constructors.FRAME)
  x = constructors.data(model, batch=2, steps=4)
  return model, constructors.randomized(model, x), x


def test_batch_statistics_move_once_for_all_frames(frames):
  """Outside the scan: encoder and decoder see every frame that is there in one batch."""
  model, variables, x = frames
  mask = jnp.ones(x.shape[:2], bool).at[1, 2:].set(False)
  terms, updated = jax.jit(
    lambda x: model.apply(
      variables, x, mask, rngs={'sample': jax.random.key(0)}, mutable=['batch_stats']
    )
  )(x.at[1, 2:].set(jnp.nan))
  old, new, params = variables['batch_stats'], updated['batch_stats'], variables['params']
  conv = params['inference']['encoder']['layers_0']['conv']
  seen = jax.lax.conv_general_dilated(
    x[mask], conv['kernel'], (2, 2), [(1, 1)] * 2, dimension_numbers=('NHWC', 'HWIO', 'NHWC')
  )
  seen = seen + conv['bias']
  point = params['decoder']['layers_0']['conv']
  made = jnp.einsum('nc,hwco->nhwo', terms.latents.z[mask], point['kernel']) + point['bias']
  for path, values in ((('inference', 'encoder'), seen), (('decoder',), made)):
    before, after = old, new
    for name in (*path, 'layers_0', 'normalization', 'norm'):
      before, after = before[name], after[name]
    expected = 0.9 * before['mean'] + 0.1 * values.mean(axis=(0, 1, 2))
    np.testing.assert_allclose(after['mean'], expected, rtol=1e-3, atol=1e-5)
    expected = 0.9 * before['var'] + 0.1 * values.var(axis=(0, 1, 2))
    np.testing.assert_allclose(after['var'], expected, rtol=1e-3, atol=1e-5)


def test_running_statistics_are_used_in_evaluation(frames):
  """A sequence's terms don't depend on those beside it, and nothing is updated."""
  model, variables, x = frames
  given = {**variables, **constructors.given_noise(model, 0.4)}
  both = constructors.apply(model, given, x)
  alone = constructors.apply(model, given, x[:1])
  np.testing.assert_allclose(both.elbo[:1], alone.elbo, rtol=1e-4)


def test_the_first_states_of_recurrent_networks_are_shared_by_the_batch():
  """They are learned, [features], and broadcast: sequences in a batch are scored as if alone."""
  model = constructors.slvm(layers=2)
  x = constructors.data(model)
  variables = constructors.randomized(model, x, scale=0.5)
  given = {**variables, **constructors.given_noise(model, 0.4)}
  for part in ('dynamics', 'inference'):
    initial = {k: v for k, v in variables['params'][part]['lstm'].items() if 'initial' in k}
    assert {leaf.shape for leaf in initial.values()} == {(3,)}
    assert len(initial) == 4
  state = model.apply(variables, 3, method='initial_state')
  for (c, h), layer in zip(state.inference, range(2), strict=True):
    own = variables['params']['inference']['lstm']
    np.testing.assert_array_equal(c, np.tile(own[f'initial_c_{layer}'], (3, 1)))
    np.testing.assert_array_equal(h, np.tile(own[f'initial_h_{layer}'], (3, 1)))
  both = constructors.apply(model, given, x)
  for k in range(3):
    alone = constructors.apply(model, given, x[k : k + 1])
    np.testing.assert_allclose(both.elbo[k : k + 1], alone.elbo, rtol=1e-4)


def test_draws_of_two_keys_differ_and_of_one_agree():
  model = constructors.slvm()
  x = constructors.data(model)
  variables = constructors.randomized(model, x)
  one, again, other = (
    constructors.apply(model, variables, x, rngs={'sample': jax.random.key(seed)})
    for seed in (0, 0, 1)
  )
  np.testing.assert_array_equal(one.latents.z, again.latents.z)
  assert np.all(np.asarray(one.latents.z != other.latents.z))
  steps = np.asarray(
    (one.latents.z - one.latents.posterior.loc) * jnp.exp(-one.latents.posterior.log_scale)
  ).reshape(-1, 2)
  assert len(np.unique(steps.round(5), axis=0)) == len(steps), 'noise is repeated'


def test_the_posterior_of_the_last_z_conditions_prior_and_posterior():
  """The chain in the divergence is the posterior's, not the prior's own (a valid bound of p)."""
  model = constructors.slvm()
  x = constructors.data(model, steps=3)
  variables = constructors.randomized(model, x, scale=0.5)
  terms = constructors.apply(model, variables, x, rngs={'sample': jax.random.key(0)})

  def by_hand(model, z):
    state, priors = model.initial(x.shape[0]), []
    for t in range(3):
      priors.append(model.prior(state, x[:, t]))
      state = model.transition(state, z[:, t], x[:, t])
    return jax.tree.map(lambda *p: jnp.stack(p, axis=1), *priors)

  expected = constructors.apply(model, variables, terms.latents.z, method=by_hand)
  np.testing.assert_allclose(terms.latents.prior.loc, expected.loc, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(terms.latents.prior.log_scale, expected.log_scale, atol=1e-6)


@pytest.mark.parametrize('flow', [False, True])
def test_visuals_and_diagnostics_cost_nothing_unless_requested(flow):
  model = lg.make()
  variables, x = {}, jnp.array(lg.sequences(2, 5), jnp.float32)
  if flow:
    conditioner = constructors.DenseConditioner((lg.SIZE,), window=1, features=3, depth=1)
    model = constructors.flows(1, conditioner, base=model)
    variables = constructors.randomized(model, x)
  rngs = {'sample': jax.random.key(0)}
  plain, nothing = model.apply(variables, x, rngs=rngs, mutable=['batch_stats'])
  assert not nothing
  shown, updated = model.apply(variables, x, rngs=rngs, mutable=['visuals', 'diagnostics'])
  np.testing.assert_allclose(plain.elbo, shown.elbo, rtol=1e-5)
  level = updated['visuals']['base'] if flow else updated['visuals']
  np.testing.assert_allclose(
    level['mean'][0], shown.latents.z[:, int(flow) :] * np.array(lg.EMISSION), rtol=1e-5
  )


def test_log_ratio_is_of_the_same_z_in_both():
  latents_of = constructors.slvm()
  x = constructors.data(latents_of, steps=2)
  variables = constructors.randomized(latents_of, x)
  terms = constructors.apply(latents_of, variables, x, rngs={'sample': jax.random.key(0)})
  p, q, z = terms.latents.prior, terms.latents.posterior, terms.latents.z

  def log_prob(normal: Normal):
    scale = np.exp(np.asarray(normal.log_scale, np.float64))
    error = (np.asarray(z, np.float64) - normal.loc) / scale
    return (-0.5 * error**2 - np.log(scale) - 0.5 * np.log(2 * np.pi)).sum(axis=-1)

  np.testing.assert_allclose(
    terms.latents.log_ratio, log_prob(q) - log_prob(p), rtol=1e-4, atol=1e-5
  )
