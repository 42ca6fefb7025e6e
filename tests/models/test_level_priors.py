"""Priors of one level's latent maps, against a transcription in NumPy and against each other."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afslvm.flows.temporal import AutoregressiveAffine
from afslvm.models.level_priors import LevelPrior
from afslvm.networks.glow import PlanePrior, SpacetimePrior
from afslvm.transforms import affine
from tests import constructors, modules, oracles

SHAPE, ABOVE, WINDOW, STEPS = (2, 3, 2), 3, 2, 9
CASES = {
  'last z': {},
  'last z learned': {'boundary': 'learned'},
  'top': {'above': 0},
  'top learned': {'above': 0, 'boundary': 'learned'},
  'conv3d': {'network': SpacetimePrior, 'boundary': 'learned', 'log_scale_limit': 0.0},
  'none z': {'frame': 'none'},
  'last u': {'sees': 'u'},
  'flow z': {'frame': 'flow', 'boundary': 'learned'},
  'flow u': {'frame': 'flow', 'sees': 'u', 'boundary': 'learned'},
  'flow_last both': {'frame': 'flow_last', 'sees': 'both', 'boundary': 'learned'},
  'independent': {'window': 0, 'frame': 'none'},
  'independent top': {'window': 0, 'frame': 'none', 'above': 0},
}


def prior(network=PlanePrior, above=ABOVE, **options):
  options = {'window': WINDOW, **options}
  flow = None
  if options.get('frame', 'last').startswith('flow'):
    flow = AutoregressiveAffine(constructors.conv(SHAPE, normalization='none'), boundary='learned')
  parts = network(2 * SHAPE[-1], width=5, depth=1) if options['window'] else None
  return LevelPrior(SHAPE, above, parts, flow, **options)


def data(module):
  z = modules.normal(0, 2, STEPS, *SHAPE)
  above = modules.normal(1, 2, STEPS, *SHAPE[:2], ABOVE) if module.above_channels else None
  return z, above, jnp.ones(z.shape[:2], bool)


@functools.cache
def make(name):
  module = prior(**CASES[name])
  variables = modules.randomized(module, *data(module), method='sequence', scale=0.2)
  return module, variables, data(module)


def sequence(module, variables, z, above, mask):
  return constructors.apply(module, variables, z, above, mask, method='sequence')


def by_hand(module, variables, z, above, mask):
  """Mean and log-scale of every step of one level [B, T, h, w, c], in float64."""
  params, (batch, steps) = modules.in_float64(variables), z.shape[:2]
  shift, stretch = np.zeros((2, *z.shape))
  if module.flow is not None:
    own = {'params': variables['params']['flow']}
    parameters = constructors.apply(module.flow, own, z, mask, method='sequence_parameters')
    shift, stretch = np.array(parameters, np.float64)
  z = np.asarray(z, np.float64)
  if module.frame in ('last', 'flow_last'):
    shift[:, 1:] += z[:, :-1]
  u = (z - shift) / np.exp(stretch)
  seen = {'z': z, 'u': u, 'both': np.concatenate([z, u], axis=-1)}[module.sees]
  results = []
  for t in range(module.skipped, steps):
    level_mean = log_scale = None
    if above is not None:
      raw = oracles.zero_conv(params['from_above'], np.asarray(above[:, t], np.float64))
      level_mean, log_scale = raw[..., : SHAPE[-1]], raw[..., SHAPE[-1] :]
    elif 'at_top' in params:
      nothing = np.zeros((batch, *SHAPE[:2], 0))
      raw = oracles.edge_conv(params['at_top'], nothing)
      mean, log_scale = np.split(oracles.gained(params['at_top']['output'], raw), 2, axis=-1)
    if t < module.window or not module.window:
      mean = mean if level_mean is None else level_mean
    else:
      window = seen[:, t - module.window : t]
      if isinstance(module.network, PlanePrior):
        raw = oracles.plane_prior(params['network'], window, level_mean, 1)
      else:
        raw = oracles.spacetime_prior(params['network'], window, level_mean, 1, (1,))
      mean, log_scale = np.split(raw, 2, axis=-1)
    if limit := module.log_scale_limit:
      log_scale = limit * np.tanh(log_scale / limit)
    if module.window and t >= module.window:
      mean, log_scale = shift[:, t] + np.exp(stretch[:, t]) * mean, log_scale + stretch[:, t]
    results.append((mean, log_scale))
  return [np.stack(part, axis=1) for part in zip(*results, strict=True)]


@pytest.mark.parametrize('name', CASES)
def test_the_distribution_is_that_of_a_transcription(name):
  """Every frame, what is seen, both boundaries, both networks, levels with and without above."""
  module, variables, given = make(name)
  found = sequence(module, variables, *given)
  loc, log_scale = by_hand(module, variables, *given)
  assert found.loc.shape == (2, STEPS - module.skipped, *SHAPE)
  np.testing.assert_allclose(found.loc, loc, rtol=1e-3, atol=1e-4)
  np.testing.assert_allclose(found.log_scale, log_scale, rtol=1e-3, atol=1e-4)


# Steps after s whose distribution a change of z_s changes.
REACH = {
  'none z': WINDOW,
  'last z': WINDOW,
  'last z learned': WINDOW,
  'conv3d': WINDOW,
  'last u': WINDOW + 1,
  'flow z': WINDOW,
  'flow u': 2 * WINDOW,
  'flow_last both': 2 * WINDOW,
  'independent': 0,
}


@pytest.mark.parametrize('name', REACH)
def test_the_receptive_field_is_exact(name):
  """A step sees the window, through u the windows of the window's steps, and nothing else."""
  module, variables, (z, above, mask) = make(name)
  s = 3
  before = sequence(module, variables, z, above, mask)
  steps = np.arange(module.skipped, STEPS)

  def changed(z, above):
    after = sequence(module, variables, z, above, mask)
    differs = [
      np.any(np.asarray(a != b), axis=(0, 2, 3, 4))
      for a, b in ((after.loc, before.loc), (after.log_scale, before.log_scale))
    ]
    return np.any(differs, axis=0)

  found = changed(z.at[:, s].add(0.5), above)
  np.testing.assert_array_equal(found, (steps > s) & (steps <= s + REACH[name]))
  np.testing.assert_array_equal(changed(z, above.at[:, s].add(0.5)), steps == s)


@pytest.mark.parametrize(('frame', 'without'), [('flow_last', 'last'), ('flow', 'none')])
def test_a_flow_with_zero_heads_is_none(frame, without):
  """Bit for bit: a fresh VideoFlow with flows inside is VideoFlow, where the network sees z."""
  expected = prior(frame=without, boundary='learned')
  module = prior(frame=frame, boundary='learned')
  given = data(module)
  variables = modules.randomized(module, *given, method='sequence')
  params = dict(variables['params'])
  flow = dict(params.pop('flow'))
  conditioner = dict(flow['conditioner'])
  for head in ('shift_head', 'log_scale_head'):
    conditioner[head] = jax.tree.map(jnp.zeros_like, conditioner[head])
  zeros = {name: jnp.zeros_like(flow[name]) for name in ('initial_shift', 'initial_log_scale')}
  fresh = {'params': {**params, 'flow': {'conditioner': conditioner, **zeros}}}
  found, other = sequence(module, fresh, *given), sequence(expected, {'params': params}, *given)
  jax.tree.map(np.testing.assert_array_equal, found, other)
  moving = sequence(module, variables, *given)
  assert float(jnp.abs(moving.loc - other.loc).max()) > 0.01


@pytest.mark.parametrize('name', ['last z learned', 'flow_last both', 'independent top'])
def test_shorter_sequences_begin_alike(name):
  """Also those that never fill the window."""
  module, variables, (z, above, mask) = make(name)
  whole = sequence(module, variables, z, above, mask)
  for steps in (1, WINDOW):
    shown = None if above is None else above[:, :steps]
    part = sequence(module, variables, z[:, :steps], shown, mask[:, :steps])
    jax.tree.map(
      lambda a, b, n=steps: np.testing.assert_allclose(a, b[:, :n], rtol=1e-4, atol=1e-5),
      part,
      whole,
    )


@pytest.mark.parametrize('limit', [0.0, 1.5])
def test_log_scales_keep_their_bound(limit):
  module = prior(log_scale_limit=limit, boundary='learned')
  given = data(module)
  variables = modules.randomized(module, *given, method='sequence')
  variables = jax.tree.map(lambda leaf: 2 * leaf, variables)
  found = np.abs(sequence(module, variables, *given).log_scale)
  if limit:
    assert 0.9 * limit < found.max() <= limit
  else:
    assert found.max() > 1.5


def test_without_a_boundary_to_learn_there_is_nothing_to_learn_of_it():
  """No frame without predecessors is scored, so the level's own scale would get no gradient."""
  parameters = {name: modules.in_float64(make(name)[1]) for name in CASES}
  assert parameters['last z']['from_above']['output']['bias'].shape == (2,)
  assert parameters['last z learned']['from_above']['output']['bias'].shape == (4,)
  assert 'at_top' not in parameters['top']
  assert parameters['top learned']['at_top']['output']['bias'].shape == (4,)
  assert set(parameters['independent']) == {'from_above'}


def test_padding_does_not_change_the_first_values():
  """Steps that are none say nothing of what features are like."""
  module = prior(boundary='learned')
  z, above, mask = data(module)

  @jax.jit
  def initial(z, above, mask):
    return module.init(jax.random.key(0), z, above, mask, method='sequence')

  expected = initial(z, above, mask)
  far = [jnp.concatenate([part, jnp.full_like(part[:, :2], 1e3)], axis=1) for part in (z, above)]
  found = initial(*far, jnp.pad(mask, [(0, 0), (0, 2)]))
  jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4), found, expected)


def test_u_undoes_its_frame_of_reference():
  module, variables, (z, _, mask) = make('flow_last both')

  def both(module):
    moved = module.moved(z, mask)
    return module.in_frame(z, moved), moved

  u, moved = constructors.apply(module, variables, method=both)
  np.testing.assert_allclose(affine.forward(u, *moved, 3)[0], z, rtol=1e-4, atol=1e-5)
  assert float(jnp.abs(moved.log_scale).max()) > 0.1
