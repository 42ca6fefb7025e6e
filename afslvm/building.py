"""From a config to objects: the only place where names become classes.

A config section names its class and gives keyword arguments: {name: 'temporal_flow', ...}. Keys and
values are checked against the class's fields before anything compiles; an unknown one is an error
that names the nearest valid one.
"""

import dataclasses
import json
import os
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from afslvm import config_files, schema
from afslvm.build_data import DATASETS, Splits, bin_width, dataset, dataset_class, dataset_label
from afslvm.build_models import label, model
from afslvm.errors import ConfigError, nearest
from afslvm.flows.box_logistic import AutoregressiveBoxLogistic
from afslvm.models.base import SequenceModel
from afslvm.models.state_space import StateSpaceModel
from afslvm.objectives import inside
from afslvm.objectives.objective import ObjectiveSettings
from afslvm.training.settings import OptimizerSettings, TrainSettings

SECTIONS = ('seed', 'data', 'model', 'objective', 'optimizer', 'train')
# Those of build_models and build_data are for those who import this module alone.
__all__ = ['DATASETS', 'dataset', 'dataset_class', 'dataset_label', 'label', 'model']
WHOLE = ('binary', 'pcm16')  # music and sound, which are scored whole and in nats per step
DATA_SPACES = {  # what their values are, and how they become what a model sees
  '8bit': ('gauss256', 'uniform', 'discretised'),
  'continuous': ('none',),
  'binary': ('none',),
  'pcm16': ('none',),
}
VALUE_RANGES = {'8bit': (0.0, 1.0), 'continuous': (), 'binary': (), 'pcm16': ()}

# ---- data ----------------------------------------------------------------------------------------


def check_data(data: dict[str, Any], builder: Any, sequence_model: SequenceModel):
  """Raises ConfigError for a `data` section that contradicts the builder or the model."""
  kinds = DATA_SPACES[builder.data_space]
  kind = data.get('dequantisation')
  if kind not in kinds:
    hint = nearest(str(kind), kinds) or f'; {builder.data_space} data take {" or ".join(kinds)}'
    raise ConfigError(f'data.dequantisation={kind!r} does not fit{hint}')
  _check_likelihood(builder.data_space, kind, sequence_model)
  _check_transform(kind, sequence_model)
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
      f'data.length={length} leaves nothing to score after the first {sequence_model.num_context} '
      f"steps, on which the model only conditions (flows' windows, model.given); use "
      f'{sequence_model.num_context + 1} or more'
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


def _check_transform(kind: str, sequence_model: SequenceModel):
  """A box is the uniform noise of one level."""
  flow = getattr(sequence_model, 'flow', None)
  if isinstance(flow, AutoregressiveBoxLogistic) and kind != 'uniform':
    raise ConfigError(
      f"model.transform='box_logistic' needs data.dequantisation='uniform', not {kind!r}; use "
      "that, or 'affine'"
    )


# ---- whole experiments ---------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Built:
  """Everything a config describes, checked; nothing is computed and no data are touched yet.

  Attributes:
    seed: of parameters, data order and noise.
    dataset: the TFDS builder of the data.
    model: the sequence model.
    objective: which bound is maximised.
    optimizer: settings of the optimiser; `make_optimizer` gives it.
    train: budgets.
    config: the whole config as plain values, as `config.json` has it.
  """

  seed: int
  dataset: Any
  model: SequenceModel
  objective: ObjectiveSettings
  optimizer: OptimizerSettings
  train: TrainSettings
  config: dict[str, Any]

  @property
  def data(self) -> Splits:
    """The sequences: `data['train'][0]` is x [T, *event], as it is stored."""
    return Splits(self.dataset)

  @property
  def length(self) -> int:
    """Steps of a training sequence."""
    return self.config['data']['length']

  @property
  def dequantisation(self) -> str:
    """One of `preprocessing.DEQUANTISATIONS`."""
    return self.config['data']['dequantisation']

  @property
  def stateful(self) -> bool:
    """Returns whether rows of a batch go on where those of the batch before ended."""
    return self.config['data'].get('stateful', False)

  def make_loss(self) -> Any:
    """Returns the training loss; see `objectives.objective.Loss`."""
    from afslvm.objectives.objective import make_loss

    online = self._make_optimizers()[1]
    return make_loss(self.objective, self.model, self.dequantisation, online)

  def make_optimizer(self) -> Any:
    """Returns the optax optimiser."""
    return self._make_optimizers()[0]

  def _make_optimizers(self) -> Any:
    """Returns the optimiser, and that of `objective.gradients=em_online`, or None."""
    from afslvm.training.optimizer import make_optimizers

    return make_optimizers(self.optimizer, self.train.num_steps, self.objective.is_online)


def build(
  config: ConfigDict | Mapping[str, Any] | str | os.PathLike,
  overrides: Mapping[str, Any] | None = None,
) -> Built:
  """Checks a whole config and builds what needs no data.

  Args:
    config: a ConfigDict or dict, the path of a config file, or the name of a config that comes with
      the package; 'smoke:slvm' and 'jsb/direct' are names (see `config_files.locate`).
    overrides: other values for some keys, {'train.num_steps': 100}.

  Raises:
    ConfigError: anything in the config that can't be used.
  """
  if isinstance(config, str | os.PathLike):
    config = config_files.load_config(os.fspath(config))
  if not isinstance(config, ConfigDict | Mapping):
    raise ConfigError(
      f'config={config!r} must be a ConfigDict, a dict, a file or a name such as moving_digits/af1'
    )
  try:
    config = ConfigDict(config)
  except (TypeError, ValueError) as error:
    raise ConfigError(f'this config can not be read ({error}); use plain values') from error
  config = config_files.overridden(config, overrides or {})
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
  if train.accumulate > 1 and objective.free_nats:
    raise ConfigError(
      f'train.accumulate={train.accumulate} needs objective.free_nats=0.0: what costs nothing is a '
      'mean over the whole batch'
    )
  _check_inputs(sequence_model, data['dequantisation'])
  _check_first_scored(data, sequence_model, objective)
  _check_stateful(data, sequence_model, objective)
  train.check(stateful=data.get('stateful', False))
  return Built(seed, builder, sequence_model, objective, optimizer, train, plain)


def _check_gradients(
  sequence_model: SequenceModel, objective: ObjectiveSettings, train: TrainSettings
):
  """Variational EM trains an inference procedure, online step by step."""
  place = f'objective.gradients={objective.gradients!r}'
  core = sequence_model.core
  if objective.overshooting > 1 and not isinstance(core, StateSpaceModel):
    raise ConfigError(
      f'objective.overshooting={objective.overshooting} needs a model with latent variables; use 1'
    )
  for key, plain in (('bound', 'elbo'), ('gradients', 'bptt'), ('overshooting', 1)):
    asked = getattr(objective, key)
    if asked != plain:
      inside.check_has_no_prior_chain(sequence_model, f'objective.{key}={asked}')
  if objective.gradients == 'bptt':
    return
  if not isinstance(core, StateSpaceModel):
    raise ConfigError(f"{place} needs a model with latent variables; use 'bptt'")
  if objective.is_online and not core.inference.num_trained:
    raise ConfigError(f"{place}: this inference has no parameters to move; use 'em'")
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
  if objective.overshooting > 1:
    raise ConfigError('data.stateful=True needs objective.overshooting=1')
  if (objective.bound, objective.first_scored, data.get('min_length', 0)) != ('elbo', 0, 0):
    raise ConfigError(
      'data.stateful=True needs objective.bound=elbo, objective.first_scored=0 and '
      'data.min_length=0'
    )


def experiment(built: Built):
  """An `Experiment` on the prepared data.

  Raises:
    DataError: the data are missing or damaged.
  """
  import jax

  from afslvm.data import prepare
  from afslvm.training.experiment import Experiment

  data, builder = built.config['data'], built.dataset
  options = {
    'batch_size': built.train.batch_size,
    'length': data['length'],
    'min_frames': data.get('min_length') or None,
    'process_index': jax.process_index(),
    'process_count': jax.process_count(),
  }
  source = {split: built.data[split] for split in ('train', 'validation')}
  training = source['train']
  if data.get('transpose'):
    from afslvm.data import music

    training = music.transposed(training, data['transpose'])
  return Experiment(
    model=built.model,
    objective=built.objective,
    dequantisation=data['dequantisation'],
    length=data['length'],
    seed=built.seed,
    train=built.train,
    optimizer=built.optimizer,
    training_batches=_training_batches(training, data, built.seed, options),
    validation_batches=_validation_batches(builder, source['validation'], options),
    fingerprint=prepare.fingerprint(builder),
    stateful=data.get('stateful', False),
    per_step=builder.data_space in WHOLE,
    config=built.config,
    picture=_picture(built.model, data['dequantisation'], source['validation'], options),
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


# ---- for launch/ ---------------------------------------------------------------------------------


def evaluation_batches(built: Built, batch_size: int, length: int):
  """Split -> finite iterator over fixed crops of `length` steps.

  Raises:
    DataError: the data are missing or damaged.
  """
  from afslvm.data import pipeline

  def batches(split: str):
    return iter(
      pipeline.evaluation_batches(built.data[split], batch_size=batch_size, length=length)
    )

  return batches


def with_iterations(built: Built, num_iterations: int) -> Built:
  """Returns the same experiment with another number of inference iterations.

  Parameters keep their shapes.

  Raises:
    ConfigError: the inference has none.
  """
  config = json.loads(json.dumps(built.config))
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
  return build(config)


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
