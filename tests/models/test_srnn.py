"""SRNN and VRNN: which variable sees which, smoothing, and the sizes of the AVF paper."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import constructors

KEY = jax.random.key(0)


def terms_of(model, x, mask=None):
  variables = constructors.randomized(model, x, scale=0.3)
  given = constructors.given_noise(model, 0.4)
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

    a, b = state_after(0.4), state_after(jnp.array([-0.4, 1.1]))
    recurrent = (lambda s: s.latent[-1]) if moves else (lambda s: s.memory[-1])
    assert bool(jnp.any(recurrent(a) != recurrent(b))) == moves


def products_in_loops(program):
  """The parts of the model whose matrix products are in loops of a compiled program."""
  computations = dict(re.findall(r'^%?([\w.\-]+) [^\n]*\{\n(.*?)^\}', program, re.M | re.S))
  lines = []
  for body in re.findall(r' while\(.*?body=%?([\w.\-]+)', program):
    called = re.findall(r'(?:calls|to_apply)=%?([\w.\-]+)', computations[body])
    lines += [line for name in (body, *called) for line in computations[name].splitlines()]
  places = [re.search(r'op_name="([^"]*)"', line)[1] for line in lines if ' dot(' in line]
  return {next(part for part in PARTS if part in place) for place in places}


# The engine's step names them all; the compiler drops those that no later step needs.
PARTS = (
  *('embedding', 'observation_network', 'latent_network', 'decoder', 'likelihood'),
  *('prior_network/heads/log_scale', 'prior_network', 'inference', 'recurrence'),
)


@pytest.mark.parametrize(
  ('name', 'parts'),
  [
    ('srnn', {'recurrence', 'inference'}),
    ('srnn gru residual bernoulli', {'recurrence', 'prior_network', 'inference'}),
    ('vrnn', {'recurrence', 'latent_network', 'inference'}),
  ],
)
def test_only_what_is_recurrent_runs_in_loops(name, parts):
  """Encoders run before them; prior, decoder and likelihood after them, whatever a step says."""
  model = constructors.MODELS[name]()
  x = constructors.data(model)
  variables = constructors.randomized(model, x)
  noise = constructors.given_noise(model, 0.4)
  program = jax.jit(lambda x: model.apply({**variables, **noise}, x).elbo).lower(x).compile()
  assert products_in_loops(program.as_text()) == parts


def test_the_posterior_sees_the_latent_before_if_told():
  for sees in (False, True):
    model = constructors.srnn(posterior_sees_latent=sees)
    x = constructors.data(model)
    score = terms_of(model, x)
    moved = constructors.given_noise(model, 1.4)
    a, b = score(x), score(x, moved)
    changed = bool(jnp.any(a.latents.posterior.loc != b.latents.posterior.loc))
    assert changed == sees
    assert bool(jnp.any(a.latents.prior.loc[:, 1:] != b.latents.prior.loc[:, 1:]))


def test_a_smoothing_posterior_sees_the_future_and_no_padding():
  model = constructors.MODELS['srnn smoothing']()
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
  for name in ('srnn gru residual bernoulli', 'vrnn', 'srnn avf from residual'):
    model = constructors.MODELS[name]()
    x = constructors.data(model, steps=4)
    given = {
      **constructors.randomized(model, x),
      **constructors.given_noise(model, 0.4),
    }

    def by_steps(module, x):
      state = module.initial_state(x.shape[0])
      for t in range(x.shape[1]):
        state, _ = module.step(state, x[:, t])
      return state

    a = constructors.apply(model, given, x, method='condition')
    b = constructors.apply(model, given, x, method=by_steps)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), a, b)


@pytest.mark.parametrize('name', ['srnn', 'vrnn', 'srnn avf from residual'])
def test_unrolling_the_scan_changes_nothing(name):
  model = constructors.MODELS[name]()
  x = constructors.data(model, steps=6)
  variables = constructors.randomized(model, x)
  given = {**variables, **constructors.given_noise(model, 0.4)}
  expected = constructors.apply(model, given, x).elbo
  found = constructors.apply(model.copy(unroll=4), given, x).elbo
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def embedded(model, x, mask):
  return model.observe(model.initial_memory(len(x)), x, mask)[1].u


def test_dropout_takes_of_h_and_leaves_observations_whole():
  model = constructors.srnn().copy(dropout=0.5)
  x = constructors.data(model)
  variables = constructors.randomized(model, x)
  rngs = {'sample': jax.random.key(0), 'dropout': jax.random.key(1)}
  mask = jnp.ones(x.shape[:2], bool)
  whole, with_dropout = (
    constructors.apply(model, variables, x, mask, method=embedded, rngs=given)
    for given in (None, rngs)
  )
  np.testing.assert_array_equal(with_dropout, whole)
  given = {**variables, **constructors.given_noise(model, 0.4)}
  dropped = constructors.apply(model, given, x, mask, rngs=rngs).latents
  kept = constructors.apply(model, given, x, mask).latents
  assert not np.allclose(dropped.prior.loc[:, 1:], kept.prior.loc[:, 1:], rtol=1e-3)
