"""What the engine does for every leaf: steps that are given, clean inputs, initialisation."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afslvm.models import filtering
from afslvm.models.transformed import Bijection, Transformed
from afslvm.networks.mlp import join
from afslvm.networks.recurrent import Recurrence
from tests import constructors, oracles
from tests import linear_gaussian as lg

KEY = jax.random.key(0)


def score(model, x, noise=0.4, scale=0.3):
  variables = {**constructors.randomized(model, x, scale=scale)}
  return constructors.apply(model, {**variables, **constructors.given_noise(model, noise)}, x)


# ---- steps that are given ------------------------------------------------------------------------


@pytest.mark.parametrize('given', [0, 2])
def test_smoothing_after_given_steps_reaches_the_likelihood_of_the_others(given):
  """They draw no latent variable, so the posterior of none of them can tell what is to come."""
  x = lg.sequences(1, 7)
  model = lg.make(future=True).copy(given=given)
  terms = model.apply({}, jnp.array(x, jnp.float32), rngs={'sample': KEY})
  exact = oracles.kalman_log_likelihood(x[0, given:], *lg.PARAMETERS)
  np.testing.assert_allclose(terms.log_weight.sum(), exact, rtol=1e-5)
  np.testing.assert_array_equal(terms.scored[0], np.arange(7) >= given)
  assert (model.num_context, model.min_context) == (given, given)


@pytest.mark.parametrize('name', ['srnn given', 'vrnn given', 'conv srnn smoothing'])
def test_given_steps_are_seen_and_nothing_of_their_latents_is(name):
  model = constructors.MODELS[name]()
  x = constructors.data(model)
  noise = jax.random.normal(KEY, (*x.shape[:2], model.latent_size))
  before = score(model, x, noise)
  moved = score(model, x, noise.at[:, : model.given].add(1.0))
  np.testing.assert_array_equal(before.elbo, moved.elbo)
  seen = score(model, x.at[:, 0].add(0.3), noise)
  assert np.all(np.asarray(before.elbo != seen.elbo)[:, model.given])


# ---- clean inputs --------------------------------------------------------------------------------


def test_with_clean_inputs_only_the_likelihood_sees_the_noise():
  model = constructors.conv_srnn(clean_inputs=True)
  levels = jax.random.randint(KEY, (2, 4, *constructors.FRAME), 0, 256)
  one, other = ((levels + u) / 256 for u in (0.1, 0.8))
  a, b = score(model, one), score(model, other)
  jax.tree.map(np.testing.assert_array_equal, a.latents, b.latents)
  assert np.all(np.asarray(a.log_likelihood != b.log_likelihood))
  noisy = score(model.copy(clean_inputs=False), other).latents.posterior.loc
  assert np.all(np.asarray(noisy != b.latents.posterior.loc))


def test_clean_inputs_have_no_level_above_the_highest():
  model = constructors.conv_srnn(clean_inputs=True)
  np.testing.assert_array_equal(model.inputs(jnp.array([0.0, 0.999, 1.0])) * 256, [0, 255, 255])


# ---- contexts under flows ----------------------------------------------------------------------


def test_a_context_under_a_flow_is_filtered_as_it_would_be_without():
  """All of it at once, so that a posterior that smooths sees what comes later."""
  base = constructors.srnn('gru', inference=constructors.direct(backward=Recurrence(3, 'gru')))
  base = base.copy(posterior_sees_latent=True)
  model = Scaled(constructors.VECTOR, base=base)
  x = constructors.data(model)
  variables = constructors.randomized(model, x)
  inner = {'params': variables['params']['base'], **constructors.given_noise(base, 0.4)}
  given = {**variables, **constructors.given_noise(model, 0.4)}
  found = model.apply(given, x, method='condition').base
  expected = base.apply(inner, x / 2, method='condition')
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), found, expected)


# ---- initialisation ------------------------------------------------------------------------------


class Centered(nn.Module):
  """Passes its inputs on, less the mean that they had when it was initialised."""

  @nn.compact
  def __call__(self, inputs, mask=None):
    h = join(inputs)
    mean = self.param('mean', lambda _: h.mean(axis=0))
    return h - mean


@pytest.mark.parametrize('flow', [False, True])
@pytest.mark.parametrize('inference', ['direct', 'avf'])
def test_initialisation_sees_the_conditioning_of_every_step(inference, flow):
  """A data-dependent initialiser gets what training computes from the first batch."""
  own = {'direct': constructors.direct, 'avf': constructors.avf}[inference]()
  model = constructors.srnn(inference=own).copy(decoder=Centered())
  if flow:
    model = constructors.flows(1, constructors.dense(), base=model)
  x = constructors.data(model)
  keys = {'params': KEY, 'sample': KEY}
  initialize = jax.jit(
    lambda *data: model.init(keys, *data, method='initialize', mutable=('params',))
  )
  variables = initialize(x, jnp.ones(x.shape[:2], bool))
  padded = jnp.concatenate([x, jnp.full_like(x, jnp.nan)], axis=1)
  finite = initialize(padded, jnp.arange(2 * x.shape[1]) < jnp.full((len(x), 1), x.shape[1]))
  assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(finite))
  params = variables['params']['base'] if flow else variables['params']

  def features(model, x):
    """Returns the mean of what the decoder gets of h over all steps."""
    y, _ = model.without_flows(x, jnp.ones(x.shape[:2], bool))
    core = model.core
    state = core.initial_state(len(y))
    state, prepared = filtering.prepare(core, state, y, jnp.ones(y.shape[:2], bool))
    h = prepared.seen.h
    return h.mean(axis=(0, 1))

  expected = model.apply(variables, x, method=features)
  np.testing.assert_allclose(params['decoder']['mean'][:4], expected, rtol=1e-4, atol=1e-5)
  assert model.core.latent_size == len(params['decoder']['mean']) - 4


# ---- wrappers ------------------------------------------------------------------------------------


class Scaled(Transformed):
  """x = scale y, frame by frame: the least that a wrapper can be."""

  scale: float = 2.0

  def inverse(self, x, mask):
    return x / self.scale, jnp.full(x.shape[:2], -self._log_det)

  def at_step(self, past, mask_t=None):
    def forward(y):
      return self.scale * y, jnp.full(len(y), self._log_det)

    def inverse(x):
      return x / self.scale, jnp.full(len(x), -self._log_det)

    return Bijection(forward, inverse, jnp.array(True))

  @property
  def _log_det(self):
    return self.event_shape[0] * np.log(self.scale)


def test_a_wrapper_states_its_bijection_and_no_more():
  base = constructors.srnn()
  model = Scaled(constructors.VECTOR, base=base)
  x = constructors.data(model)
  variables = constructors.randomized(model, x)
  noise = constructors.given_noise(base, 0.4)
  inner = {'params': variables['params']['base'], **noise}
  expected = constructors.apply(base, inner, x / 2)
  given = {**variables, **constructors.given_noise(model, 0.4)}
  terms = constructors.apply(model, given, x)
  np.testing.assert_allclose(terms.elbo, expected.elbo - 3 * np.log(2), rtol=1e-5)

  def generate(model, variables, x):
    return model.apply(variables, x, 2, 0.0, method='generate', rngs={'sample': KEY})

  drawn, same = generate(model, given, x), generate(base, inner, x / 2)
  np.testing.assert_allclose(drawn, 2 * same, rtol=1e-4, atol=1e-6)
