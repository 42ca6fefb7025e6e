"""The table of models that the property tests run over: adding a model here tests it."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from afslvm.flows.box_logistic import AutoregressiveBoxLogistic
from afslvm.flows.conditioners import ConvConditioner, DenseConditioner
from afslvm.flows.glow import Glow
from afslvm.flows.temporal import AutoregressiveAffine
from afslvm.inference.direct import Direct
from afslvm.inference.iterative import Iterative
from afslvm.likelihoods.bernoulli import Bernoulli
from afslvm.likelihoods.discretized_gaussian import DiscretizedGaussian
from afslvm.likelihoods.gaussian import Gaussian
from afslvm.models.base import SequenceModel, StepTerms
from afslvm.models.level_priors import LevelPrior
from afslvm.models.priors import FlowPrior, LSTMPrior, NormalNetwork
from afslvm.models.slvm import SLVM
from afslvm.models.srnn import SRNN
from afslvm.models.standard_normal import StandardNormal
from afslvm.models.svg import SVG, FramePredictor
from afslvm.models.temporal_flow import TemporalFlow
from afslvm.models.videoflow import VideoFlow
from afslvm.models.vrnn import VRNN
from afslvm.networks.conv import Normalization
from afslvm.networks.dcgan import DcganDecoder, DcganEncoder
from afslvm.networks.glow import PlanePrior, SpacetimePrior
from afslvm.networks.heads import LocLogScale
from afslvm.networks.maps import MapDecoder, MapEncoder, MapNetwork
from afslvm.networks.mlp import MLP
from afslvm.networks.recurrent import Recurrence
from afslvm.networks.vgg import VggDecoder, VggEncoder

FRAME, VECTOR = (4, 6, 2), (3,)
LATENT = 2
VIDEO = (4, 8, 1)  # of which a flow of two levels makes maps of 2 x 4 and 1 x 2
MAP = (2, 3, 2)  # of latent variables that are maps: half of a frame


def conv(event_shape=FRAME, **options):
  tiny = {'window': 2, 'channels': 4, 'encoder_depth': 1, 'decoder_depth': 1}
  return ConvConditioner(event_shape, **{**tiny, **options})


def dense(**options):
  return DenseConditioner(VECTOR, **{'window': 2, 'features': 5, 'depth': 1, **options})


def flows(num_flows, conditioner, base=None, **options):
  event_shape = conditioner.event_shape
  model = base or StandardNormal(event_shape)
  for _ in range(num_flows):
    flow = AutoregressiveAffine(conditioner.copy(), **options)
    model = TemporalFlow(event_shape, base=model, flow=flow)
  return model


def boxed(conditioner, base=None, **options):
  """A box-logistic flow nearest the data."""
  event_shape = conditioner.event_shape
  flow = AutoregressiveBoxLogistic(conditioner, **options)
  return TemporalFlow(event_shape, base=base or StandardNormal(event_shape), flow=flow)


def lstm_prior(**options):
  return LSTMPrior(LATENT, **{'features': 4, 'depth': 1, 'hidden': 3, 'layers': 1, **options})


def flow_prior(base=None):
  flow = AutoregressiveAffine(
    DenseConditioner((LATENT,), window=2, features=3, depth=1), boundary='learned'
  )
  return FlowPrior(LATENT, base=base or lstm_prior(first_step='learned'), flow=flow)


def direct(encoder=None, **options):
  small = {'features': 4, 'depth': 1, 'hidden': 3, 'layers': 0}
  return Direct(LATENT, encoder=encoder, **{**small, **options})


def avf(encoder=None, **options):
  return Iterative(LATENT, encoder=encoder, **{'features': 6, 'depth': 2, **options})


def binned():
  return DiscretizedGaussian(VECTOR, bin_width=0.1)


def _recurrent(inference, likelihood, options):
  return {
    'latent_shape': (LATENT,),
    'likelihood': likelihood or Gaussian(VECTOR),
    'inference': inference or direct(**options),
    'decoder': MLP(5, depth=2),
  }


def srnn(
  cell='lstm',
  inference=None,
  likelihood=None,
  posterior_sees_latent=False,
  given=0,
  prior_conditioning='posterior',
  **q,
):
  body = MLP(5, depth=1, activation='clipped_leaky_relu')
  return SRNN(
    VECTOR,
    recurrence=Recurrence(4, cell),
    prior_network=NormalNetwork(body, LocLogScale(LATENT)),
    embedding=MLP(features=3, depth=1),
    posterior_sees_latent=posterior_sees_latent,
    given=given,
    prior_conditioning=prior_conditioning,
    **_recurrent(inference, likelihood, q),
  )


def vrnn(inference=None, likelihood=None, given=0, **q):
  return VRNN(
    VECTOR,
    recurrence=Recurrence(4),
    observation_network=MLP(features=5, depth=1),
    latent_network=MLP(features=5, depth=1),
    prior_network=NormalNetwork(MLP(features=5, depth=1), LocLogScale(LATENT)),
    given=given,
    **_recurrent(inference, likelihood, q),
  )


def conv_direct(**options):
  """A posterior of maps, whose latent variables are flat for everything but its networks."""
  return Direct(
    math.prod(MAP), network=MapNetwork(3), head_size=MAP[-1], **{'layers': 0, **options}
  )


def conv_avf(**options):
  return Iterative(math.prod(MAP), **{'features': 6, 'depth': 1, **options})


def map_recurrence():
  return Recurrence(3, 'gru', map_shape=MAP[:2])


def conv_srnn(inference=None, posterior_sees_latent=False, **options):
  """SRNN on frames, with latent variables that are maps, of ordinary parts."""
  return SRNN(
    FRAME,
    latent_shape=MAP,
    likelihood=Gaussian(FRAME, mean_activation='sigmoid'),
    inference=inference or conv_direct(),
    recurrence=Recurrence(3, map_shape=MAP[:2]),
    embedding=MapEncoder((4,), normalization='group'),
    prior_network=NormalNetwork(MapNetwork(3), LocLogScale(MAP[-1])),
    decoder=MapDecoder((4,), normalization='group'),
    posterior_sees_latent=posterior_sees_latent,
    **options,
  )


def conv_vrnn(inference=None):
  """VRNN likewise."""
  return VRNN(
    FRAME,
    latent_shape=MAP,
    likelihood=Gaussian(FRAME, mean_activation='sigmoid'),
    inference=inference or conv_direct(),
    recurrence=Recurrence(3, 'gru', map_shape=MAP[:2]),
    observation_network=MapEncoder((4,)),
    latent_network=MapNetwork(3),
    prior_network=NormalNetwork(MapNetwork(3), LocLogScale(MAP[-1])),
    decoder=MapDecoder((4,)),
  )


def slvm(event_shape=VECTOR, dynamics=None, layers=1, residual=False, inference=None, **likelihood):
  """SLVM of MLPs for vectors, of DCGAN's networks for frames."""
  encoder, decoder = MLP(features=5, depth=1), MLP(features=5, depth=1)
  if len(event_shape) == 3:
    encoder = DcganEncoder(widths=(4,), features=5)
    decoder = DcganDecoder(frame_size=event_shape[:2], widths=(4,))
  return SLVM(
    event_shape,
    latent_shape=(LATENT,),
    likelihood=Gaussian(event_shape, **likelihood),
    inference=inference
    or Direct(LATENT, encoder=encoder, hidden=3, layers=layers, residual=residual),
    dynamics=dynamics or lstm_prior(layers=layers),
    decoder=decoder,
  )


def svg(networks='dcgan', inference=None, **options):
  """SVG on frames, with the networks of DCGAN and BatchNorm, or of VGG and GroupNorm."""
  if networks == 'dcgan':
    encoder = DcganEncoder(widths=(4,), features=8, last_activation='tanh')
    decoder = DcganDecoder(FRAME[:2], widths=(4,))
  else:
    encoder = VggEncoder(widths=(4,), depths=(2,), features=8, normalization='group')
    decoder = VggDecoder(FRAME[:2], widths=(4,), depths=(2,), normalization='group')
  return SVG(
    FRAME,
    latent_shape=(LATENT,),
    likelihood=Gaussian(FRAME, mean_activation='sigmoid'),
    inference=inference or Direct(LATENT, hidden=3, layers=1),
    frame_encoder=encoder,
    decoder=decoder,
    prior_recurrence=Recurrence(4),
    prior_network=NormalNetwork(MLP(depth=0), LocLogScale(LATENT)),
    predictor=FramePredictor(8, features=3, layers=2),
    **options,
  )


def glow(event_shape=VIDEO, **options):
  return Glow(event_shape, **{'levels': 2, 'depth': 1, 'width': 5, **options})


def videoflow(network=PlanePrior, map_=None, **options):
  """VideoFlow of small parts; `options` are those of its level priors."""
  map_ = map_ or glow()
  options = {'window': 2, **options}
  priors = []
  for shape, above in zip(map_.latent_shapes, map_.above_channels, strict=True):
    flow = None
    if options.get('frame', 'last').startswith('flow'):
      flow = AutoregressiveAffine(conv(shape, normalization='none'), boundary='learned')
    parts = network(2 * shape[-1], width=5, depth=1) if options['window'] else None
    priors.append(LevelPrior(shape, above, parts, flow, **options))
  return VideoFlow(map_.event_shape, glow=map_, priors=tuple(priors))


MODELS = {
  'standard_normal': lambda: StandardNormal(VECTOR),
  '1-AF conv batch context': lambda: flows(1, conv()),
  '1-AF conv group learned': lambda: flows(1, conv(normalization='group'), boundary='learned'),
  '2-AF conv patch sigmoid': lambda: flows(2, conv(patch=2), shift_activation='sigmoid'),
  '2-AF conv paper learned': lambda: flows(
    2, conv(normalization='none'), boundary='learned', log_scale_bound='paper'
  ),
  '1-AF dense symmetric': lambda: flows(1, dense(), log_scale_bound='symmetric'),
  '3-AF linear constant': lambda: flows(3, dense(depth=0, window=1, constant_scale=True)),
  '2-AF dense learned': lambda: flows(2, dense(), boundary='learned'),
  '1-AF box-logistic': lambda: boxed(conv(), shift_activation='sigmoid'),
  '2-AF box-logistic mixture learned': lambda: boxed(
    dense(components=3), base=flows(1, dense(), boundary='learned'), boundary='learned'
  ),
  'recurrent': lambda: Recurrent(VECTOR),
  'flow around recurrent batch': lambda: flows(
    1, dense(), base=Recurrent(VECTOR, normalization='batch')
  ),
  'slvm mlp': lambda: slvm(),
  'flow around slvm with a flow in its prior': lambda: flows(
    1, dense(), base=slvm(dynamics=flow_prior(), residual=True), boundary='learned'
  ),
  'box-logistic flow around slvm': lambda: boxed(dense(), base=slvm()),
  '2 flows around slvm dcgan batch': lambda: flows(
    2, conv(), base=slvm(FRAME, layers=2, mean_activation='sigmoid', log_scale_bound='clip')
  ),
  'slvm dcgan batch avf': lambda: slvm(
    FRAME,
    inference=avf(update_rule='learned_sgd', gradient_scale=0.05, num_draws=2),
  ),
  'flow around slvm avf': lambda: flows(
    1, dense(), base=slvm(inference=avf(num_iterations=2, errors=True, observation=True))
  ),
  'srnn': lambda: srnn(),
  'srnn gru residual bernoulli': lambda: srnn(
    'gru', likelihood=Bernoulli(VECTOR), posterior_sees_latent=True, residual=True
  ),
  'srnn smoothing': lambda: srnn(inference=direct(backward=Recurrence(3, 'gru'))),
  'srnn avf from residual': lambda: srnn(
    inference=avf(start=direct(residual=True), gradient_encoding='log_sign')
  ),
  'srnn vfem': lambda: srnn(inference=avf(update_rule='adam', num_iterations=3)),
  'srnn given': lambda: srnn(given=2),
  'srnn prior chain': lambda: srnn(posterior_sees_latent=True, prior_conditioning='prior_chain'),
  'vrnn given': lambda: vrnn(given=2),
  'vrnn': lambda: vrnn(),
  'vrnn discretized avf': lambda: vrnn(inference=avf(normalize_mean=True), likelihood=binned()),
  'svg dcgan batch': lambda: svg(num_skip_frames=2),
  'svg vgg avf': lambda: svg('vgg', avf(depth=1), skips='last'),
  'conv srnn': lambda: conv_srnn(),
  'conv srnn residual': lambda: conv_srnn(conv_direct(residual=True), True),
  'conv srnn smoothing': lambda: conv_srnn(conv_direct(backward=map_recurrence()), given=1),
  'conv srnn avf': lambda: conv_srnn(conv_avf(observation=True)),
  'flow around conv srnn avf from residual': lambda: flows(
    1, conv(), base=conv_srnn(conv_avf(start=conv_direct(residual=True)))
  ),
  'conv vrnn batch': lambda: conv_vrnn(),
  # Its mode is what temperature 0 draws: additive couplings keep volumes.
  'videoflow': lambda: videoflow(map_=glow(coupling='additive', permutation='fixed')),
  'videoflow conv3d learned': lambda: videoflow(SpacetimePrior, boundary='learned'),
  'videoflow with flows inside': lambda: videoflow(
    frame='flow_last', sees='both', map_=glow(bound='jet')
  ),
  'flow around videoflow': lambda: flows(
    1, conv(VIDEO, patch=2), base=videoflow(frame='flow', sees='u'), boundary='learned'
  ),
  'flow around glow': lambda: flows(
    1, conv(VIDEO), base=videoflow(window=0, frame='none', map_=glow(remat=True, unroll=1, depth=2))
  ),
}
KINDS = ('slvm', 'srnn', 'vrnn', 'svg')
LATENT_MODELS = [name for name in MODELS if any(kind in name for kind in KINDS)]
FLOWS = {name: make for name, make in MODELS.items() if 'AF' in name}


class Recurrent(SequenceModel):
  """A GRU with a latent variable taken at its posterior mean: a model that needs the scan."""

  normalization: str = 'none'

  def setup(self):
    (size,) = self.event_shape
    self.cell = nn.GRUCell(4)
    self.prior, self.posterior = nn.Dense(2), nn.Dense(2)
    self.normalize = Normalization(self.normalization)
    self.mean = nn.Dense(size)

  def initial_state(self, batch_size):
    return jnp.zeros((batch_size, 4))

  def step(self, state, x_t, mask_t=None):
    prior, z_t = self.prior(state), self.posterior(jnp.concatenate([state, x_t], axis=-1))
    kl = 0.5 * jnp.sum(jnp.square(z_t - prior), axis=-1)
    mean = self.mean(self.normalize(jnp.concatenate([state, z_t], axis=-1), mask_t))
    log_prob = -0.5 * jnp.sum(jnp.square(x_t - mean) + math.log(2 * math.pi), axis=-1)
    state = self.cell(state, jnp.concatenate([x_t, z_t], axis=-1))[0]
    return state, StepTerms(log_prob, kl, jnp.zeros_like(kl), jnp.ones(kl.shape, bool))

  def predict(self, state, temperature=1.0, limit=None):
    noise = jax.random.normal(self.make_rng('sample'), (state.shape[0], 2))
    z_t = self.prior(state) + temperature * noise
    x_t = self.mean(self.normalize(jnp.concatenate([state, z_t], axis=-1)))
    x_t = limit(x_t) if limit else x_t
    return self.cell(state, jnp.concatenate([x_t, z_t], axis=-1))[0], x_t


def given_noise(model, noise):
  """Variables that give the latent noise, [B, T, Z] of what the core sees, or a number."""
  core = model.core
  if core.bound == 'exact':
    return {}
  if jnp.ndim(noise) == 0:
    noise = noise * jnp.resize(jnp.array([1.0, -2.75, 0.6]), core.latent_size)
  given = {'latent': noise, 'chain': 0.3 - noise}
  for name, count in (('free_energy', estimates(core)), ('judged', core.inference.num_trained)):
    draws = (core.inference.noise_shape or (0, 1))[1]
    other = jnp.stack([0.5 * noise + s for s in range(draws)], axis=-2)
    given[name] = jnp.stack([other - 0.1 * n for n in range(max(count, 1))], axis=-3)
  return {'noise': model.at_core(given)}


def estimates(core):
  """How many estimates of F_t a step takes."""
  return (core.inference.noise_shape or (0, 1))[0]


def unseen(model):
  """How many steps flows take from the front, which their core never sees."""
  return model.min_context - model.core.min_context


def data(model, batch=3, steps=9, seed=0):
  return jax.random.uniform(jax.random.key(seed), (batch, steps, *model.event_shape))


def randomized(model, x, seed=3, scale=0.1):
  """Variables with random values everywhere, so that no property holds by a zero head.

  Only the shapes are the model's: to compile its initialisers would take longer than most tests.
  """
  rng = np.random.default_rng(seed)
  keys = {'params': jax.random.key(seed), 'sample': jax.random.key(seed)}
  shapes = jax.eval_shape(lambda: model.init(keys, x, method='initialize'))

  def drawn(path, leaf):
    noise = np.float32(scale) * rng.standard_normal(leaf.shape, np.float32)
    name = path[-1].key
    if 'kernel' in name:
      width = math.prod(leaf.shape[:-1])
      return noise + rng.standard_normal(leaf.shape, np.float32) / np.float32(math.sqrt(width))
    return 1 + np.abs(noise) if name == 'var' else noise + (name == 'scale')

  return jax.tree.map(jnp.asarray, jax.tree_util.tree_map_with_path(drawn, shapes))


@functools.partial(jax.jit, static_argnums=0, static_argnames=('method', 'mutable'))
def apply(model, variables, *arguments, **options):
  """`model.apply`, compiled once for each model, method and shape; eagerly, every scan is anew."""
  return model.apply(variables, *arguments, **options)
