"""From the `model` section of a config to a sequence model: names of models and of their parts."""

import math
from collections.abc import Mapping
from typing import Any

from afslvm import schema
from afslvm.errors import ConfigError, nearest
from afslvm.flows import conditioners
from afslvm.flows.box_logistic import AutoregressiveBoxLogistic
from afslvm.flows.glow import Glow
from afslvm.flows.temporal import AutoregressiveAffine, AutoregressiveFlow
from afslvm.inference.base import Inference
from afslvm.inference.direct import Direct
from afslvm.inference.iterative import Iterative
from afslvm.likelihoods.base import HasErrors
from afslvm.likelihoods.bernoulli import Bernoulli
from afslvm.likelihoods.discretized_gaussian import DiscretizedGaussian
from afslvm.likelihoods.gaussian import Gaussian
from afslvm.likelihoods.nade import Nade
from afslvm.models.base import SequenceModel
from afslvm.models.level_priors import LevelPrior
from afslvm.models.priors import FlowPrior, LatentPrior, LSTMPrior, NormalNetwork
from afslvm.models.slvm import SLVM
from afslvm.models.srnn import SRNN
from afslvm.models.standard_normal import StandardNormal
from afslvm.models.state_space import PRIOR_CHAIN, StateSpaceModel
from afslvm.models.svg import SVG, FramePredictor
from afslvm.models.temporal_flow import TemporalFlow
from afslvm.models.videoflow import VideoFlow
from afslvm.models.vrnn import VRNN
from afslvm.networks import dcgan, vgg
from afslvm.networks.glow import PlanePrior, SpacetimePrior
from afslvm.networks.heads import LocLogScale
from afslvm.networks.mlp import MLP
from afslvm.networks.recurrent import CELLS, Recurrence
from afslvm.types import EventShape

MODELS = {
  'standard_normal': StandardNormal,
  'temporal_flow': TemporalFlow,
  'slvm': SLVM,
  'srnn': SRNN,
  'vrnn': VRNN,
  'svg': SVG,
  'videoflow': VideoFlow,
}
LEVEL_NETWORKS = {'conv2d': PlanePrior, 'conv3d': SpacetimePrior}
PRIORS = {'lstm': LSTMPrior, 'temporal_flow': FlowPrior}
INFERENCES = {'direct': Direct, 'iterative': Iterative}
LIKELIHOODS = {
  'gaussian': Gaussian,
  'discretized_gaussian': DiscretizedGaussian,
  'bernoulli': Bernoulli,
  'nade': Nade,
}
FRAME_ENCODERS = {'dcgan': dcgan.DcganEncoder, 'vgg': vgg.VggEncoder}
FRAME_DECODERS = {'dcgan': dcgan.DcganDecoder, 'vgg': vgg.VggDecoder}
ENCODERS = {**FRAME_ENCODERS, 'mlp': MLP}
DECODERS = {**FRAME_DECODERS, 'mlp': MLP}
CONDITIONERS = {
  'conv': conditioners.ConvConditioner,
  'dense': conditioners.DenseConditioner,
}
TRANSFORMS = {'affine': AutoregressiveAffine, 'box_logistic': AutoregressiveBoxLogistic}
AT_PRIOR = 'prior'  # of inference.start: where iterative inference begins


def model(
  spec: dict[str, Any], event_shape: EventShape, place: str = 'model', bin_width: float = 0.0
) -> SequenceModel:
  """A sequence model on observations of `event_shape`, with all its parts.

  Args:
    spec: the section.
    event_shape: of one observation.
    place: the section's name in messages.
    bin_width: distance of neighbouring values of the data, 0 where they are continuous.
  """
  spec = dict(spec)
  cls = schema.lookup(MODELS, spec.pop('name', None), f'{place}.name')
  if cls is TemporalFlow:
    return _temporal_flow(spec, event_shape, place, bin_width)
  if issubclass(cls, VideoFlow):
    return _videoflow(cls, spec, event_shape, place)
  if issubclass(cls, StateSpaceModel):
    return _state_space_model(cls, spec, event_shape, place, bin_width)
  return schema.construct(cls, spec, place, **_observed(event_shape))


def _observed(event_shape: EventShape) -> dict[str, Any]:
  """Returns the fields of a model that the data decide; the range of values is set outermost."""
  return {'event_shape': event_shape, 'value_range': ()}


# ---- flows ---------------------------------------------------------------------------------------


def _temporal_flow(
  spec: dict[str, Any], event_shape: EventShape, place: str, bin_width: float
) -> TemporalFlow:
  """`base` and `conditioner` are sections; every other key belongs to the transform."""
  base = model(_pop_section(spec, 'base', place), event_shape, f'{place}.base', bin_width)
  if isinstance(base, TemporalFlow) and isinstance(base.flow, AutoregressiveBoxLogistic):
    raise ConfigError(
      f"{place}.base.transform='box_logistic' is for the flow nearest the data, which alone sees "
      "their levels; use 'affine' there"
    )
  return TemporalFlow(event_shape=event_shape, base=base, flow=_flow(spec, event_shape, place))


def _pop_section(spec: dict[str, Any], name: str, place: str) -> dict[str, Any]:
  if not isinstance(spec.get(name), dict):
    raise ConfigError(f'{place}.{name} is missing')
  return dict(spec.pop(name))


def _flow(spec: dict[str, Any], event_shape: EventShape, place: str) -> AutoregressiveFlow:
  """`transform` says which, and `conditioner` is a section."""
  transform = schema.lookup(TRANSFORMS, spec.pop('transform', 'affine'), f'{place}.transform')
  network = _pop_section(spec, 'conditioner', place)
  where = f'{place}.conditioner'
  network_cls = schema.lookup(CONDITIONERS, network.pop('name', None), f'{where}.name')
  expected = 3 if network_cls is conditioners.ConvConditioner else 1
  if len(event_shape) != expected:
    raise ConfigError(
      f'{where}.name: this network takes observations with {expected} axes, the data have shape '
      f'{event_shape}; use {"conv" if len(event_shape) == 3 else "dense"}'
    )
  conditioner = schema.construct(network_cls, network, where, event_shape=event_shape)
  patch = getattr(conditioner, 'patch', 1)
  if any(size % patch for size in event_shape[:2]) and patch > 1:
    raise ConfigError(f'{where}.patch={patch} does not divide frames of {event_shape[:2]}')
  flow = schema.construct(transform, spec, place, conditioner=conditioner)
  if flow.components > 1 and isinstance(flow, AutoregressiveAffine):
    raise ConfigError(
      f"{where}.components={flow.components} needs {place}.transform='box_logistic'; an affine "
      'transform has one'
    )
  return flow


def _flow_of_latents(
  spec: dict[str, Any], event_shape: EventShape, place: str
) -> AutoregressiveFlow:
  """Builds the flow of a prior, which stays normal, from the first step on."""
  transform = spec.get('transform', 'affine')
  flow = _flow(spec, event_shape, place)
  if not flow.keeps_normal:
    raise ConfigError(f"{place}.transform={transform!r}: this prior is normal; use 'affine'")
  if flow.boundary != 'learned':
    raise ConfigError(
      f"{place}.boundary={flow.boundary!r}: no latent variable is given; use 'learned'"
    )
  return flow


def _videoflow(
  cls: type[VideoFlow], spec: dict[str, Any], event_shape: EventShape, place: str
) -> VideoFlow:
  """Builds the sections `glow` and `prior`, of which every level gets one."""
  if len(event_shape) != 3:
    raise ConfigError(f'{place}.name: this model takes frames, the data have shape {event_shape}')
  section = _pop_section(spec, 'glow', place)
  glow = schema.construct(
    Glow, section, f'{place}.glow', event_shape=event_shape, condition_channels=()
  )
  if any(side % 2**glow.levels for side in event_shape[:2]):
    most = next(n for n in range(32) if any(side % 2 ** (n + 1) for side in event_shape[:2]))
    raise ConfigError(
      f'{place}.glow.levels={glow.levels} halve the sides {glow.levels} times, which '
      f'{event_shape[0]}x{event_shape[1]} does not allow; use {most or "even sides"}'
    )
  prior = _pop_section(spec, 'prior', place)
  priors = tuple(
    _level_prior(dict(prior), shape, above, f'{place}.prior')
    for shape, above in zip(glow.latent_shapes, glow.above_channels, strict=True)
  )
  return schema.construct(cls, spec, place, **_observed(event_shape), glow=glow, priors=priors)


def _level_prior(
  spec: dict[str, Any], shape: EventShape, above_channels: int, place: str
) -> LevelPrior:
  """Builds the prior of one level; `network` is a section, and `flow` where the frame has one."""
  section = _pop_section(spec, 'network', place)
  cls = schema.lookup(LEVEL_NETWORKS, section.pop('name', None), f'{place}.network.name')
  network = schema.construct(cls, section, f'{place}.network', features=2 * shape[-1])
  frame, flow = spec.get('frame', LevelPrior.frame), None
  if frame in ('flow', 'flow_last'):
    if 'flow' not in spec:
      raise ConfigError(
        f'{place}.flow is missing, which frame={frame!r} needs; begin with a config that has one, '
        "such as moving_digits/videoflow_af, or use frame='last'"
      )
    flow = _flow_of_latents(_pop_section(spec, 'flow', place), shape, f'{place}.flow')
  elif 'flow' in spec:
    raise ConfigError(f"{place}.flow: frame={frame!r} has none; use frame='flow' or 'flow_last'")
  given = {'event_shape': shape, 'above_channels': above_channels, 'flow': flow}
  given['network'] = network if spec.get('window', LevelPrior.window) else None
  prior = schema.construct(LevelPrior, spec, place, **given)
  if prior.frame != 'none' and not prior.window:
    raise ConfigError(
      f"{place}.window=0: nothing of the past is seen, so there is no frame={frame!r}; use 'none'"
    )
  if prior.frame == 'none' and prior.sees != 'z':
    raise ConfigError(f"{place}.sees={prior.sees!r}: with frame='none' u is z; use 'z'")
  return prior


# ---- latent variable models ----------------------------------------------------------------------


def _state_space_model(
  cls: type, spec: dict[str, Any], event_shape: EventShape, place: str, bin_width: float
) -> StateSpaceModel:
  """Builds sections for encoder, inference and likelihood, and those that the model has itself."""
  spec['latent_shape'] = shape = _latent_shape(spec.get('latent_shape'), place)
  size = math.prod(shape)
  encoder = _encoder(_pop_section(spec, 'encoder', place), event_shape, f'{place}.encoder')
  if cls is not SLVM and not (encoder is None or isinstance(encoder, MLP)):
    raise ConfigError(
      f'{place}.encoder.name: what this posterior is shown are no frames; use mlp or none'
    )
  inference = _inference(
    _pop_section(spec, 'inference', place), f'{place}.inference', size, encoder
  )
  likelihood = _likelihood(
    _pop_section(spec, 'likelihood', place), event_shape, f'{place}.likelihood', bin_width
  )
  if getattr(inference, 'errors', False) and not isinstance(likelihood, HasErrors):
    raise ConfigError(
      f'{place}.inference.errors=True: this likelihood has no precision-weighted errors; use False'
    )
  own = schema.of_class(OWN_PARTS, cls, f'{place}.name')(spec, event_shape, size, place)
  built = schema.construct(
    cls,
    spec,
    place,
    **_observed(event_shape),
    inference=inference,
    likelihood=likelihood,
    **own,
  )
  _check_prior_chain(built, place)
  return built


def _check_prior_chain(built: StateSpaceModel, place: str):
  """A chain of the prior's own draws is for priors and posteriors that can do with it."""
  if not built.has_prior_chain:
    return
  where = f"{place}.prior_conditioning='prior_chain'"
  if not built.prior_sees_latents:
    raise ConfigError(f"{where}: this model's prior sees observations alone; use 'posterior'")
  begun = getattr(built.inference, 'start', None) or built.inference
  if getattr(begun, 'residual', False):
    raise ConfigError(
      f'{where}: a posterior with residual=True adds to the mean of a prior that sees its own '
      "draws; use residual=False, or 'posterior'"
    )


def _latent_shape(given: Any, place: str) -> tuple[int, ...]:
  """Returns (Z,) or (h, w, c); a config may give Z alone."""
  shape = (given,) if type(given) is int else given
  fits = isinstance(shape, tuple | list) and len(shape) in (1, 3)
  if not fits or any(type(side) is not int or side < 1 for side in shape):
    raise ConfigError(
      f'{place}.latent_shape={given!r} must be an integer, 1 or more, or three of them (h, w, c)'
    )
  return tuple(shape)


def _slvm(
  spec: dict[str, Any], event_shape: EventShape, latent_size: int, place: str
) -> dict[str, Any]:
  decoder = _pop_section(spec, 'decoder', place)
  prior = _pop_section(spec, 'prior', place)
  return {
    'dynamics': _latent_prior(prior, latent_size, f'{place}.prior'),
    'decoder': _network(DECODERS, decoder, event_shape, f'{place}.decoder'),
  }


def _srnn(
  spec: dict[str, Any], event_shape: EventShape, latent_size: int, place: str
) -> dict[str, Any]:
  del event_shape
  prior = _pop_section(spec, 'prior', place)
  return {
    'prior_network': _normal_network(prior, latent_size, f'{place}.prior'),
    **_constructed(spec, place, recurrence=Recurrence, decoder=MLP, embedding=MLP),
  }


def _vrnn(
  spec: dict[str, Any], event_shape: EventShape, latent_size: int, place: str
) -> dict[str, Any]:
  del event_shape
  prior = _pop_section(spec, 'prior', place)
  networks = _constructed(
    spec,
    place,
    recurrence=Recurrence,
    decoder=MLP,
    observation_network=MLP,
    latent_network=MLP,
  )
  return {'prior_network': _normal_network(prior, latent_size, f'{place}.prior'), **networks}


def _svg(
  spec: dict[str, Any], event_shape: EventShape, latent_size: int, place: str
) -> dict[str, Any]:
  frames, decoder = _pop_section(spec, 'frame_encoder', place), _pop_section(spec, 'decoder', place)
  prior, predictor = _pop_section(spec, 'prior', place), _pop_section(spec, 'predictor', place)
  kinds = frames.get('name'), decoder.get('name')
  encoder = _network(FRAME_ENCODERS, frames, event_shape, f'{place}.frame_encoder')
  maps = _network(FRAME_DECODERS, decoder, event_shape, f'{place}.decoder')
  halvings = len(encoder.widths), len(maps.widths)
  if spec.get('skips') != 'none' and (kinds[0] != kinds[1] or halvings[0] != halvings[1]):
    raise ConfigError(
      f'{place}.decoder: {kinds[1]} of {halvings[1]} widths can not see the maps of a '
      f"frame_encoder {kinds[0]} of {halvings[0]}; use the same, or {place}.skips='none'"
    )
  heads = _heads(prior, latent_size, f'{place}.prior')
  return {
    'frame_encoder': encoder,
    'decoder': maps,
    'prior_network': NormalNetwork(MLP(depth=0), heads),
    'prior_recurrence': _constructed_one(Recurrence, prior, f'{place}.prior'),
    'predictor': schema.construct(
      FramePredictor, predictor, f'{place}.predictor', size=encoder.features
    ),
  }


# What a model has beside encoder, inference and likelihood, from (spec, event_shape, Z, place).
OWN_PARTS = {SLVM: _slvm, SRNN: _srnn, VRNN: _vrnn, SVG: _svg}


def _constructed(spec: dict[str, Any], place: str, **classes: type) -> dict[str, Any]:
  """Builds parts whose sections have one possible class each."""
  return {
    name: _constructed_one(cls, _pop_section(spec, name, place), f'{place}.{name}')
    for name, cls in classes.items()
  }


def _constructed_one(cls: type, spec: dict[str, Any], place: str) -> Any:
  """Builds a part; recurrences are of vectors."""
  given = {'map_shape': (), 'kernel': 3} if cls is Recurrence else {}
  return schema.construct(cls, spec, place, **given)


def _normal_network(spec: dict[str, Any], latent_size: int, place: str) -> NormalNetwork:
  """Builds dense layers with heads for mean and log-scale of z, from a prior's section."""
  heads = _heads(spec, latent_size, place)
  return NormalNetwork(schema.construct(MLP, spec, place), heads)


def _heads(spec: dict[str, Any], latent_size: int, place: str) -> LocLogScale:
  """Builds the heads, from the keys of a prior's section that concern them."""
  keys = ('log_scale_low', 'log_scale_high')
  own = {key: spec.pop(key) for key in keys if key in spec}
  initialization = spec.pop('head_initialization', '') or spec.get('initialization', 'lecun')
  own['initialization'] = initialization
  return schema.construct(LocLogScale, own, place, size=latent_size)


def _inference(spec: dict[str, Any], place: str, latent_size: int, encoder: Any) -> Inference:
  """Builds an inference procedure; an iterative one may begin at the posterior of another."""
  cls = schema.lookup(INFERENCES, spec.pop('name', None), f'{place}.name')
  start = None
  if cls is Iterative:
    section = _pop_section(spec, 'start', place)
    schema.lookup({AT_PRIOR: None, 'direct': None}, section.get('name'), f'{place}.start.name')
    unseen = section['name'] != AT_PRIOR or not spec.get('observation', False)
    if spec.get('smoothing') and unseen:
      raise ConfigError(
        f'{place}.smoothing={spec["smoothing"]}: these iterations see no observation; use 0, or '
        f'{place}.start.smoothing, or {place}.observation=True with start.name=prior'
      )
    if section['name'] == AT_PRIOR:
      schema.check_keys(section, ('name',), f'{place}.start')
    else:
      start = _inference(section, f'{place}.start', latent_size, encoder)
  given: dict[str, Any] = {'latent_size': latent_size, 'backward': _smoothing(spec, place)}
  given['encoder'] = None if start is not None else encoder
  if cls is Iterative:
    given['start'] = start
  elif cls is Direct:
    given.update(network=None, head_size=0)
  return schema.construct(cls, spec, place, **given)


def _smoothing(spec: dict[str, Any], place: str) -> Recurrence | None:
  """Builds the recurrence from the last step to the first, of `smoothing` units, 0 being none."""
  size, cell = spec.pop('smoothing', 0), spec.pop('smoothing_cell', 'gru')
  if type(size) is not int or size < 0:
    raise ConfigError(f'{place}.smoothing={size!r} must be an integer, 0 or more')
  if cell not in CELLS:
    hint = nearest(str(cell), CELLS) or f'; it is one of {", ".join(CELLS)}'
    raise ConfigError(f'{place}.smoothing_cell={cell!r} is unknown{hint}')
  return Recurrence(size, cell) if size else None


def _likelihood(spec: dict[str, Any], event_shape: EventShape, place: str, bin_width: float) -> Any:
  """A likelihood; a discretised one takes the width of its bins from the data, unless told."""
  cls = schema.lookup(LIKELIHOODS, spec.pop('name', None), f'{place}.name')
  if cls is DiscretizedGaussian and not spec.get('bin_width'):
    if not bin_width:
      raise ConfigError(
        f'{place}.bin_width=0.0: these data have no bins of their own; say how wide'
      )
    # Until the data are prepared it is NaN, and nothing is computed.
    known = schema.construct(cls, {**spec, 'bin_width': 1.0}, place, event_shape=event_shape)
    return known.copy(bin_width=bin_width)
  return schema.construct(cls, spec, place, event_shape=event_shape)


def _latent_prior(spec: dict[str, Any], latent_size: int, place: str) -> LatentPrior:
  """A prior of z; `temporal_flow` wraps another, in the words of the flows on x."""
  cls = schema.lookup(PRIORS, spec.pop('name', None), f'{place}.name')
  if cls is not FlowPrior:
    return schema.construct(cls, spec, place, latent_size=latent_size)
  base = _latent_prior(_pop_section(spec, 'base', place), latent_size, f'{place}.base')
  flow = _flow_of_latents(spec, (latent_size,), place)
  return FlowPrior(latent_size=latent_size, base=base, flow=flow)


def _encoder(spec: dict[str, Any], event_shape: EventShape, place: str) -> Any:
  """A network on what the inference is shown; `none` shows it as it is."""
  if spec.get('name') == 'none':
    schema.check_keys(spec, ('name',), place)
    return None
  return _network(ENCODERS, spec, event_shape, place)


def _network(
  table: Mapping[str, type], spec: dict[str, Any], event_shape: EventShape, place: str
) -> Any:
  """An encoder of observations or a decoder; those of frames must fit them."""
  name = spec.pop('name', None)
  cls = schema.lookup(table, name, f'{place}.name')
  if cls is MLP:
    return schema.construct(cls, spec, place)
  if len(event_shape) != 3:
    others = '; use mlp' if 'mlp' in table else ''
    raise ConfigError(
      f'{place}.name: {name} takes frames, the data have shape {event_shape}{others}'
    )
  given = {'frame_size': event_shape[:2]} if cls in FRAME_DECODERS.values() else {}
  network = schema.construct(cls, spec, place, **given)
  depths = getattr(network, 'depths', network.widths)
  if len(depths) != len(network.widths):
    raise ConfigError(
      f'{place}.depths={depths} must be as many as widths={network.widths}, one for each stage'
    )
  halvings = len(network.widths)
  if any(side % 2**halvings for side in event_shape[:2]):
    raise ConfigError(
      f'{place}.widths={network.widths} halve frames {halvings} times, which '
      f'{event_shape[0]}x{event_shape[1]} does not allow; give fewer widths'
    )
  return network


# ---- what to call it -----------------------------------------------------------------------------


def label(spec: dict[str, Any]) -> str:
  """Returns the name of a model in tables: '2-AF', 'SLVM + 1-AF box', 'SRNN + AVF-1'."""
  flows, box = 0, ' box' * (spec.get('transform') == 'box_logistic')
  while spec['name'] == 'temporal_flow':
    flows, spec = flows + 1, spec['base']
  around = f'{flows}-AF{box}' * bool(flows)
  if spec['name'] == 'standard_normal':
    return around or 'N(0, I)'
  if spec['name'] == 'videoflow':
    return ' + '.join(filter(None, (_videoflow_label(spec['prior']), around)))
  _, is_path, name = spec['name'].rpartition(':')
  inference = _inference_label(spec.get('inference', {'name': 'direct'}))
  chain = 'prior chain' * (spec.get('prior_conditioning') == PRIOR_CHAIN)
  parts = [name if is_path else name.upper(), chain, inference, around]
  return ' + '.join(filter(None, parts))


def _videoflow_label(prior: dict[str, Any]) -> str:
  """'Glow' where frames are independent; 'VideoFlow + AF' with flows inside its priors."""
  if not prior.get('window', LevelPrior.window):
    return 'Glow'
  has_flow = prior.get('frame', LevelPrior.frame) in ('flow', 'flow_last')
  return 'VideoFlow + AF' if has_flow else 'VideoFlow'


def _inference_label(spec: dict[str, Any]) -> str:
  """'' for direct inference, 'AVF-n' or, un-amortised, 'VFEM-n'."""
  if spec['name'] != 'iterative':
    return ''
  learned = spec['update_rule'] in ('highway', 'learned_sgd')
  return f'{"AVF" if learned else "VFEM"}-{spec["num_iterations"]}'
