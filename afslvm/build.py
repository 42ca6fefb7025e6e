"""From a config to objects: the only place where names become classes.

A config section names its class and gives keyword arguments: {name: 'temporal_flow', ...}. Keys and
values are checked against the class's fields before anything compiles; an unknown one is an error
that names the nearest valid one.
"""

import dataclasses
import importlib
import json
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from afslvm import schema
from afslvm.errors import ConfigError, nearest
from afslvm.flows import conditioners, temporal
from afslvm.inference.direct import Direct
from afslvm.likelihoods.gaussian import Gaussian
from afslvm.models.base import SequenceModel
from afslvm.models.priors import FlowPrior, LatentPrior, LSTMPrior
from afslvm.models.slvm import SLVM
from afslvm.models.standard_normal import StandardNormal
from afslvm.models.temporal_flow import TemporalFlow
from afslvm.networks import dcgan
from afslvm.networks.mlp import MLP
from afslvm.objectives.objective import ObjectiveSettings
from afslvm.training.settings import OptimizerSettings, TrainSettings
from afslvm.types import EventShape

SECTIONS = ('seed', 'data', 'model', 'objective', 'optimizer', 'train')
DATA_KEYS = ('name', 'data_dir', 'source', 'length', 'dequantisation')
MODELS = {'standard_normal': StandardNormal, 'temporal_flow': TemporalFlow, 'slvm': SLVM}
PRIORS = {'lstm': LSTMPrior, 'temporal_flow': FlowPrior}
INFERENCES = {'direct': Direct}
LIKELIHOODS = {'gaussian': Gaussian}
ENCODERS = {'dcgan': dcgan.DcganEncoder, 'mlp': MLP}
DECODERS = {'dcgan': dcgan.DcganDecoder, 'mlp': MLP}
CONDITIONERS = {
  'conv': conditioners.ConvConditioner,
  'dense': conditioners.DenseConditioner,
}
# 'module:Class', imported when asked for: TFDS takes half a second.
DATASETS = {
  'moving_digits': 'afslvm.data.moving_digits:MovingDigits',
  'moving_mnist': 'afslvm.data.moving_mnist:MovingMnist',
  'stochastic_moving_mnist': 'afslvm.data.moving_mnist:StochasticMovingMnist',
  'particle': 'afslvm.data.particle:Particle',
  'kth': 'afslvm.data.kth:Kth',
  'bair': 'afslvm.data.bair:Bair',
  'video_folder': 'afslvm.data.video_folder:VideoFolder',
  'piano_midi': 'afslvm.data.music:PianoMidi',
  'muse_data': 'afslvm.data.music:MuseData',
  'jsb': 'afslvm.data.music:Jsb',
  'nottingham': 'afslvm.data.music:Nottingham',
  'timit': 'afslvm.data.speech:Timit',
  'fsdd': 'afslvm.data.speech:Fsdd',
  'audio_folder': 'afslvm.data.audio_folder:AudioFolder',
}


def dataset_class(name: str) -> type:
  """The TFDS builder class of a data set."""
  module, attribute = schema.lookup(DATASETS, name, 'data.name').split(':')
  return getattr(importlib.import_module(module), attribute)


# ---- models --------------------------------------------------------------------------------------


def model(spec: dict[str, Any], event_shape: EventShape, place: str = 'model') -> SequenceModel:
  """A sequence model on observations of `event_shape`, with its base models and conditioners."""
  spec = dict(spec)
  cls = schema.lookup(MODELS, spec.pop('name', None), f'{place}.name')
  if cls is TemporalFlow:
    return _temporal_flow(spec, event_shape, place)
  if cls is SLVM:
    return _slvm(spec, event_shape, place)
  return schema.construct(cls, spec, place, event_shape=event_shape)


def _temporal_flow(spec: dict[str, Any], event_shape: EventShape, place: str) -> TemporalFlow:
  """`base` and `conditioner` are sections; every other key belongs to the transform."""
  base = model(_pop_section(spec, 'base', place), event_shape, f'{place}.base')
  return TemporalFlow(event_shape=event_shape, base=base, flow=_flow(spec, event_shape, place))


def _pop_section(spec: dict[str, Any], name: str, place: str) -> dict[str, Any]:
  if not isinstance(spec.get(name), dict):
    raise ConfigError(f'{place}.{name} is missing')
  return dict(spec.pop(name))


def _flow(
  spec: dict[str, Any], event_shape: EventShape, place: str
) -> temporal.AutoregressiveAffine:
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
  return schema.construct(temporal.AutoregressiveAffine, spec, place, conditioner=conditioner)


def _slvm(spec: dict[str, Any], event_shape: EventShape, place: str) -> SLVM:
  """Sections for encoder, decoder, prior, inference and likelihood."""
  parts = {
    name: _pop_section(spec, name, place)
    for name in ('encoder', 'decoder', 'prior', 'inference', 'likelihood')
  }
  schema.check_keys(spec, ('latent_size',), place)
  size = spec.get('latent_size')
  if type(size) is not int or size < 1:
    raise ConfigError(f'{place}.latent_size={size!r} must be an integer, 1 or more')
  encoder = _network(ENCODERS, parts['encoder'], event_shape, f'{place}.encoder')
  given = {'latent_size': size, 'encoder': encoder}
  return SLVM(
    event_shape=event_shape,
    latent_size=size,
    likelihood=_named(
      LIKELIHOODS, parts['likelihood'], place, 'likelihood', event_shape=event_shape
    ),
    inference=_named(INFERENCES, parts['inference'], place, 'inference', **given),
    dynamics=_latent_prior(parts['prior'], size, f'{place}.prior'),
    decoder=_network(DECODERS, parts['decoder'], event_shape, f'{place}.decoder'),
  )


def _named(
  table: Mapping[str, type], spec: dict[str, Any], place: str, key: str, **given: Any
) -> Any:
  """The class that a section names, with its other keys as arguments."""
  cls = schema.lookup(table, spec.pop('name', None), f'{place}.{key}.name')
  return schema.construct(cls, spec, f'{place}.{key}', **given)


def _latent_prior(spec: dict[str, Any], latent_size: int, place: str) -> LatentPrior:
  """A prior of z; `temporal_flow` wraps another, in the words of the flows on x."""
  cls = schema.lookup(PRIORS, spec.pop('name', None), f'{place}.name')
  if cls is not FlowPrior:
    return schema.construct(cls, spec, place, latent_size=latent_size)
  base = _latent_prior(_pop_section(spec, 'base', place), latent_size, f'{place}.base')
  flow = _flow(spec, (latent_size,), place)
  if flow.boundary != 'learned':
    raise ConfigError(
      f"{place}.boundary={flow.boundary!r}: no latent variable is given; use 'learned'"
    )
  return FlowPrior(latent_size=latent_size, base=base, flow=flow)


def _network(
  table: Mapping[str, type], spec: dict[str, Any], event_shape: EventShape, place: str
) -> Any:
  """An encoder of observations or a decoder; DCGAN's must fit the frames."""
  cls = schema.lookup(table, spec.pop('name', None), f'{place}.name')
  if cls is MLP:
    return schema.construct(cls, spec, place)
  if len(event_shape) != 3:
    raise ConfigError(
      f'{place}.name: dcgan takes frames, the data have shape {event_shape}; use mlp'
    )
  given = {'frame_size': event_shape[:2]} if cls is dcgan.DcganDecoder else {}
  network = schema.construct(cls, spec, place, **given)
  halvings = len(network.widths)
  if any(side % 2**halvings for side in event_shape[:2]):
    raise ConfigError(
      f'{place}.widths={network.widths} halve frames {halvings} times, which '
      f'{event_shape[0]}x{event_shape[1]} does not allow; give fewer widths'
    )
  return network


# ---- data ----------------------------------------------------------------------------------------


def dataset(data: dict[str, Any]) -> Any:
  """The TFDS builder of a `data` section; nothing is read or written yet."""
  options = {key: value for key, value in data.items() if key not in DATA_KEYS}
  cls = dataset_class(data.get('name'))
  if cls.embedded and data.get('source'):
    raise ConfigError(f'data.source={data["source"]}: {data["name"]} is made without any file')
  return cls(data_dir=data.get('data_dir') or None, source=data.get('source') or None, **options)


def check_data(data: dict[str, Any], builder: Any, sequence_model: SequenceModel):
  """Raises ConfigError for a `data` section that contradicts the builder or the model."""
  kinds = ('none',) if builder.data_space == 'continuous' else ('gauss256', 'uniform')
  kind = data.get('dequantisation')
  if kind not in kinds:
    hint = nearest(str(kind), kinds) or f'; {builder.data_space} data take {" or ".join(kinds)}'
    raise ConfigError(f'data.dequantisation={kind!r} does not fit{hint}')
  length = data.get('length')
  if type(length) is not int or not 1 <= length <= builder.num_frames:
    raise ConfigError(
      f'data.length={length!r} must be in 1..{builder.num_frames} (frames a sequence has)'
    )
  if length <= sequence_model.num_context:
    raise ConfigError(
      f"data.length={length} leaves nothing to score after the flows' "
      f'{sequence_model.num_context} context steps; use {sequence_model.num_context + 1} or more'
    )


# ---- whole experiments ---------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Parts:
  """Everything a config describes, checked, with no data touched."""

  seed: int
  data: dict[str, Any]
  dataset: Any
  model: SequenceModel
  objective: ObjectiveSettings
  optimizer: OptimizerSettings
  train: TrainSettings
  config: dict[str, Any]


def parts(config: ConfigDict) -> Parts:
  """Checks a whole config and builds what needs no data.

  Raises:
    ConfigError: anything in the config that can't be used.
  """
  plain = json.loads(json.dumps(config.to_dict()))  # as config.json will have it
  schema.check_keys(plain, SECTIONS, 'config')
  for section in SECTIONS:
    if section not in plain:
      raise ConfigError(f'config.{section} is missing')
  seed, data = plain['seed'], plain['data']
  if type(seed) is not int or not 0 <= seed < 2**31:
    raise ConfigError(f'config.seed={seed!r} must be an integer in 0..{2**31 - 1}')
  train = schema.construct(TrainSettings, plain['train'], 'train')
  optimizer = schema.construct(OptimizerSettings, plain['optimizer'], 'optimizer')
  objective = schema.construct(ObjectiveSettings, plain['objective'], 'objective')
  objective.check()
  builder = dataset(data)
  sequence_model = model(plain['model'], builder.event_shape)
  check_data(data, builder, sequence_model)
  return Parts(seed, data, builder, sequence_model, objective, optimizer, train, plain)


def experiment(config_parts: Parts):
  """An `Experiment` on the prepared data.

  Raises:
    DataError: the data are missing or damaged.
  """
  import jax

  from afslvm.data import pipeline, prepare
  from afslvm.training.experiment import Experiment

  data, builder = config_parts.data, config_parts.dataset
  options = {
    'batch_size': config_parts.train.batch_size,
    'length': data['length'],
    'process_index': jax.process_index(),
    'process_count': jax.process_count(),
  }
  source = {split: prepare.open_split(builder, split) for split in ('train', 'validation')}
  return Experiment(
    model=config_parts.model,
    objective=config_parts.objective,
    dequantisation=data['dequantisation'],
    length=data['length'],
    seed=config_parts.seed,
    train=config_parts.train,
    optimizer=config_parts.optimizer,
    training_batches=lambda: pipeline.training_batches(
      source['train'], seed=config_parts.seed, **options
    ),
    validation_batches=lambda: pipeline.evaluation_batches(source['validation'], **options),
    fingerprint=prepare.fingerprint(builder),
    config=config_parts.config,
    picture=_picture(config_parts.model, data['dequantisation'], source['validation'], options),
  )


def _picture(sequence_model: SequenceModel, kind: str, source: Any, options: dict[str, Any]):
  """variables -> one validation sequence through every flow, [H, W, 3]; None without frames."""
  if len(sequence_model.event_shape) != 3:
    return None
  import jax

  from afslvm.data import pipeline
  from afslvm.evaluation import visuals
  from afslvm.transforms import preprocessing
  from afslvm.visualization import frames

  def picture(variables):
    key = jax.random.key(0)
    stored = pipeline.crop(source[0], 0, options['length'])['x'][None]
    x = preprocessing.dequantise(key, stored, kind)
    return frames.stack_rows(visuals.visual_rows(sequence_model, variables, x, key), index=0)

  return picture


# ---- what to call it -----------------------------------------------------------------------------


def label(spec: dict[str, Any]) -> str:
  """The name of a model in tables: '2-AF', 'SLVM', 'SLVM + 1-AF'."""
  flows = 0
  while spec['name'] == 'temporal_flow':
    flows, spec = flows + 1, spec['base']
  if spec['name'] == 'standard_normal':
    return f'{flows}-AF' if flows else 'N(0, I)'
  name = spec['name'].upper()
  return f'{name} + {flows}-AF' if flows else name


def dataset_label(builder: Any) -> str:
  """Name, shape of a step, and every option that isn't the default: 'moving_digits 16x16x1'."""
  shape = 'x'.join(map(str, builder.event_shape))
  others = [
    f'{name}={value}'
    for name, value in sorted(builder.given_options.items())
    if name != 'frame_size' and value != builder.OPTIONS[name].default
  ]
  return ' '.join([builder.name, shape, *others])


# ---- for launch/ ---------------------------------------------------------------------------------


def evaluation_batches(config_parts: Parts, batch_size: int, length: int):
  """Split -> finite iterator over fixed crops of `length` steps.

  Raises:
    DataError: the data are missing or damaged.
  """
  from afslvm.data import pipeline, prepare

  def batches(split: str):
    source = prepare.open_split(config_parts.dataset, split)
    return iter(pipeline.evaluation_batches(source, batch_size=batch_size, length=length))

  return batches


def abstract_variables(sequence_model: SequenceModel, length: int) -> dict[str, Any]:
  """Shapes and dtypes of a model's variables, without computing anything."""
  import jax
  import numpy as np

  keys = {'params': jax.random.key(0), 'sample': jax.random.key(0)}
  x = jax.ShapeDtypeStruct((1, length, *sequence_model.event_shape), np.float32)
  return jax.eval_shape(lambda x: sequence_model.init(keys, x, method='initialize'), x)


def count_parameters(variables: dict[str, Any]) -> int:
  """Numbers in the `params` collection."""
  import jax

  return sum(leaf.size for leaf in jax.tree.leaves(variables.get('params', {})))
