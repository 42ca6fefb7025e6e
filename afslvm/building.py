"""From a config to objects: the only place where names become classes.

A config section names its class and gives keyword arguments: {name: 'temporal_flow', ...}. Keys and
values are checked against the class's fields before anything compiles; an unknown one is an error
that names the nearest valid one.
"""

import dataclasses
import importlib
import json
import math
from typing import Any

from ml_collections import ConfigDict

from afslvm import schema
from afslvm.build_models import label, model
from afslvm.errors import ConfigError, DataError, nearest
from afslvm.models.base import SequenceModel
from afslvm.models.state_space import StateSpaceModel
from afslvm.objectives.objective import ObjectiveSettings
from afslvm.training.settings import OptimizerSettings, TrainSettings

SECTIONS = ('seed', 'data', 'model', 'objective', 'optimizer', 'train')
DATA_KEYS = (
  'name',
  'data_dir',
  'source',
  'length',
  'min_length',
  'transpose',
  'stateful',
  'dequantisation',
)
__all__ = ['label', 'model']  # of build_models, for those who import this module alone
WHOLE = ('binary', 'pcm16')  # music and sound, which are scored whole and in nats per step
DATA_SPACES = {  # what their values are, and how they become what a model sees
  '8bit': ('gauss256', 'uniform', 'discretised'),
  'continuous': ('none',),
  'binary': ('none',),
  'pcm16': ('none',),
}
VALUE_RANGES = {'8bit': (0.0, 1.0), 'continuous': (), 'binary': (), 'pcm16': ()}
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
  kinds = DATA_SPACES[builder.data_space]
  kind = data.get('dequantisation')
  if kind not in kinds:
    hint = nearest(str(kind), kinds) or f'; {builder.data_space} data take {" or ".join(kinds)}'
    raise ConfigError(f'data.dequantisation={kind!r} does not fit{hint}')
  _check_likelihood(builder.data_space, kind, sequence_model)
  length = data.get('length')
  if type(length) is not int or not 1 <= length <= builder.num_frames:
    raise ConfigError(
      f'data.length={length!r} must be in 1..{builder.num_frames} (frames a sequence has)'
    )
  min_length = data.get('min_length', 0)
  if type(min_length) is not int or not 0 <= min_length <= length:
    raise ConfigError(
      f'data.min_length={min_length!r} must be in 0..{length} (data.length; 0 means all of it)'
    )
  if length <= sequence_model.num_context:
    raise ConfigError(
      f"data.length={length} leaves nothing to score after the flows' "
      f'{sequence_model.num_context} context steps; use {sequence_model.num_context + 1} or more'
    )


def _check_likelihood(data_space: str, kind: str, sequence_model: SequenceModel):
  """Discrete data need probabilities, and probabilities discrete data without flows or noise."""
  core = sequence_model.core
  latent = isinstance(core, StateSpaceModel)
  density = not latent or core.likelihood.measure == 'density'
  binary = latent and core.likelihood.support == 'binary'
  if not density and core is not sequence_model:
    raise ConfigError(
      'model: flows pass on continuous values, which have no probability; use the gaussian '
      'likelihood inside them'
    )
  if binary != (data_space == 'binary'):
    fitting = 'bernoulli or nade' if data_space == 'binary' else 'gaussian or discretized_gaussian'
    raise ConfigError(f'model.likelihood does not fit {data_space} data; use {fitting}')
  if latent and data_space != '8bit' and getattr(core.likelihood, 'bins', '') == 'levels':
    raise ConfigError(
      "model.likelihood.bins='levels' is for 8-bit data, whose values end at 0 and 1; use "
      "'centered'"
    )
  if kind == 'discretised' and density:
    raise ConfigError(
      "model.likelihood gives a density, data.dequantisation='discretised' needs probabilities; "
      'use discretized_gaussian, or gauss256'
    )
  if kind in ('gauss256', 'uniform') and not density:
    raise ConfigError(
      f'model.likelihood gives probabilities of levels, data.dequantisation={kind!r} adds noise to '
      'them; use gaussian, or discretised'
    )


def bin_width(builder: Any) -> float:
  """Distance of neighbouring values as models see them: 0 if continuous, NaN if unknown yet."""
  if builder.data_space == '8bit':
    return 1.0 / 255.0
  if builder.data_space != 'pcm16':
    return 0.0
  try:
    return builder.resolution
  except DataError:
    return math.nan  # whoever opens the data is told to prepare them first


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
  sequence_model = model(plain['model'], builder.event_shape, bin_width=bin_width(builder))
  sequence_model = sequence_model.copy(value_range=VALUE_RANGES[builder.data_space])
  check_data(data, builder, sequence_model)
  _check_gradients(sequence_model, objective, train)
  _check_inputs(sequence_model, data['dequantisation'])
  _check_first_scored(data, sequence_model, objective)
  _check_stateful(data, sequence_model, objective)
  train.check(stateful=data.get('stateful', False))
  return Parts(seed, data, builder, sequence_model, objective, optimizer, train, plain)


def _check_gradients(
  sequence_model: SequenceModel, objective: ObjectiveSettings, train: TrainSettings
):
  """Variational EM trains an inference procedure, online step by step."""
  place = f'objective.gradients={objective.gradients!r}'
  if objective.gradients == 'bptt':
    return
  core = sequence_model.core
  if not isinstance(core, StateSpaceModel):
    raise ConfigError(f"{place} needs a model with latent variables; use 'bptt'")
  if objective.is_online and train.accumulate > 1:
    raise ConfigError(f'{place} needs train.accumulate=1: every step sees the whole batch')
  if objective.is_online and core.sees_future:
    raise ConfigError(
      f"{place} moves the inference step by step, which a posterior that smooths is not; use 'em', "
      'or smoothing=0'
    )


def _check_inputs(sequence_model: SequenceModel, kind: str):
  """Clean inputs are those of data with uniform noise, which no flow has moved."""
  core = sequence_model.core
  if not (isinstance(core, StateSpaceModel) and core.clean_inputs):
    return
  if core is not sequence_model or kind != 'uniform':
    raise ConfigError(
      "model.clean_inputs=True needs data.dequantisation='uniform' and no flow around the model; "
      'use False'
    )


def _check_first_scored(
  data: dict[str, Any], sequence_model: SequenceModel, objective: ObjectiveSettings
):
  """Steps are left to score, and what is given says nothing of them."""
  if not objective.first_scored:
    return
  if objective.first_scored >= data['length']:
    raise ConfigError(
      f'objective.first_scored={objective.first_scored} leaves nothing to score of '
      f'data.length={data["length"]}'
    )
  if sequence_model.sees_future and objective.first_scored > sequence_model.min_context:
    raise ConfigError(
      f'objective.first_scored={objective.first_scored}: the posterior of the steps before sees '
      'the later ones (smoothing), for free; use 0, or smoothing=0, or model.given'
    )


def _check_stateful(
  data: dict[str, Any], sequence_model: SequenceModel, objective: ObjectiveSettings
):
  """The model's own state is carried on, and every step is scored."""
  stateful = data.get('stateful', False)
  if type(stateful) is not bool:
    raise ConfigError(f'data.stateful={stateful!r} must be of type bool')
  if not stateful:
    return
  if not isinstance(sequence_model, StateSpaceModel):
    raise ConfigError('data.stateful=True needs a latent variable model without flows around it')
  if (objective.bound, objective.first_scored, data.get('min_length', 0)) != ('elbo', 0, 0):
    raise ConfigError(
      'data.stateful=True needs objective.bound=elbo, objective.first_scored=0 and '
      'data.min_length=0'
    )


def experiment(config_parts: Parts):
  """An `Experiment` on the prepared data.

  Raises:
    DataError: the data are missing or damaged.
  """
  import jax

  from afslvm.data import prepare
  from afslvm.training.experiment import Experiment

  data, builder = config_parts.data, config_parts.dataset
  options = {
    'batch_size': config_parts.train.batch_size,
    'length': data['length'],
    'min_frames': data.get('min_length') or None,
    'process_index': jax.process_index(),
    'process_count': jax.process_count(),
  }
  source = {split: prepare.open_split(builder, split) for split in ('train', 'validation')}
  training = source['train']
  if data.get('transpose'):
    from afslvm.data import music

    training = music.transposed(training, data['transpose'])
  return Experiment(
    model=config_parts.model,
    objective=config_parts.objective,
    dequantisation=data['dequantisation'],
    length=data['length'],
    seed=config_parts.seed,
    train=config_parts.train,
    optimizer=config_parts.optimizer,
    training_batches=_training_batches(training, data, config_parts.seed, options),
    validation_batches=_validation_batches(builder, source['validation'], options),
    fingerprint=prepare.fingerprint(builder),
    stateful=data.get('stateful', False),
    per_step=builder.data_space in WHOLE,
    config=config_parts.config,
    picture=_picture(config_parts.model, data['dequantisation'], source['validation'], options),
  )


def _training_batches(source: Any, data: dict[str, Any], seed: int, options: dict[str, Any]):
  """Makes an iterator over random crops, or, stateful, over streams of whole sequences."""
  from afslvm.data import pipeline

  if not data.get('stateful'):
    return lambda: pipeline.training_batches(source, seed=seed, **options)
  streams = {key: value for key, value in options.items() if key != 'min_frames'}
  return lambda: pipeline.stream_batches(source, seed=seed, **streams)


def _validation_batches(builder: Any, source: Any, options: dict[str, Any]):
  """Makes an iterator over what selects checkpoints: whole songs and utterances, crops of video."""
  from afslvm.data import pipeline
  from afslvm.training import distributed

  if builder.data_space not in WHOLE:
    return lambda: pipeline.evaluation_batches(source, **options)
  # Few shapes, so that little is compiled.
  whole = pipeline.whole_sequences(source, batch_size=options['batch_size'], max_buckets=3)
  return lambda: ({'x': b['x'], 'mask': b['mask']} for b in map(distributed.share_of, whole))


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


def with_iterations(config_parts: Parts, num_iterations: int) -> Parts:
  """The same experiment with another number of inference iterations; parameters keep their shapes.

  Raises:
    ConfigError: the inference has none.
  """
  config = json.loads(json.dumps(config_parts.config))
  section = config['model']
  while 'base' in section and 'inference' not in section:
    section = section['base']
  inference = section.get('inference', {})
  if 'num_iterations' not in inference:
    raise ConfigError(
      f'--inference_iterations={num_iterations}: this model has no iterative inference; leave the '
      'flag out'
    )
  inference['num_iterations'] = num_iterations
  return parts(ConfigDict(config))


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
