"""Glow as a map: there and back, its Jacobian, its first values, and a transcription in NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afslvm.flows import glow
from afslvm.flows.glow import Glow
from afslvm.networks.glow import GlowStack
from afslvm.networks.normalization import GAIN
from tests import constructors, modules, oracles
from tests.thorough import some_of

FRAMES = 3
# Every coupling, bound, permutation, order, activation and edge, with and without conditions.
CASES = {
  'videoflow': {'depth': 2},
  'additive': {'coupling': 'additive', 'permutation': 'fixed', 'squeeze': 'blocks'},
  'spline': {'coupling': 'spline', 'bins': 4, 'levels': 1},
  'jet': {'bound': 'jet', 'permutation': 'reverse', 'activation': 'relu'},
  'symmetric': {'bound': 'symmetric', 'edge': False},
  'soft': {'bound': 'soft', 'levels': 1, 'depth': 2},
  'realnvp': {'bound': 'realnvp', 'activation': 'relu', 'edge': False},
  'realnvp_zero': {'bound': 'realnvp_zero', 'levels': 1},
  'conditional': {'condition_channels': (2, 3)},
  'conditional additive': {'condition_channels': (1,), 'levels': 1, 'coupling': 'additive'},
  'squeezes alone': {'depth': 0},
}
every_case = pytest.mark.parametrize('name', CASES)
FEW = ('videoflow', 'additive', 'realnvp', 'conditional')


def data(seed=0, frames=FRAMES):
  return jax.random.uniform(jax.random.key(seed), (frames, *constructors.VIDEO))


def conditions_of(module, seed=7):
  """Maps of each level's resolution, or None."""
  if not module.condition_channels:
    return None
  sides = [shape[:2] for shape in module.latent_shapes]
  return tuple(
    modules.normal(seed, FRAMES, *side, channels)
    for side, channels in zip(sides, module.condition_channels, strict=True)
  )


@functools.cache
def make(name):
  """A case with random variables, frames, conditions, and what `encode` makes of them."""
  module = constructors.glow(**CASES[name])
  x, conditions = data(), conditions_of(module)
  variables = modules.randomized(module, x, conditions, method='encode')
  encoded = constructors.apply(module, variables, x, conditions, method='encode')
  return module, variables, x, conditions, encoded


def decoded(module, variables, latents, conditions=None):
  def decode(module, latents, conditions):
    return module.decode(lambda level, _: latents[level], conditions)

  return constructors.apply(module, variables, latents, conditions, method=decode)


@every_case
def test_decoding_undoes_encoding(name):
  """To the tolerance of float32 that was measured for lightly perturbed weights."""
  module, variables, x, conditions, encoded = make(name)
  again = decoded(module, variables, encoded.latents, conditions)
  rounding = 1e-5 * (1 + module.depth * module.levels / 8)
  np.testing.assert_allclose(again, x, rtol=0, atol=rounding)
  if module.depth:
    assert float(jnp.abs(encoded.latents[0]).max()) > 0.1
  if conditions is not None:
    others = decoded(module, variables, encoded.latents, conditions_of(module, seed=8))
    assert float(jnp.abs(others - x).max()) > 0.01


@every_case
def test_shapes_add_up_to_the_frames(name):
  """What coarser levels show is what they are made of, unsqueezed."""
  module, _, x, _, encoded = make(name)
  assert tuple(z.shape[1:] for z in encoded.latents) == module.latent_shapes
  assert sum(z[0].size for z in encoded.latents) == x[0].size
  for level, above in enumerate(encoded.above):
    if above is None:
      assert (level, module.above_channels[level]) == (module.levels - 1, 0)
      continue
    assert above.shape == (FRAMES, *module.latent_shapes[level][:2], module.above_channels[level])
    assert above[0].size == sum(z[0].size for z in encoded.latents[level + 1 :])
  assert encoded.log_det.shape == encoded.saturation.shape == (FRAMES,)


@pytest.mark.parametrize('name', some_of(CASES, (*FEW, 'jet', 'soft')))
def test_log_det_is_that_of_the_whole_jacobian(name):
  module, variables, x, conditions, encoded = make(name)
  if conditions is not None:
    conditions = tuple(c[:1] for c in conditions)

  def latents(frame):
    z = module.apply(variables, frame[None], conditions, method='encode').latents
    return jnp.concatenate([part.ravel() for part in z])

  expected = oracles.dense_log_det(latents, x[0])
  np.testing.assert_allclose(encoded.log_det[0], expected, rtol=1e-4, atol=1e-4)


def constants_in_float64(module):
  every = (
    glow.constants_of('plu', channels, level, module.depth)
    for level, channels in enumerate(module._channels)
  )
  return [{name: value.astype(np.float64) for name, value in own.items()} for own in every]


@pytest.mark.parametrize(
  'options',
  [
    {'depth': 2},
    {'coupling': 'additive', 'activation': 'relu', 'edge': False},
    {'condition_channels': (2, 3)},
  ],
  ids=str,
)
def test_latents_are_those_of_a_transcription(options):
  """Two levels of flow in NumPy and float64, with all that Glow's code has beyond the paper."""
  module = constructors.glow(**options)
  x, conditions = data(), conditions_of(module)
  variables = modules.randomized(module, x, conditions, method='encode', scale=0.2)
  found = constructors.apply(module, variables, x, conditions, method='encode')
  shown = [None if conditions is None else np.asarray(c, np.float64) for c in conditions or ()]
  latents, above, log_det = oracles.glow(
    modules.in_float64(variables),
    constants_in_float64(module),
    np.asarray(x, np.float64),
    shown or None,
    coupling=module.coupling,
    activation=module.activation,
  )
  for a, b in zip(found.latents, latents, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
  np.testing.assert_allclose(found.above[0], above[0], rtol=1e-3, atol=1e-4)
  np.testing.assert_allclose(found.log_det, log_det, rtol=1e-4, atol=1e-3)


def a_step(bound='glow', kind='affine', permutation='plu'):
  """One step of flow on maps of 4 channels, with random variables and its constants."""
  network = GlowStack(2 if kind == 'additive' else 4, 5)
  coupling = glow.Coupling(network, kind, bound)
  step = glow.FlowStep(glow.ActNorm(), glow.InvertibleLinear(permutation), coupling)
  constants = jax.tree.map(lambda v: jnp.asarray(v[0]), glow.constants_of(permutation, 4, 0, 1))
  x = modules.normal(3, 2, 3, 2, 4)
  variables = modules.randomized(step, x, constants, None, None, method='inverse', scale=0.3)
  return step, variables, constants, x


@pytest.mark.parametrize(
  'options',
  [
    *({'bound': bound} for bound in glow.BOUNDS),
    {'kind': 'additive', 'permutation': 'fixed'},
    {'permutation': 'reverse'},
  ],
  ids=lambda options: ' '.join(options.values()),
)
def test_the_log_dets_of_a_step_cancel(options):
  step, variables, constants, x = a_step(**options)

  def there_and_back(step, x):
    y, log_det, _ = step.inverse(x, constants, None, None)
    return y, log_det, *step.forward(y, constants, None)

  y, log_det, again, other = constructors.apply(step, variables, x, method=there_and_back)
  assert float(jnp.abs(y - x).max()) > 0.1
  np.testing.assert_allclose(again, x, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(other, -log_det, rtol=1e-5, atol=1e-5)


# ---- constants -----------------------------------------------------------------------------------


def test_linear_maps_begin_as_rotations():
  """Orthogonal ones, of which no two are alike, and the same in every process."""
  constants = glow.constants_of('plu', 8, 1, 3)
  module = glow.InvertibleLinear()
  matrices = []
  for k in range(3):
    own = jax.tree.map(lambda v, k=k: v[k], constants)
    x = jnp.eye(8).reshape(1, 8, 1, 8)
    variables = module.init(jax.random.key(0), x, own, method='inverse')
    y, log_det = module.apply(variables, x, own, method='inverse')
    matrices.append(np.asarray(y).reshape(8, 8))
    np.testing.assert_allclose(log_det, 0.0, atol=1e-4)
    np.testing.assert_allclose(matrices[-1] @ matrices[-1].T, np.eye(8), atol=1e-5)
    assert np.all(np.sort(own['permutation'].ravel())[-8:] == 1)
  for a, b in ((0, 1), (0, 2), (1, 2)):
    assert np.abs(matrices[a] - matrices[b]).max() > 0.1
  jax.tree.map(np.testing.assert_array_equal, constants, glow.constants_of('plu', 8, 1, 3))


def test_constants_do_not_depend_on_what_else_there_is():
  """A step keeps its own however many follow it; a checkpoint does not hold them."""
  few, many = (glow.constants_of('plu', 4, 0, depth) for depth in (2, 5))
  jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b[:2]), few, many)
  assert np.any(few['factors'] != glow.constants_of('plu', 4, 1, 2)['factors'])


def test_permutations():
  fixed, reverse = (glow.constants_of(kind, 6, 0, 4)['order'] for kind in ('fixed', 'reverse'))
  np.testing.assert_array_equal(reverse, np.tile([5, 4, 3, 2, 1, 0], (4, 1)))
  np.testing.assert_array_equal(np.sort(fixed, axis=1), np.tile(np.arange(6), (4, 1)))
  assert len({tuple(order) for order in fixed}) == 4
  x = jnp.arange(6.0).reshape(1, 1, 1, 6)
  module = glow.InvertibleLinear('fixed')
  y, _ = module.apply({}, x, {'order': fixed[0]}, method='inverse')
  np.testing.assert_array_equal(y.ravel(), fixed[0])


# ---- the first values ----------------------------------------------------------------------------


@functools.partial(jax.jit, static_argnums=0)
def initial(module, x, mask=None, conditions=None):
  return module.init(jax.random.key(1), x, conditions, mask, method='encode')


DEEP = {'depth': 2, 'width': 5}


@functools.cache
def first():
  """A map of two levels with the values that a first batch gives it."""
  module, x = constructors.glow(**DEEP), 5 * data(frames=6) - 2
  return module, x, initial(module, x)


def test_the_first_batch_is_normalised_in_every_step():
  """All actnorms of all steps of both levels see it as it is by then, hidden layers' too."""
  module, x, variables = first()
  seen = []
  latents, _, _ = oracles.glow(
    modules.in_float64(variables),
    constants_in_float64(module),
    np.asarray(x, np.float64),
    seen=seen,
  )
  assert len(seen) == 2 * 2 * 4
  for y in seen:
    np.testing.assert_allclose(y.mean(axis=(0, 1, 2)), np.zeros(y.shape[-1]), atol=1e-3)
    np.testing.assert_allclose(y.std(axis=(0, 1, 2)), np.ones(y.shape[-1]), rtol=2e-3)
  found = constructors.apply(module, variables, x, method='encode').latents
  np.testing.assert_allclose(found[0], latents[0], rtol=1e-3, atol=1e-4)


def test_steps_begin_with_different_networks():
  """Each has random weights and a rotation of its own."""
  _, _, variables = first()
  own = variables['params']['level_0']
  for leaf in (own['coupling']['network']['first']['kernel'], own['linear']['factors']):
    assert len(leaf) == DEEP['depth']
    assert np.abs(leaf[0] - leaf[1]).max() > 0.01


def test_padding_does_not_change_the_first_values():
  module, x, expected = first()
  more = jnp.concatenate([x[:4], jnp.full_like(x[:2], jnp.nan), x[4:]])
  found = initial(module, more, jnp.array([True] * 4 + [False] * 2 + [True] * 2))
  jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4), found, expected)


def test_how_the_loop_is_compiled_does_not_change_the_first_values():
  """Nor where parameters are: a checkpoint of one is one of the other."""
  module, x, expected = first()
  found = initial(module.copy(remat=True, unroll=1), x)
  jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4), found, expected)


def test_the_way_back_creates_what_the_way_there_does():
  """A fresh flow that draws first: as many parameters, and actnorms that do nothing."""
  module, x, expected = first()
  latents = constructors.apply(module, expected, x, method='encode').latents

  def decode(module, latents):
    return module.decode(lambda level, _: latents[level])

  found = jax.jit(lambda z: module.init(jax.random.key(1), z, method=decode))(latents)
  for level in ('level_0', 'level_1'):
    for leaf in jax.tree.leaves(found['params'][level]['norm']):
      np.testing.assert_array_equal(leaf, np.zeros_like(leaf))
  assert jax.tree.map(jnp.shape, found) == jax.tree.map(jnp.shape, expected)


# ---- loops, precision, bounds --------------------------------------------------------------------


@pytest.mark.thorough
def test_remat_and_unrolling_change_nothing():
  """Neither values nor gradients."""
  module, x, variables = first()

  def value_and_gradients(module):
    def loss(variables):
      encoded = module.apply(variables, x, method='encode')
      return sum(jnp.sum(z**2) for z in encoded.latents) - jnp.sum(encoded.log_det)

    return jax.jit(jax.value_and_grad(loss))(perturbed(variables, 0.05))

  expected = value_and_gradients(module)
  found = value_and_gradients(module.copy(remat=True, unroll=1))
  largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(expected))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5 * largest), found, expected
  )


def perturbed(variables, scale, seed=0):
  rng = np.random.default_rng(seed)
  return jax.tree.map(
    lambda p: p + np.float32(scale) * rng.standard_normal(p.shape, np.float32), variables
  )


@pytest.mark.thorough
def test_low_precision_moves_densities_little_and_breaks_the_inverse():
  """Which is why it is not the default: a rounded network is not continuous.

  Seldom does a value lie so near the middle of two rounded ones that it is rounded to another one
  on the way back, but then the coupling undoes what it has not done.
  """
  module = constructors.glow(depth=4, width=8, unroll=1)
  variables, x = perturbed(initial(module, data(frames=32)), 0.02), data(frames=1024)
  nats, errors = {}, {}
  for dtype in ('float32', 'bfloat16'):
    module = module.copy(compute_dtype=dtype)
    encoded = constructors.apply(module, variables, x, method='encode')
    assert {a.dtype for a in jax.tree.leaves(encoded)} == {jnp.dtype('float32')}
    squares = sum(jnp.sum(z**2, axis=(1, 2, 3)) for z in encoded.latents)
    nats[dtype] = (encoded.log_det - 0.5 * squares) / x[0].size
    errors[dtype] = float(jnp.abs(decoded(module, variables, encoded.latents) - x).max())
  np.testing.assert_allclose(nats['bfloat16'], nats['float32'], rtol=0, atol=1e-3)
  assert np.any(nats['bfloat16'] != nats['float32'])
  assert errors['float32'] < 2e-6
  assert errors['bfloat16'] > 30 * errors['float32']


@pytest.mark.parametrize('bound', some_of(glow.BOUNDS, ('glow', 'realnvp', 'realnvp_zero')))
def test_what_learns_under_a_network_that_begins_at_zero(bound):
  """Everything that follows it does, but for a gain of zero, which keeps the offset alone."""
  network = GlowStack(4, 5)
  module = glow.Coupling(network, bound=bound)
  x = modules.normal(0, 3, 2, 3, 4)
  variables = jax.jit(lambda x: module.init(jax.random.key(0), x, None, method='inverse'))(x)

  def loss(variables):
    y, log_det, _ = module.apply(variables, x, None, method='inverse')
    return jnp.sum(y**2) - 3 * jnp.sum(log_det)

  gradient = jax.jit(jax.grad(loss))(variables)['params']
  moves = np.abs(gradient['network']['last']['conv']['kernel']).max(axis=(0, 1, 2)) > 0
  log_scales = bound != 'realnvp_zero'
  np.testing.assert_array_equal(moves, [True, True, log_scales, log_scales])
  if bound == 'realnvp_zero':
    np.testing.assert_array_equal(gradient['bound_gain'], np.zeros(2))
    assert np.all(gradient['bound_offset'] != 0)


@pytest.mark.parametrize(
  ('options', 'expected'),
  [
    ({'bound': 'glow'}, [0.0, 0.0, 0.0]),
    ({'bound': 'symmetric'}, [0.0, 1.0, 1.0]),
    ({'kind': 'additive'}, [0.0, 0.0, 0.0]),
  ],
  ids=lambda value: ' '.join(value.values()) if isinstance(value, dict) else '',
)
def test_the_share_of_saturated_scales(options, expected):
  """Only of bounds that have an end on both sides."""
  step, variables, constants, x = a_step(**options)
  last = variables['params']['coupling']['network']['last']['output']
  for bias, share in zip((0.0, -400.0, 400.0), expected, strict=True):
    own = {**last, 'bias': jnp.full_like(last['bias'], bias), 'gain': jnp.zeros_like(last['gain'])}
    moved = jax.tree.map(lambda leaf: leaf, variables)
    moved['params']['coupling']['network']['last']['output'] = own
    found = constructors.apply(step, moved, x, constants, None, None, method='inverse')[2]
    np.testing.assert_array_equal(found, np.full(len(x), share))


def test_saturation_of_a_map_is_the_mean_over_levels_and_steps():
  module, variables, x, _, _ = make('symmetric')
  for saturated in ('level_0', 'level_1'):
    forced = jax.tree.map(lambda leaf: leaf, variables)
    for level in ('level_0', 'level_1'):
      output = forced['params'][level]['coupling']['network']['last']['output']
      output['bias'] = jnp.full_like(output['bias'], 400.0 * (level == saturated))
    found = constructors.apply(module, forced, x, method='encode').saturation
    np.testing.assert_allclose(found, np.full(FRAMES, 0.5), atol=1e-6)


def test_only_the_moved_half_of_a_coupling_depends_on_the_condition():
  coupling = glow.Coupling(GlowStack(4, 5))
  x, condition = modules.normal(0, 2, 2, 3, 4), modules.normal(1, 2, 2, 3, 3)
  variables = modules.randomized(coupling, x, condition, method='inverse')
  before, after = (
    constructors.apply(coupling, variables, x, c, method='inverse')[0]
    for c in (condition, condition + 1)
  )
  np.testing.assert_array_equal(before[..., :2], x[..., :2])
  np.testing.assert_array_equal(after[..., :2], x[..., :2])
  assert np.all(np.asarray(before[..., 2:] != after[..., 2:]))


def test_frames_do_not_see_each_other():
  module, variables, x, _, encoded = make('videoflow')
  alone = constructors.apply(module, variables, x[1:2], method='encode')
  for a, b in zip(alone.latents, encoded.latents, strict=True):
    np.testing.assert_allclose(a, b[1:2], rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(alone.log_det, encoded.log_det[1:2], rtol=1e-5)


def test_gain_is_as_published():
  """Three: stored log-scales are thirds."""
  assert GAIN == 3.0


def test_draws_are_asked_for_from_the_top():
  """Each level is shown what it has above it in `encode`."""
  module, variables, _, _, encoded = make('videoflow')
  order = []

  def decode(module, latents):
    asked = {}

    def draw(level, above):
      order.append(level)
      asked[level] = above
      return latents[level]

    module.decode(draw)
    return asked

  asked = constructors.apply(module, variables, encoded.latents, method=decode)
  assert order == [1, 0]
  assert asked[1] is None
  np.testing.assert_allclose(asked[0], encoded.above[0], rtol=1e-4, atol=1e-5)


def test_choices_are_those_that_exist():
  """An unknown name is refused where configs are read, from these."""
  assert set(Glow.choices) == {
    *('coupling', 'bound', 'activation', 'permutation', 'squeeze', 'compute_dtype')
  }
