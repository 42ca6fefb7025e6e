"""Box-logistic flows: density by hand, sampling against scoring, nothing overflows, configs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afslvm import building
from afslvm.errors import ConfigError
from afslvm.flows.box_logistic import AutoregressiveBoxLogistic
from afslvm.likelihoods.gaussian import Gaussian
from afslvm.models.standard_normal import StandardNormal
from tests import constructors, oracles

RNGS = {'sample': jax.random.key(1)}
LABELS = {
  'moving_digits/af1': '1-AF box',
  'moving_digits/af2': '2-AF box',
  'moving_digits/slvm_af1': 'SLVM + 1-AF box',
}
BOXED = {'model.transform': 'box_logistic', 'data.dequantisation': 'uniform'}


def made(model, x, scale=0.3):
  return constructors.randomized(model, x, scale=scale)


@pytest.mark.parametrize('components', [1, 3])
def test_a_flow_alone_has_the_density_of_its_parameters(components):
  """With log-scales around that of the box, for all steps of a sequence."""
  conditioner = constructors.dense(components=components)
  model = constructors.boxed(conditioner, boundary='learned', log_scale_high=0.1)
  x = 0.5 + 0.05 * jax.random.normal(jax.random.key(5), (3, 6, *model.event_shape))
  variables = made(model, x)
  params = variables['params']['flow']
  params['initial_log_scale'] -= 5.0
  params['conditioner']['log_scale_head']['bias'] -= 5.0

  @jax.jit
  def score(x):
    everywhere = jnp.ones(x.shape[:2], bool)
    terms = model.apply(variables, x)
    parameters = model.apply(
      variables, x, everywhere, method=lambda m, *given: m.flow.sequence_parameters(*given)
    )
    return terms.elbo, parameters

  elbo, parameters = score(x)
  assert np.log(0.2 / 256) < np.median(parameters[1]) < np.log(10 / 256)
  log_density = oracles.box_logistic(x, *parameters)[2].astype(float)
  np.testing.assert_allclose(elbo, log_density.sum(axis=-1), rtol=1e-5, atol=1e-4)


def test_one_component_has_the_parameters_of_an_affine_flow():
  """So checkpoints have one layout, whatever the transform."""
  x = jnp.zeros((1, 4, *constructors.FRAME))
  trees = [
    jax.eval_shape(lambda m=m: m.init(jax.random.key(0), x, method='initialize'))
    for m in (
      constructors.boxed(constructors.conv(), boundary='learned'),
      constructors.flows(1, constructors.conv(), boundary='learned'),
    )
  ]
  assert trees[0] == trees[1]


@pytest.mark.parametrize('components', [1, 3])
def test_no_raw_parameter_and_no_value_loses_a_step(components):
  """Raw parameters of ±1e4 and frames far outside the range of data have finite gradients."""
  flow = AutoregressiveBoxLogistic(constructors.dense(components=components))
  grid = np.meshgrid([-1e3, -1.0, 0.0, 0.5, 1.0, 1e3], *[[-1e4, -3.0, 0.0, 1e4]] * 2)
  x, shift, log_scale = (jnp.asarray(v.reshape(-1, 1), jnp.float32) for v in grid)
  raw = (shift, log_scale)
  if components > 1:
    signs = jnp.array([1.0, -1.0, 0.5])
    raw = tuple(value[..., None] * signs for value in (shift, log_scale, shift - log_scale))

  @jax.jit
  @jax.grad
  def gradient(given):
    x, raw = given
    y, log_det = flow.inverse(x, flow.parameters(*raw))
    return jnp.sum(log_det) - 0.5 * jnp.sum(jnp.square(y))

  for leaf in jax.tree.leaves(gradient((x, raw))):
    assert np.all(np.isfinite(leaf))


def test_components_that_begin_alike_part():
  """Zero heads give every component the same shift, and gradients that differ."""
  model = constructors.boxed(constructors.dense(components=3))
  x = constructors.data(model)
  variables = model.init(jax.random.key(0), x, method='initialize')
  gradient = jax.jit(jax.grad(lambda v: -model.apply(v, x).elbo.mean()))(variables)
  bias = gradient['params']['flow']['conditioner']['shift_head']['bias']
  first, second, third = np.asarray(bias).reshape(-1, 3).T
  assert np.abs(first - second).min() > 1e-3
  assert np.abs(second - third).min() > 1e-3


@pytest.mark.parametrize('components', [1, 3])
def test_what_it_shows_is_of_one_step_each(components):
  """Rows of Fig. 4 have the shape of data, whatever the number of components."""
  model = constructors.boxed(constructors.dense(components=components), log_scale_low=-4.0)
  x = constructors.data(model)
  variables = made(model, x)
  variables['params']['flow']['conditioner']['log_scale_head']['bias'] -= 1e3
  apply = jax.jit(lambda x: model.apply(variables, x, mutable=['visuals', 'diagnostics'])[1])
  shown = apply(x)
  rows = {name: values[0] for name, values in shown['visuals'].items()}
  expected = (x.shape[0], x.shape[1] - model.min_context, *model.event_shape)
  assert {name: row.shape for name, row in rows.items()} == dict.fromkeys(
    ('shift', 'scale', 'y'), expected
  )
  np.testing.assert_allclose(rows['scale'], np.exp(-4.0), rtol=1e-3)
  np.testing.assert_array_equal(shown['diagnostics']['saturation'][0], np.ones(expected[:2]))


# ---- sampling and scoring ------------------------------------------------------------------------


class GivenNormal(StandardNormal):
  """N(0, I) whose noise is given in the collection `noise`."""

  def predict(self, state, temperature=1.0, limit=None):
    return state, self.get_variable('noise', 'normal')


class GivenGaussian(Gaussian):
  """A normal likelihood whose noise is given in the collection `noise`."""

  def sample(self, features, key, temperature=1.0):
    return self.distribution(features).sample(self.get_variable('noise', 'normal'), temperature)


def log_normal(values):
  return -0.5 * np.sum(np.square(values) + np.log(2 * np.pi))


def test_sampler_equals_scorer_of_a_tower_of_flows():
  """log p(x_t | past) = log N(noise) - log|det dx_t / dnoise|, through all of `predict`."""
  shape = constructors.VECTOR
  base = constructors.flows(1, constructors.dense(), base=GivenNormal(shape), boundary='learned')
  for components in (1, 3):
    conditioner = constructors.dense(components=components)
    model = constructors.boxed(conditioner, base=base, boundary='learned')
    x = constructors.data(model, batch=1, steps=4)
    variables = made(model, x)
    state = jax.jit(lambda x, m=model, v=variables: m.apply(v, x, method='condition'))(x)

    @jax.jit
    def predict(noise, model=model, variables=variables, state=state):
      given = {**variables, 'noise': {'base': {'base': {'normal': noise[None]}}}}
      return model.apply(given, state, method='predict', rngs=RNGS)[1][0]

    noise = jnp.array([0.3, -1.7, 2.4])
    drawn = predict(noise)
    step = jax.jit(lambda x_t, m=model, v=variables, s=state: m.apply(v, s, x_t, method='step'))
    _, terms = step(drawn[None])
    expected = log_normal(np.asarray(noise)) - oracles.dense_log_det(predict, noise)
    np.testing.assert_allclose(terms.elbo[0], expected, rtol=1e-4, atol=1e-3)


def test_sampler_equals_scorer_around_a_latent_variable_model():
  """log p(x_t | z_t, past) = log N(noise) - log|det dx_t / dnoise|, at the prior's mean z_t."""
  base = constructors.slvm().copy(likelihood=GivenGaussian(constructors.VECTOR))
  model = constructors.boxed(constructors.dense(), base=base, boundary='learned')
  x = constructors.data(model, batch=1, steps=4)
  variables = made(model, x)
  size = constructors.LATENT

  def given(latent):
    return {**variables, **constructors.given_noise(model, latent[None, None])}

  @jax.jit
  def condition(x):
    state = model.apply(variables, 1, method='initial_state')
    for t in range(x.shape[1]):
      state, _ = model.apply(given(jnp.ones(size)), state, x[:, t], method='step', rngs=RNGS)
    return state

  @jax.jit
  def predict(noise):
    of_x = {'noise': {'base': {'likelihood': {'normal': noise[None]}}}}
    temperature = (0.0, 1.0)
    drawn = model.apply({**variables, **of_x}, state, temperature, method='predict', rngs=RNGS)
    return drawn[1][0]

  @jax.jit
  def step(x_t, latent):
    return model.apply(given(latent), state, x_t[None], method='step', rngs=RNGS)[1]

  state, noise = condition(x), jnp.array([0.3, -1.7, 2.4])
  x_t = predict(noise)
  latents = step(x_t, jnp.zeros(size)).latents
  mean = latents.prior.loc[0]
  # The noise with which the posterior draws that mean.
  away = (mean - latents.posterior.loc[0]) * jnp.exp(-latents.posterior.log_scale[0])
  terms = step(x_t, away)
  np.testing.assert_allclose(terms.latents.z[0], mean, rtol=1e-4, atol=1e-5)
  expected = log_normal(np.asarray(noise)) - oracles.dense_log_det(predict, noise)
  found = terms.log_likelihood[0] - terms.log_det[0]
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


# ---- configs -------------------------------------------------------------------------------------


@pytest.mark.parametrize('name', LABELS)
def test_a_flow_nearest_the_data_is_chosen_by_a_key(name):
  parts = building.build(name, BOXED)
  assert isinstance(parts.model.flow, AutoregressiveBoxLogistic)
  assert building.label(parts.config['model']) == LABELS[name]
  assert building.build(name).model.flow.keeps_normal


WRONG = {
  'other noise': (
    {'data.dequantisation': 'gauss256'},
    "model.transform='box_logistic' needs data.dequantisation='uniform', not 'gauss256'",
  ),
  'inner flow': ({'model.base.transform': 'box_logistic'}, "model.base.transform='box_logistic'"),
  'unknown': ({'model.transform': 'box_logistics'}, 'did you mean "box_logistic"'),
  'no lower bound': ({'model.log_scale_bound': 'paper'}, "model.log_scale_bound='paper'"),
  'no components': ({'model.conditioner.components': 0}, 'must be at least 1'),
  'affine mixture': (
    {'model.transform': 'affine', 'model.conditioner.components': 2},
    "model.conditioner.components=2 needs model.transform='box_logistic'",
  ),
}


@pytest.mark.parametrize('name', WRONG)
def test_mistakes_are_one_line(name):
  overrides, words = WRONG[name]
  with pytest.raises(ConfigError) as caught:
    building.build('moving_digits/af2', {**BOXED, **overrides})
  assert words in str(caught.value)
  assert '\n' not in str(caught.value)
