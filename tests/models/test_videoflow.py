"""VideoFlow against densities that are known another way, and what it refuses and shows."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afslvm import build_models, building
from afslvm.configs import common
from afslvm.errors import ConfigError
from afslvm.flows.conditioners import ConvConditioner
from afslvm.flows.temporal import AutoregressiveAffine
from afslvm.models.level_priors import LevelPrior
from afslvm.models.standard_normal import StandardNormal
from afslvm.models.temporal_flow import TemporalFlow
from afslvm.models.videoflow import VideoFlow
from afslvm.networks.glow import PlanePrior
from afslvm.networks.normalization import ActNorm
from afslvm.transforms import reshape
from tests import constructors, modules, oracles
from tests.thorough import some_of

LEARNED, INSIDE, AROUND = (
  'videoflow conv3d learned',
  'videoflow with flows inside',
  'flow around videoflow',
)
VIDEO, SIZE = constructors.VIDEO, math.prod(constructors.VIDEO)


@functools.cache
def make(name):
  model = constructors.MODELS[name]()
  x = constructors.data(model, batch=2, steps=7)
  return model, constructors.randomized(model, x), x


def ask(model, variables, method, *arguments, **options):
  return constructors.apply(model, variables, *arguments, method=method, **options)


def drawn(model, variables, state, noise, temperature=1.0, limit=None):
  """The state after a frame of given noise [N, SIZE] of all levels, and the frame."""
  core = model.core
  sizes = [math.prod(shape) for shape in core.glow.latent_shapes]
  parts = jnp.split(noise, np.cumsum(sizes)[:-1], axis=-1)
  named = {
    f'level_{level}': part.reshape(-1, *shape)
    for level, (part, shape) in enumerate(zip(parts, core.glow.latent_shapes, strict=True))
  }
  given = {**variables, 'noise': model.at_core(named)}
  return model.apply(given, state, temperature, limit, method='predict')


# ---- the density ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
  ('name', 'context'),
  some_of(
    [
      *(('videoflow', 3), (LEARNED, 3), (LEARNED, 0), (INSIDE, 2), (AROUND, 4)),
      *((AROUND, 2), ('flow around glow', 2)),
    ],
    [(LEARNED, 0), (INSIDE, 2), (AROUND, 4)],
  ),
)
def test_the_sampler_is_the_scorer(name, context):
  """log p(x_t | x_<t) is the noise's density over the Jacobian of the frame that it makes."""
  model, variables, x = make(name)
  state = model.apply(variables, 1, method='initial_state')
  if context:
    state = ask(model, variables, 'condition', x[:1, :context])
  noise = 0.8 * modules.normal(5, 1, SIZE)

  def frame(noise):
    return drawn(model, variables, state, noise)[1]

  expected = -0.5 * np.sum(np.asarray(noise, np.float64) ** 2 + math.log(2 * math.pi))
  expected -= oracles.dense_log_det(frame, noise)
  after, x_t = jax.jit(functools.partial(drawn, model, variables))(state, noise)
  scored, terms = ask(model, variables, 'step', state, x_t)
  assert terms.scored.all()
  np.testing.assert_allclose(terms.elbo, [expected], rtol=1e-4, atol=1e-3)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3), after, scored)


LINEAR = (4, 4, 1)


def linear_model():
  """Two levels whose networks are affine and whose scales are constant, with random weights."""
  map_ = constructors.glow(LINEAR, width=3)
  priors = []
  for shape, above in zip(map_.latent_shapes, map_.above_channels, strict=True):
    conditioner = ConvConditioner(
      shape, window=1, encoder_depth=0, decoder_depth=0, normalization='none'
    )
    flow = AutoregressiveAffine(conditioner, boundary='learned')
    network = PlanePrior(2 * shape[-1], depth=0)
    options = {'boundary': 'learned', 'frame': 'flow_last', 'sees': 'both'}
    priors.append(LevelPrior(shape, above, network, flow, 1, **options))
  model = VideoFlow(LINEAR, glow=map_, priors=tuple(priors))
  x = constructors.data(model, batch=2, steps=3)

  def constant(path, leaf):
    name, half = jax.tree_util.keystr(path, simple=True, separator='/'), leaf.shape[-1] // 2
    if name.endswith(('coupling/network/last/conv/kernel', 'log_scale_head/kernel')):
      return jnp.zeros_like(leaf)
    if name.endswith(('network/last/linear/kernel', 'from_above/conv/kernel')):
      return leaf.at[..., half:].set(0)
    return leaf

  variables = constructors.randomized(model, x)
  return model, jax.tree_util.tree_map_with_path(constant, variables), x


@functools.cache
def linear():
  """The linear model, and the frames [3, 16] that noise [3, 16] makes."""
  model, variables, x = linear_model()

  @jax.jit
  def frames(noise, temperature=1.0):
    state, drawn_frames = model.apply(variables, 1, method='initial_state'), []
    for noise_t in noise:
      state, x_t = drawn(model, variables, state, noise_t[None], temperature)
      drawn_frames.append(x_t.ravel())
    return jnp.stack(drawn_frames)

  return model, variables, x, frames


def test_the_linear_model_is_a_dense_normal():
  """Mean and covariance of all frames come from the map of all noise, the density from NumPy."""
  model, variables, x, frames = linear()
  zeros = jnp.zeros((3, 16))
  mean = np.asarray(frames(zeros), np.float64).ravel()
  matrix = np.asarray(jax.jit(jax.jacobian(frames))(zeros), np.float64).reshape(48, 48)
  noise = np.asarray(modules.normal(0, 3, 16))
  found = np.asarray(frames(noise), np.float64).ravel()
  np.testing.assert_allclose(found, mean + matrix @ noise.ravel(), rtol=1e-3, atol=1e-3)
  covariance = matrix @ matrix.T
  for terms, sequence in zip(ask(model, variables, None, x).elbo, x, strict=True):
    error = np.asarray(sequence, np.float64).ravel() - mean
    expected = -0.5 * error @ np.linalg.solve(covariance, error)
    expected -= 0.5 * np.linalg.slogdet(2 * math.pi * covariance)[1]
    np.testing.assert_allclose(terms.sum(), expected, rtol=1e-4)


def test_temperature_scales_deviations_from_the_mean():
  """That of a pair which concerns observations; with none, noise does not matter."""
  _, _, _, frames = linear()
  one, other = modules.normal(0, 3, 16), modules.normal(1, 3, 16)
  mean = frames(one, 0.0)
  np.testing.assert_array_equal(mean, frames(other, 0.0))
  for temperature in (0.5, 2.0):
    cooled = mean + temperature * (frames(one, 1.0) - mean)
    np.testing.assert_allclose(frames(one, temperature), cooled, rtol=1e-4, atol=1e-4)
  pair = frames(one, (7.0, 0.5))
  np.testing.assert_allclose(pair, frames(one, 0.5), rtol=1e-5, atol=1e-6)


class AsNetwork(nn.Module):
  """A conditioner of a temporal flow as the network of a prior: shift and log-scale of windows."""

  conditioner: ConvConditioner

  def __call__(self, window, level_mean, mask=None):
    slots = [self.conditioner.encode(window[:, k], mask) for k in range(window.shape[1])]
    return reshape.joined(*self.conditioner.decode(jnp.concatenate(slots, axis=-1), mask))


SQUEEZED = (VIDEO[0] // 2, VIDEO[1] // 2, 4 * VIDEO[2])
SYMMETRIC = {'log_scale_bound': 'symmetric', 'log_scale_high': 8.0}


def squeezing(network, flow=None, **options):
  """VideoFlow of one level that squeezes and does nothing else."""
  map_ = constructors.glow(levels=1, depth=0, squeeze='blocks')
  prior = LevelPrior(SQUEEZED, 0, network, flow, 2, **options)
  return VideoFlow(VIDEO, glow=map_, priors=(prior,))


def test_normal_conditionals_of_squeezed_frames_are_a_temporal_flow():
  """1-AF on a standard normal is the normal with its shift and scale: the older class of both."""
  conditioner = constructors.conv(SQUEEZED, normalization='none')
  model = squeezing(AsNetwork(conditioner), frame='none')
  flow = AutoregressiveAffine(conditioner, **SYMMETRIC)
  other = TemporalFlow(SQUEEZED, base=StandardNormal(SQUEEZED), flow=flow)
  x = constructors.data(model, batch=2, steps=6)
  variables = constructors.randomized(model, x)
  network = variables['params']['priors_0']['network']
  found = ask(model, variables, None, x).elbo
  expected = ask(other, {'params': {'flow': network}}, None, reshape.squeeze(x, 'blocks')).elbo
  np.testing.assert_array_equal(found[:, :2], np.zeros((2, 2)))
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_flow_inside_is_one_outside():
  """On latents that are squeezed frames, a flow in the prior is a flow around the model."""
  network = AsNetwork(constructors.conv(SQUEEZED, normalization='none'))
  inner = AutoregressiveAffine(
    constructors.conv(SQUEEZED, normalization='none'), boundary='learned'
  )
  model = squeezing(network, inner, frame='flow', sees='u')
  folding = constructors.conv(VIDEO, patch=2, normalization='none')
  outer = AutoregressiveAffine(folding, boundary='learned')
  other = TemporalFlow(VIDEO, base=squeezing(network, frame='none'), flow=outer)
  x = constructors.data(model, batch=2, steps=7)
  variables = constructors.randomized(model, x)
  prior = variables['params']['priors_0']
  flow = {
    name: value if name == 'conditioner' else reshape.unsqueeze(value, 'blocks')
    for name, value in prior['flow'].items()
  }
  outside = {'base': {'priors_0': {'network': prior['network']}}, 'flow': flow}
  found, expected = (
    ask(model, variables, None, x),
    ask(other, {'params': outside}, None, x),
  )
  np.testing.assert_array_equal(found.scored, expected.scored)
  np.testing.assert_allclose(found.elbo, expected.elbo, rtol=1e-5)


def test_the_density_integrates_to_one():
  """By importance sampling, of a model whose draws are far from normal."""
  event, count = (2, 2, 1), 100_000
  map_ = constructors.glow(event, levels=1, depth=2, width=6)
  model = constructors.videoflow(window=0, frame='none', map_=map_)
  x = constructors.data(model, batch=2, steps=1)
  variables = constructors.randomized(model, x, scale=0.4)
  rngs = {'sample': jax.random.key(0)}
  draw = jax.jit(
    lambda: model.apply(variables, jnp.zeros((4000, 0, *event)), 1, method='generate', rngs=rngs)
  )
  draws = np.asarray(draw(), np.float64).reshape(-1, 4)
  spread = 1.5 * np.linalg.cholesky(np.cov(draws.T))
  noise = np.random.default_rng(0).standard_normal((count, 4))
  chosen = draws.mean(0) + noise @ spread.T
  log_q = -0.5 * np.sum(noise**2 + math.log(2 * math.pi), axis=1)
  log_q -= np.linalg.slogdet(spread)[1]
  log_p = ask(model, variables, None, jnp.float32(chosen).reshape(-1, 1, *event)).elbo
  weights = np.exp(np.asarray(log_p, np.float64)[:, 0] - log_q)
  error = weights.std() / math.sqrt(count)
  assert error < 0.02
  assert abs(weights.mean() - 1) < 4 * error
  scores = np.asarray(ask(model, variables, None, draw()).elbo)
  fitted = -0.5 * (4 * math.log(2 * math.pi) + np.linalg.slogdet(np.cov(draws.T))[1] + 4)
  assert scores.mean() > fitted + 0.05


@pytest.mark.parametrize('depth', [0, 1])
def test_normals_pay_a_quarter_of_a_bit_for_uniform_noise(depth):
  """½ log2(2πe / 12), which a fresh additive Glow reaches on frames that are nothing else."""
  map_ = constructors.glow(coupling='additive', depth=depth)
  model = constructors.videoflow(window=0, frame='none', map_=map_)
  x = jax.random.uniform(jax.random.key(0), (512, 2, *VIDEO)) / 256
  variables = jax.tree.map(jnp.zeros_like, constructors.randomized(model, x))
  if depth:
    variables = jax.jit(lambda x: model.init(jax.random.key(0), x, method='initialize'))(x)
  else:
    x = (256 * x - 0.5) * math.sqrt(12)  # which the map leaves to the priors, N(0, 1) without it
  nats = float(ask(model, variables, None, x).elbo.mean()) / SIZE
  scale = 1 if depth else 256 * math.sqrt(12)
  bits = 8 - (nats + math.log(scale)) / math.log(2)
  floor = 0.5 * math.log2(2 * math.pi * math.e / 12)
  np.testing.assert_allclose(floor, 0.2546, atol=5e-5)
  np.testing.assert_allclose(bits, floor, atol=0.01)


@pytest.mark.parametrize(('name', 'reach'), [('videoflow', 2), (INSIDE, 4), (LEARNED, 2)])
def test_a_frame_changes_the_terms_that_see_it_and_no_others(name, reach):
  model, variables, x = make(name)
  before = ask(model, variables, None, x).elbo
  after = ask(model, variables, None, x.at[:, 1].add(0.5)).elbo
  steps = np.arange(x.shape[1])
  expected = (steps >= max(1, model.min_context)) & (steps <= 1 + reach)
  np.testing.assert_array_equal(np.any(np.asarray(before != after), axis=0), expected)


# ---- the first values ----------------------------------------------------------------------------


def test_the_first_batch_is_normalised_and_padding_is_not_seen():
  """Frames and windows of padding count in no layer of map or priors, be they NaN."""
  model = constructors.videoflow(frame='flow_last', sees='both')
  x = 3 * constructors.data(model, batch=6, steps=6) + 1

  @jax.jit
  def initial(x, mask):
    return model.init(jax.random.key(0), x, mask, method='initialize')

  everywhere = jnp.ones(x.shape[:2], bool)
  variables = initial(x, everywhere)
  _, shown = jax.jit(
    lambda x: model.apply(
      variables,
      x,
      mutable='intermediates',
      capture_intermediates=lambda m, called: isinstance(m, ActNorm) and called == '__call__',
    )
  )(x)
  outputs = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(shown)]
  assert len(outputs) == 2 * 3  # of the priors; those of the map are in loops, see test_glow
  for y in outputs:
    np.testing.assert_allclose(y.mean((0, 1, 2)), np.zeros(y.shape[-1]), atol=1e-3)
    np.testing.assert_allclose(y.std((0, 1, 2)), np.ones(y.shape[-1]), rtol=2e-3)
  padded = jnp.full((7, 8, *VIDEO), jnp.nan).at[:6, :6].set(x)
  mask = jnp.zeros((7, 8), bool).at[:6, :6].set(True)
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=2e-3, atol=2e-4),
    initial(padded, mask),
    variables,
  )


def test_under_a_flow_the_first_values_are_those_of_y():
  """A fresh flow is the identity, so the map is normalised for the frames, without padding."""
  base = constructors.videoflow(boundary='learned')
  conditioner = constructors.conv(VIDEO, normalization='none')
  model = constructors.flows(1, conditioner, base=base, boundary='learned')
  x = constructors.data(model, batch=5, steps=6)
  padded = jnp.full((6, 7, *VIDEO), jnp.nan).at[:5, :6].set(x)
  mask = jnp.zeros((6, 7), bool).at[:5, :6].set(True)
  variables = jax.jit(lambda x, m: model.init(jax.random.key(0), x, m, method='initialize'))(
    padded, mask
  )
  found = variables['params']['base']['glow']['level_0']['norm']
  squeezed = np.asarray(reshape.squeeze(x, 'channels'), np.float64).reshape(-1, 4)
  np.testing.assert_allclose(found['shift'][0], squeezed.mean(0), rtol=1e-4)
  np.testing.assert_allclose(np.exp(3 * found['log_scale'][0]), squeezed.std(0), rtol=1e-3)


# ---- drawing, and what is shown ------------------------------------------------------------------


@pytest.mark.parametrize('name', ['videoflow', INSIDE])
def test_latents_and_decode_undo_each_other(name):
  model, variables, x = make(name)
  latents = ask(model, variables, 'latents', x)
  assert [z.shape for z in latents] == [(*x.shape[:2], *s) for s in model.glow.latent_shapes]
  np.testing.assert_allclose(ask(model, variables, 'decode', latents), x, atol=1e-5)


def test_frames_that_are_limited_are_encoded_again():
  """What follows them is what would follow them as data; others keep the drawn latents."""
  model, variables, x = make(INSIDE)
  state = ask(model, variables, 'condition', x[:, :3])
  noise = modules.normal(0, 2, SIZE)
  seen = {}
  for name, limit in (('clipped', lambda x: jnp.clip(x, 0.4, 0.6)), ('free', None)):
    after, x_t = jax.jit(functools.partial(drawn, model, variables, limit=limit))(state, noise)
    expected, _ = ask(model, variables, 'step', state, x_t)
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3), after, expected
    )
    seen[name] = np.asarray(x_t)
  np.testing.assert_allclose(seen['clipped'], np.clip(seen['free'], 0.4, 0.6), atol=1e-6)
  assert np.mean(seen['clipped'] != seen['free']) > 0.3


@pytest.mark.parametrize('name', some_of([LEARNED, INSIDE], [INSIDE]))
def test_what_is_shown(name):
  """Numbers per level that add up to the score, and the frames that temperature 0 draws."""
  model, variables, x = make(name)
  terms, shown = ask(model, variables, None, x, mutable=('diagnostics', 'visuals'))
  skipped, numbers = model.min_context, shown['diagnostics']
  batch, steps = len(x), x.shape[1] - skipped
  latents = ask(model, variables, 'latents', x)
  total = 0.0
  for level, shape in enumerate(model.glow.latent_shapes):
    (of_level,), (z,), (u,) = (numbers[f'{n}_of_level_{level}'] for n in ('log_prob', 'z', 'u'))
    assert of_level.shape == (batch, steps)
    assert u.shape == (batch, steps, *shape)
    np.testing.assert_allclose(z, latents[level][:, skipped:], rtol=1e-4, atol=1e-5)
    total = total + of_level
    if name == LEARNED:  # whose frame is that of the last latent
      before = jnp.pad(latents[level], [(0, 0), (1, 0), *[(0, 0)] * 3])[:, :-1]
      np.testing.assert_allclose(u, z - before, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(total, terms.log_likelihood[:, skipped:], rtol=1e-5, atol=1e-5)
  assert numbers['saturation'][0].shape == (batch, steps)
  (prediction,) = shown['visuals']['prediction']
  state, frames = model.apply(variables, batch, method='initial_state'), []
  nothing = jnp.zeros((batch, SIZE))
  predict = jax.jit(lambda state: drawn(model, variables, state, nothing, 0.0)[1])
  for t in range(x.shape[1]):
    frames.append(predict(state))
    state = ask(model, variables, 'step', state, x[:, t])[0]
  expected = jnp.stack(frames[skipped:], axis=1)
  np.testing.assert_allclose(prediction, expected, rtol=1e-3, atol=1e-4)


def test_nothing_is_shown_unless_asked_for():
  """Decoding predictions costs as much as encoding."""
  model, variables, x = make('videoflow')
  asked, silent = (
    str(jax.make_jaxpr(lambda x, m=m: model.apply(variables, x, mutable=m))(x))
    for m in (['visuals'], [])
  )
  assert len(asked) > 1.3 * len(silent)


def test_sequences_without_a_scored_step_are_refused():
  model, variables, x = make('videoflow')
  with pytest.raises(ValueError, match='2 steps leave nothing to score') as error:
    model.apply(variables, x[:, :2])
  assert 'window of 2' in str(error.value)
  assert len(str(error.value).splitlines()) == 1


def test_a_learned_boundary_scores_sequences_of_any_length():
  """But it is created by ones that are long enough for all parameters."""
  model, variables, x = make(LEARNED)
  whole, first = ask(model, variables, None, x), ask(model, variables, None, x[:, :1])
  assert whole.scored.all()
  np.testing.assert_allclose(first.elbo, whole.elbo[:, :1], rtol=1e-5)
  with pytest.raises(ValueError, match='nothing to score'):
    model.init(jax.random.key(0), x[:, :2], method='initialize')


# ---- from configs --------------------------------------------------------------------------------


def published(boundary):
  """The published model of BAIR, `quant`; `unroll` changes no parameter and traces less."""
  prior = {'log_scale_limit': 0.0, 'boundary': boundary}
  spec = common.videoflow({'unroll': 1}, prior, {'name': 'conv3d'})
  model = build_models.model(spec, (64, 64, 3))
  return building.abstract_variables(model, 6)['params']


def size(tree):
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.fixture(scope='module')
def counted():
  return {boundary: published(boundary) for boundary in ('context', 'learned')}


def test_the_published_model_has_its_parameters(counted):
  """67,493,660 in tensor2tensor, of which it never uses 74,592 and never trains 44,346.

  With a learned boundary the latter are trained, but for the kernel that it lays on a top of zeros.
  """
  assert size(counted['context']) == 67_493_660 - 74_592 - 44_346 == 67_374_722
  assert size(counted['learned']) == 67_374_722 + 44_346 - 9 * 48 * 96 == 67_377_596


LEVELS = [  # channels of the steps, tensor2tensor's flow, prior and marginal
  (12, 14_768_832, 3_766_968, 780),
  (24, 16_784_256, 5_429_904, 2_856),
  (48, 20_856_576, 5_840_960, 42_528),
]


@pytest.mark.parametrize('level', range(3))
def test_every_level_has_its_parameters(level, counted):
  """L and U are stored once, in one matrix, and not as two with masks."""
  channels, flow, prior, marginal = LEVELS[level]
  masked = 24 * (channels**2 + channels)
  for params in counted.values():
    assert size(params['glow'][f'level_{level}']) == flow - masked
    assert size(params[f'priors_{level}']['network']) == prior
  context, learned = (counted[boundary][f'priors_{level}'] for boundary in ('context', 'learned'))
  if level < 2:
    assert size(learned['from_above']) == marginal
    assert size(context['from_above']) == marginal // 2
  else:
    assert size(learned['at_top']) == marginal - 9 * 48 * 96
    assert set(context) == {'network'}


def tiny(glow=None, prior=None, network=None, flow=None):
  glow = {'levels': 2, 'depth': 1, 'width': 4, **(glow or {})}
  return common.videoflow(glow, prior or {}, {'width': 4, **(network or {})}, flow)


def without(section, key):
  return {name: value for name, value in section.items() if name != key}


MISTAKES = [
  (
    tiny({'levels': 4}),
    'model.glow.levels=4 halve the sides 4 times, which 8x12 does not allow; use 2',
  ),
  (tiny({'coupling': 'afine'}), "model.glow.coupling='afine' is unknown (did you mean"),
  (tiny({'bound': 'tanh'}), "model.glow.bound='tanh' is unknown"),
  (tiny({'width': 0}), 'model.glow.width=0 must be at least 1'),
  (tiny({'condition_channels': (1, 2)}), 'model.glow.condition_channels is not a key'),
  (without(tiny(), 'glow'), 'model.glow is missing'),
  (without(tiny(), 'prior'), 'model.prior is missing'),
  ({**tiny(), 'depth': 3}, 'model.depth is not a key'),
  (tiny(prior={'window': -1}), 'model.prior.window=-1 must be at least 0'),
  (tiny(prior={'frame': 'first'}), "model.prior.frame='first' is unknown"),
  (
    tiny(prior={'window': 0}),
    "model.prior.window=0: nothing of the past is seen, so there is no frame='last'; use 'none'",
  ),
  (
    tiny(prior={'frame': 'none', 'sees': 'u'}),
    "model.prior.sees='u': with frame='none' u is z; use 'z'",
  ),
  (tiny(flow={}), "model.prior.flow: frame='last' has none; use frame='flow' or 'flow_last'"),
  (tiny(prior={'frame': 'flow'}), 'model.prior.flow is missing'),
  (
    tiny(prior={'frame': 'flow'}, flow={'boundary': 'context'}),
    "model.prior.flow.boundary='context': no latent variable is given; use 'learned'",
  ),
  (
    tiny(prior={'frame': 'flow'}, flow={'conditioner': {'patch': 4}}),
    'model.prior.flow.conditioner.patch=4 does not divide frames of',
  ),
  (
    {**tiny(), 'prior': {**tiny()['prior'], 'network': {'name': 'conv3'}}},
    "model.prior.network.name='conv3' is unknown (did you mean",
  ),
  (
    tiny(network={'widht': 3}),
    'model.prior.network.widht is not a key of this config (did you mean',
  ),
  (
    tiny(prior={'window': 0, 'frame': 'none'}, network={'widht': 3}),
    'model.prior.network.widht is not a key of this config (did you mean',
  ),
]


@pytest.mark.parametrize(('spec', 'expected'), MISTAKES, ids=[m[1][:40] for m in MISTAKES])
def test_mistakes_are_one_line(spec, expected):
  """With the value, the place and what to use instead."""
  with pytest.raises(ConfigError) as error:
    build_models.model(spec, (8, 12, 1))
  assert expected in str(error.value)
  assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
  ('event_shape', 'expected'),
  [
    ((6,), 'this model takes frames, the data have shape (6,)'),
    ((5, 8, 1), 'which 5x8 does not allow; use even sides'),
  ],
)
def test_data_that_do_not_fit_are_one_line(event_shape, expected):
  with pytest.raises(ConfigError) as error:
    build_models.model(tiny(), event_shape)
  assert expected in str(error.value)
  assert len(str(error.value).splitlines()) == 1


def test_every_level_has_the_prior_of_its_maps():
  spec = tiny(prior={'frame': 'flow_last', 'sees': 'both'}, flow={'conditioner': {'window': 2}})
  model = build_models.model(spec, (8, 12, 3))
  assert model.glow.latent_shapes == ((4, 6, 6), (2, 3, 24))
  assert [p.event_shape for p in model.priors] == [(4, 6, 6), (2, 3, 24)]
  assert [p.above_channels for p in model.priors] == [6, 0]
  assert [p.network.features for p in model.priors] == [12, 48]
  assert [p.flow.window for p in model.priors] == [2, 2]
  assert (model.num_context, model.min_context) == (3, 3)
  learned = build_models.model(tiny(prior={'boundary': 'learned'}), (8, 12, 3))
  assert (learned.num_context, learned.min_context) == (3, 0)


@pytest.mark.parametrize(
  ('spec', 'flows', 'expected'),
  [
    (tiny(), 0, 'VideoFlow'),
    (tiny(prior={'frame': 'flow'}, flow={}), 0, 'VideoFlow + AF'),
    (tiny(prior={'frame': 'flow_last'}, flow={}), 0, 'VideoFlow + AF'),
    (tiny(), 1, 'VideoFlow + 1-AF'),
    (tiny(prior={'frame': 'flow'}, flow={}), 2, 'VideoFlow + AF + 2-AF'),
    (tiny(prior={'window': 0, 'frame': 'none'}), 0, 'Glow'),
    (tiny(prior={'window': 0, 'frame': 'none'}), 1, 'Glow + 1-AF'),
  ],
)
def test_names_in_tables(spec, flows, expected):
  """Flows inside and around are told apart."""
  assert build_models.label(common.temporal_flows(spec, {}, [{}] * flows)) == expected
