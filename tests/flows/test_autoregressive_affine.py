import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afslvm.flows.temporal import AutoregressiveAffine
from tests import constructors

WINDOW = 2


def make(conditioner=None, **options):
  """A flow with random variables, which see sequences long enough to create all of them."""
  flow = AutoregressiveAffine(conditioner or constructors.conv(normalization='none'), **options)
  x, mask = data(flow, 5)

  def init(key):
    return flow.init(key, x, mask, method='sequence_parameters')

  variables = jax.jit(init)(jax.random.key(0))
  leaves, tree = jax.tree.flatten(variables)
  keys = jax.random.split(jax.random.key(1), len(leaves))
  noisy = [v + 0.2 * jax.random.normal(k, v.shape) for k, v in zip(keys, leaves, strict=True)]
  return flow, jax.tree.unflatten(tree, noisy)


def data(flow, steps):
  x = jax.random.uniform(jax.random.key(3), (2, steps, *flow.conditioner.event_shape))
  return x, jnp.ones(x.shape[:2], bool)


@pytest.mark.parametrize('steps', [0, 1, WINDOW, WINDOW + 1, WINDOW + 3])
def test_context_leaves_the_first_window_alone(steps):
  flow, variables = make()
  x, mask = data(flow, steps)
  for parameter in flow.apply(variables, x, mask, method='sequence_parameters'):
    assert parameter.shape == (2, max(steps - WINDOW, 0), *x.shape[2:])


@pytest.mark.parametrize('steps', [1, WINDOW, WINDOW + 1, WINDOW + 3])
def test_learned_constants_fill_the_first_window(steps):
  flow, variables = make(boundary='learned')
  x, mask = data(flow, steps)
  shift, log_scale = flow.apply(variables, x, mask, method='sequence_parameters')
  assert shift.shape == log_scale.shape == x.shape
  first = min(steps, WINDOW)
  constants = flow.apply(variables, method='initial_parameters')
  for found, constant in zip((shift, log_scale), constants, strict=True):
    expected = np.broadcast_to(constant, found[:, :first].shape)
    np.testing.assert_array_equal(found[:, :first], expected)
  if steps > WINDOW:
    context = flow.copy(boundary='context')
    later = context.apply(_without_constants(variables), x, mask, method='sequence_parameters')
    np.testing.assert_allclose(shift[:, WINDOW:], later[0], rtol=1e-5, atol=1e-6)


def _without_constants(variables):
  params = {k: v for k, v in variables['params'].items() if not k.startswith('initial_')}
  return {**variables, 'params': params}


def test_the_last_step_conditions_nothing_yet():
  """Parameters of steps 0..T-1 don't see step T-1; `next_parameters` has one step more."""
  flow, variables = make()
  x, mask = data(flow, 5)
  before = flow.apply(variables, x, mask, method='sequence_parameters')
  after = flow.apply(variables, x.at[:, -1].add(1.0), mask, method='sequence_parameters')
  for a, b in zip(before, after, strict=True):
    np.testing.assert_array_equal(a, b)
  features = flow.apply(variables, x, method='encode')
  following = flow.apply(variables, features, method='next_parameters')
  for a, b in zip(before, following, strict=True):
    assert b.shape[1] == a.shape[1] + 1
    np.testing.assert_allclose(a, b[:, :-1], rtol=1e-5, atol=1e-6)


RANGES = {
  'smooth': ({'log_scale_low': -3.0, 'log_scale_high': 1.0}, -3.0, 1.0),
  'symmetric': ({'log_scale_high': 1.5}, -1.5, 1.5),
  'paper': ({}, -np.inf, np.log(10)),
}


@pytest.mark.parametrize('bound', RANGES)
def test_log_scales_keep_their_bound(bound):
  options, low, high = RANGES[bound]
  flow, variables = make(log_scale_bound=bound, **options)
  variables = jax.tree.map(lambda leaf: 40.0 * leaf, variables)
  _, log_scale = flow.apply(variables, *data(flow, 6), method='sequence_parameters')
  rounding = 1e-5
  assert low - rounding <= float(log_scale.min()) < 0
  assert 0.9 * high < float(log_scale.max()) <= high + rounding


@pytest.mark.parametrize(
  ('activation', 'expected'),
  [('linear', lambda raw: raw), ('sigmoid', lambda raw: 1 / (1 + np.exp(3 - raw)))],
)
def test_shift_activations(activation, expected):
  flow, variables = make(shift_activation=activation)
  x, mask = data(flow, 6)
  linear = flow.copy(shift_activation='linear')
  raw = linear.apply(variables, x, mask, method='sequence_parameters')[0]
  shift = flow.apply(variables, x, mask, method='sequence_parameters')[0]
  np.testing.assert_allclose(shift, expected(np.asarray(raw)), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('normalization', ['batch', 'group', 'none'])
def test_low_precision_stays_inside_the_hidden_layers(normalization):
  """bfloat16 convolutions; parameters, shift, log-scale, terms and log-det are float32."""
  conditioner = constructors.conv(normalization=normalization, compute_dtype='bfloat16')
  model = constructors.flows(2, conditioner)
  x = constructors.data(model)
  variables = constructors.randomized(model, x)
  assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype('float32')}
  terms, shown = jax.jit(lambda x: model.apply(variables, x, mutable=['visuals']))(x)
  arrays = [terms.log_likelihood, terms.log_det, terms.elbo, *jax.tree.leaves(shown)]
  assert {array.dtype for array in arrays} == {jnp.dtype('float32')}
  jaxpr = str(jax.make_jaxpr(lambda x: model.apply(variables, x).elbo)(x))
  assert 'bf16' in jaxpr

  exact = constructors.flows(2, conditioner.copy(compute_dtype='float32'))
  expected = jax.jit(lambda x: exact.apply(variables, x).elbo)(x)
  np.testing.assert_allclose(terms.elbo, expected, rtol=0.02, atol=0.5)

  def draw(context):
    rngs = {'sample': jax.random.key(0)}
    return model.apply(variables, context, 2, method='generate', rngs=rngs)

  assert jax.eval_shape(draw, x[:, : model.min_context]).dtype == jnp.float32
