"""Laws that every sequence model obeys, over the table of constructors."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afslvm.models import filtering
from afslvm.objectives.objective import Carried, ObjectiveSettings, make_loss
from afslvm.transforms import affine
from tests import constructors, oracles
from tests.thorough import some_of

every_model = pytest.mark.parametrize('name', constructors.MODELS)
# A posterior that smooths has no step by step form, and lets the future in, which is its point.
every_filter = pytest.mark.parametrize(
  'name', [name for name in constructors.MODELS if 'smoothing' not in name]
)
has_parameters = pytest.mark.parametrize(
  'name', [name for name in constructors.MODELS if name != 'standard_normal']
)
every_flow = pytest.mark.parametrize('name', constructors.FLOWS)
every_affine_flow = pytest.mark.parametrize(
  'name', [name for name in constructors.FLOWS if 'box' not in name]
)
RNGS = {'sample': jax.random.key(7)}
# One of each kind of flow, latent model, inference and gradients; the others differ in details.
MANY_KINDS = (
  *('1-AF conv batch context', '2-AF dense learned', 'flow around recurrent batch'),
  *('flow around slvm with a flow in its prior', '2 flows around slvm dcgan batch'),
  *('flow around slvm avf', 'srnn smoothing', 'srnn avf from residual', 'vrnn', 'svg dcgan batch'),
)


@functools.cache
def make(name):
  model = constructors.MODELS[name]()
  x = constructors.data(model)
  return model, constructors.randomized(model, x), x


@functools.partial(jax.jit, static_argnums=0)
def terms_of(model, variables, x):
  """Compiled once per model and shape."""
  return model.apply(variables, x, rngs=RNGS)


@functools.partial(jax.jit, static_argnums=0)
def step_of(model, variables, state, x_t, noise):
  """One step on noise [B, Z]; compiled once per model."""
  given = {**variables, **constructors.given_noise(model, noise[:, None])}
  return model.apply(given, state, x_t, method='step')


@functools.partial(jax.jit, static_argnums=(0, 2))
def initial_state(model, variables, batch_size):
  return model.apply(variables, batch_size, method='initial_state')


@functools.partial(jax.jit, static_argnums=0, static_argnames='gradients')
def gradients_of(model, variables, x, mask, gradients='bptt'):
  """(loss, new state) and gradients on given noise; compiled once per model and shape."""
  collections = {k: v for k, v in variables.items() if k != 'params'}
  collections.update(constructors.given_noise(model, 0.4))
  loss = make_loss(ObjectiveSettings(gradients=gradients), model, 'none')
  gradient = jax.value_and_grad(loss, has_aux=True)
  batch, params = {'x': x, 'mask': mask}, variables.get('params', {})
  (loss, outcome), grads = gradient(params, Carried(collections), batch, jax.random.key(0), 0)
  return (loss, outcome.carried.collections), grads


def noise_of(model, x):
  """Returns noise of the latent variables at the steps that the core sees."""
  seen = x.shape[1] - constructors.unseen(model)
  size = getattr(model.core, 'latent_size', 0)
  return jax.random.normal(jax.random.key(3), (x.shape[0], seen, size))


def given_terms_of(model, variables, x):
  return terms_of(model, {**variables, **constructors.given_noise(model, noise_of(model, x))}, x)


@every_filter
def test_parallel_equals_stepwise(name):
  """For latent variable models: what is hoisted out of the scan equals the steps."""
  model, variables, x = make(name)
  noise = noise_of(model, x)
  state, steps = initial_state(model, variables, x.shape[0]), []
  for t in range(x.shape[1]):
    index = max(t - constructors.unseen(model), 0)
    state, terms = step_of(model, variables, state, x[:, t], noise[:, index])
    steps.append(terms)
  expected = jax.tree.map(lambda *values: np.stack(values, axis=1), *steps)
  found = given_terms_of(model, variables, x)
  np.testing.assert_array_equal(found.scored, expected.scored)
  for term in ('log_likelihood', 'kl', 'log_det', 'log_weight'):
    a, b = getattr(found, term), getattr(expected, term)
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
  if name in constructors.LATENT_MODELS:
    scored = np.asarray(found.scored)
    a, b = (np.asarray(terms.latents.z)[scored] for terms in (found, expected))
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
    assert a.std() > 0.5


@every_model
def test_scored_steps_and_zeros_elsewhere(name):
  model, variables, x = make(name)
  terms = given_terms_of(model, variables, x)
  expected = np.arange(x.shape[1]) >= model.min_context
  np.testing.assert_array_equal(terms.scored, np.broadcast_to(expected, x.shape[:2]))
  assert np.all(np.asarray(terms.elbo)[:, ~expected] == 0)
  assert np.all(np.asarray(terms.elbo)[:, expected] != 0)


@every_filter
def test_future_frames_do_not_change_past_terms(name):
  model, variables, x = make(name)
  before = given_terms_of(model, variables, x)
  for t in (model.min_context, x.shape[1] - 1):
    after = given_terms_of(model, variables, x.at[:, t].add(0.37))
    np.testing.assert_array_equal(before.elbo[:, :t], after.elbo[:, :t])
    assert np.all(np.asarray(before.elbo[:, t]) != np.asarray(after.elbo[:, t]))


def padded_gradients(name, padding):
  """Gradients for x with one more sequence and one more step, which hold `padding`."""
  model, variables, x = make(name)
  more = jnp.concatenate([x, jnp.full_like(x[:, :1], padding)], axis=1)
  more = jnp.concatenate([more, jnp.full_like(more[:1], padding)])
  mask = jnp.ones(more.shape[:2], bool).at[:, -1].set(False).at[-1].set(False)
  return gradients_of(model, variables, more, mask)


@every_model
def test_padding_changes_nothing(name):
  """Not the loss, nor any gradient, nor the batch statistics, even where it is NaN."""
  found, other = padded_gradients(name, 0.7), padded_gradients(name, jnp.nan)
  jax.tree.map(np.testing.assert_array_equal, found, other)


@pytest.mark.parametrize('name', some_of(constructors.MODELS, MANY_KINDS))
def test_gradients_are_those_without_padding(name):
  """So are the loss and the batch statistics."""
  model, variables, x = make(name)
  (loss, state), grads = gradients_of(model, variables, x, jnp.ones(x.shape[:2], bool))
  (padded, padded_state), padded_grads = padded_gradients(name, jnp.nan)
  np.testing.assert_allclose(padded, loss, rtol=1e-5)
  for tree, other in ((grads, padded_grads), (state, padded_state)):
    largest = max((np.abs(leaf).max() for leaf in jax.tree.leaves(tree)), default=0.0)
    jax.tree.map(functools.partial(assert_close, largest), tree, other)


def assert_close(largest, a, b):
  """To a thousandth of the largest entry, but for the noise of what cancels before BatchNorm.

  That is of rounding sums whose terms are as `largest`, of the whole tree.
  """
  noise = 2e-4 + 1e-6 * largest
  np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-3 * np.abs(a).max() + noise)


@has_parameters
def test_every_parameter_receives_gradient(name):
  grads = padded_gradients(name, jnp.nan)[1]
  for path, leaf in jax.tree_util.tree_leaves_with_path(grads):
    assert np.all(np.isfinite(leaf)), path
    name_of_leaf = jax.tree_util.keystr(path)
    before_batch_norm = 'batch' in name and 'likelihood' not in name_of_leaf
    if before_batch_norm and "['conv']['bias']" in name_of_leaf:
      continue  # a bias before BatchNorm is part of the papers' counts; its gradient cancels
    assert np.any(np.asarray(leaf) != 0), f'{name_of_leaf} gets no gradient'


@every_flow
def test_log_det_matches_dense_jacobian(name):
  model, variables, x = make(name)
  x = x[:1, : model.min_context + 3]
  start = model.min_context

  def normalized(tail):
    """The innermost y of a sequence whose context is given."""
    sequence = jnp.concatenate([x[:, :start], tail], axis=1)
    level, module_path = sequence, []
    while hasattr(_submodule(model, module_path), 'flow'):
      level = _normalized(model, variables, level, tuple(module_path))
      module_path.append('base')
    return level[:, -tail.shape[1] :]

  terms = terms_of(model, variables, x)
  expected = oracles.dense_log_det(normalized, x[:, start:])
  np.testing.assert_allclose(-float(terms.log_det.sum()), expected, rtol=1e-3, atol=1e-3)


@functools.partial(jax.jit, static_argnums=(0, 3))
def _normalized(model, variables, level, path):
  return model.apply(variables, level, method=lambda m, v: _submodule(m, path).normalize(v))


def _submodule(model, path):
  for name in path:
    model = getattr(model, name)
  return model


@every_affine_flow
def test_the_density_is_normal_in_y_plus_log_det(name):
  """Eq. 7-9 put together by hand from shifts and scales that the model shows."""
  model, variables, x = make(name)
  terms, shown = constructors.apply(model, variables, x, rngs=RNGS, mutable=('visuals',))
  visuals, level, log_scale = shown['visuals'], x, 0.0
  steps = x.shape[1] - model.min_context
  while 'scale' in visuals:
    scale, shift = visuals['scale'][0], visuals['shift'][0]
    level = (level[:, -scale.shape[1] :] - shift) / scale
    log_scale = log_scale + np.log(scale).reshape(*scale.shape[:2], -1).sum(-1)[:, -steps:]
    visuals = visuals.get('base', {})
  y = np.asarray(level, np.float64)[:, -steps:].reshape(x.shape[0], steps, -1)
  log_prob = -0.5 * (y**2 + np.log(2 * np.pi)).sum(-1) - log_scale
  np.testing.assert_allclose(terms.elbo[:, -steps:], log_prob, rtol=1e-4, atol=1e-3)


@every_flow
@pytest.mark.parametrize('parallel', [False, True], ids=['scan', 'jacobi'])
def test_generating_undoes_normalizing(name, parallel):
  """Given the noise of a sequence and its context, both samplers give the sequence back."""
  model, variables, x = make(name)
  context = model.num_context
  if model.min_context == 0:
    context = 1  # also start inside the learned boundary
  y = x
  for depth in range(name.count('AF') and int(name[0])):
    y = _normalized(model, variables, y, ('base',) * depth)
  noise = tuple(np.asarray(y[:, y.shape[1] - (x.shape[1] - context) :], float).ravel())
  base = oracles.GivenNoise(model.event_shape, noise=noise)
  generator = _with_base(model, base)
  generate = jax.jit(
    lambda c: generator.apply(
      variables, c, x.shape[1] - context, 1.0, parallel, method='generate', rngs=RNGS
    )
  )
  np.testing.assert_allclose(generate(x[:, :context]), x[:, context:], rtol=1e-3, atol=1e-3)


def _with_base(model, base):
  inner = _with_base(model.base, base) if hasattr(model, 'base') else None
  return model.copy(base=inner) if inner is not None else base


@pytest.mark.parametrize(
  'name', [name for name in constructors.MODELS if name not in constructors.LATENT_MODELS]
)
def test_generated_steps_are_scored_as_by_the_whole_model(name):
  """Generation continues the filter's state: temperature 0 draws the mode of each step.

  At a distance, for a posterior that sees x moves the mode a little.
  """
  model, variables, x = make(name)
  context = x[:, : max(model.min_context, 1)]
  generate = jax.jit(lambda c: model.apply(variables, c, 3, 0.0, method='generate', rngs=RNGS))
  drawn = generate(context)
  sequence = jnp.concatenate([context, drawn], axis=1)
  best = terms_of(model, variables, sequence).elbo[:, context.shape[1]]
  worse = terms_of(model, variables, sequence.at[:, context.shape[1]].add(0.3))
  assert np.all(np.asarray(best) > np.asarray(worse.elbo[:, context.shape[1]]))
  np.testing.assert_array_equal(drawn, generate(context))


@pytest.mark.parametrize('name', some_of(constructors.LATENT_MODELS, MANY_KINDS[3:]))
def test_generation_continues_the_filter(name):
  """The first step drawn has the prior, and the decoder's mean, that scoring it would use."""
  model, variables, x = make(name)
  core, context = model.core, x[:, : max(model.min_context + 1, 3)]
  noise = jnp.tile(jnp.resize(jnp.array([0.4, -1.1]), core.latent_size), (x.shape[0], 1))
  filtered = initial_state(model, variables, x.shape[0])
  for t in range(context.shape[1]):
    filtered = step_of(model, variables, filtered, context[:, t], noise)[0]
  given = {**variables, **constructors.given_noise(model, noise[:, None])}
  drawn = jax.jit(lambda c: model.apply(given, c, 2, 0.0, method='generate', rngs=RNGS))(context)
  # Scored at its own prior mean: log-likelihood is at its mode there, whatever the flow does.
  terms = step_of(model, variables, filtered, x[:, 0], noise)[1]
  decode = jax.jit(lambda s, z: model.apply(given, s, z, method=decoded_mean, rngs=RNGS))
  expected = decode(filtered, terms.latents.prior.loc)
  np.testing.assert_allclose(drawn[:, 0], expected, rtol=1e-4, atol=1e-5)
  if 'bernoulli' not in name:  # whose mode may stay
    assert float(jnp.abs(drawn[:, 1] - drawn[:, 0]).max()) > 0


def decoded_mean(model, state, z):
  """Returns what temperature 0 draws given z: the mode, for binary data."""
  core, inner = model.core, state
  while hasattr(inner, 'base'):
    inner = inner.base
  unknown = jnp.full((len(z), 1, *core.event_shape), jnp.nan)
  everywhere = jnp.ones((len(z), 1), bool)
  seen = filtering.at_step(core.observe(inner.memory, unknown, everywhere)[1], 0)
  features = core.emission(inner.latent, z, seen, everywhere[:, 0])
  return through_flows(model, state, core.likelihood.sample(features, jax.random.key(0), 0.0))


def through_flows(model, state, y):
  """x of a y that the core gives, by the parameters of every flow's next step."""
  if model.core is model:
    return y
  shift, log_scale, _ = model.flow.step_parameters(state.past)
  y = through_flows(model.base, state.base, y)
  if not model.flow.keeps_normal:
    # The logistic's quantile: at scales near one its box is far too narrow to be seen.
    y = jax.scipy.special.log_ndtr(y) - jax.scipy.special.log_ndtr(-y)
  return shift + jnp.exp(log_scale) * y


@pytest.mark.parametrize('boundary', ['context', 'learned'])
@pytest.mark.parametrize('name', ['standard_normal', 'slvm mlp'])
def test_identity_flow_reduces_to_base_model(name, boundary):
  """Zero heads: a fresh flow leaves the base model's terms."""
  base, conditioner = constructors.MODELS[name](), constructors.dense()
  if name == 'standard_normal':
    base, conditioner = base.copy(event_shape=constructors.FRAME), constructors.conv()
  model = constructors.flows(2, conditioner, base=base, boundary=boundary)
  x = constructors.data(model)
  skipped = model.min_context
  noise = jax.random.normal(jax.random.key(3), (x.shape[0], x.shape[1] - skipped, 2))
  keys = {'params': jax.random.key(0), 'sample': jax.random.key(0)}
  variables = jax.jit(lambda x: model.init(keys, x, method='initialize'))(x)
  inner = {'params': variables['params'].get('base', {}).get('base', {})}
  given = {**inner, **constructors.given_noise(base, noise)}
  expected = constructors.apply(base, given, x[:, skipped:])
  expected = np.pad(np.asarray(expected.elbo), [(0, 0), (skipped, 0)])
  given = {**variables, **constructors.given_noise(model, noise)}
  terms = constructors.apply(model, given, x)
  np.testing.assert_allclose(terms.elbo, expected, rtol=1e-5)
  np.testing.assert_array_equal(terms.log_det, 0.0)


@pytest.mark.parametrize(
  'name',
  [
    *('2-AF dense learned', '1-AF conv batch context', '2-AF box-logistic mixture learned'),
    'videoflow with flows inside',
  ],
)
def test_draws_are_clipped_before_anything_depends_on_them(name):
  """What follows a clipped step is what would follow it if it were data, in every flow."""
  model = constructors.MODELS[name]().copy(value_range=(0.4, 0.6))
  x = constructors.data(model)
  variables = constructors.randomized(model, x, scale=1.0)
  context = x[:, : max(model.min_context, 1)]

  def generate(context, steps):
    run = jax.jit(lambda c: model.apply(variables, c, steps, 0.0, method='generate', rngs=RNGS))
    return run(context)

  drawn = generate(context, 3)
  assert np.asarray((drawn == 0.4) | (drawn == np.float32(0.6))).mean() > 0.2
  assert drawn.min() >= 0.4
  assert drawn.max() <= np.float32(0.6)
  again = generate(jnp.concatenate([context, drawn[:, :2]], axis=1), 1)
  np.testing.assert_allclose(again[:, 0], drawn[:, 2], rtol=1e-4, atol=1e-5)
  free = model.copy(value_range=())
  wild = jax.jit(lambda c: free.apply(variables, c, 3, 0.0, method='generate', rngs=RNGS))(context)
  assert float(jnp.abs(wild).max()) > 0.7


def test_what_is_normal_on_data():
  """Affine maps of a normal are; probabilities, box-logistic flows and flows of frames are not."""
  normal = {name: make().normal_on_data for name, make in constructors.MODELS.items()}
  assert normal['standard_normal']
  others = ('box', 'bernoulli', 'discretized', 'recurrent', 'videoflow', 'glow')
  assert all(normal[name] != any(word in name for word in others) for name in normal), normal


def test_too_short_a_context_is_refused():
  model, variables, x = make('1-AF conv batch context')
  with pytest.raises(ValueError, match='this model needs 2'):
    model.apply(variables, x[:, :1], 3, method='generate', rngs=RNGS)
  with pytest.raises(ValueError, match='nothing to score'):
    model.apply(variables, x[:, :2])


def test_another_event_shape_is_refused():
  model, variables, x = make('1-AF conv batch context')
  with pytest.raises(ValueError, match='the model expects'):
    model.apply(variables, x[..., :1])


def test_conditioners_see_the_window_and_nothing_older():
  model, variables, x = make('1-AF conv group learned')
  before = terms_of(model, variables, x)
  after = terms_of(model, variables, x.at[:, 2].add(0.5))
  changed = np.any(np.asarray(before.elbo != after.elbo), axis=0)
  np.testing.assert_array_equal(changed, np.isin(np.arange(x.shape[1]), [2, 3, 4]))


def test_batch_statistics_inside_a_scan():
  """In training they are carried from step to step; in evaluation the running ones are used."""
  model = constructors.Recurrent(constructors.VECTOR, normalization='batch')
  x = constructors.data(model)
  variables = jax.jit(lambda x: model.init(jax.random.key(0), x, method='initialize'))(x)
  _, updated = constructors.apply(model, variables, x, mutable=('batch_stats',))
  old, new = variables['batch_stats'], updated['batch_stats']
  moved = jax.tree.map(lambda a, b: bool(jnp.all(a != b)), old, new)
  assert all(jax.tree.leaves(moved))

  def by_hand(model, x):
    state = model.initial_state(x.shape[0])
    for t in range(x.shape[1]):
      state, _ = model.step(state, x[:, t])

  _, expected = constructors.apply(model, variables, x, method=by_hand, mutable=('batch_stats',))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
    new,
    expected['batch_stats'],
  )
  first = constructors.apply(model, variables, x).elbo
  np.testing.assert_array_equal(first, constructors.apply(model, variables, x).elbo)


def test_visuals_cost_nothing_unless_requested():
  model, variables, x = make('2-AF dense learned')
  assert 'tanh' in str(jax.make_jaxpr(lambda x: model.apply(variables, x))(x))
  _, updated = model.apply(variables, x, mutable=['visuals'])
  shown = updated['visuals']
  np.testing.assert_allclose(
    affine.inverse(x, shown['shift'][0], jnp.log(shown['scale'][0]), 1)[0], shown['y'][0], rtol=1e-4
  )
  assert not model.apply(variables, x, mutable=['batch_stats'])[1]
