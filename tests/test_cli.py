"""A user's mistakes end in one line with the nearest valid name and exit code 2."""

import dataclasses
import importlib
import os
import pathlib
import re
from unittest import mock

import pytest
from ml_collections import ConfigDict

from afslvm import building, cli
from afslvm.errors import ConfigError
from afslvm.flows.box_logistic import AutoregressiveBoxLogistic
from afslvm.flows.conditioners import ConvConditioner, DenseConditioner
from afslvm.flows.glow import Glow
from afslvm.flows.temporal import AutoregressiveAffine
from afslvm.inference.direct import Direct
from afslvm.inference.iterative import Iterative
from afslvm.likelihoods.bernoulli import Bernoulli
from afslvm.likelihoods.discretized_gaussian import DiscretizedGaussian
from afslvm.likelihoods.gaussian import Gaussian
from afslvm.likelihoods.nade import Nade
from afslvm.models.level_priors import LevelPrior
from afslvm.models.priors import LSTMPrior
from afslvm.networks.dcgan import DcganDecoder, DcganEncoder
from afslvm.networks.glow import PlanePrior, SpacetimePrior
from afslvm.networks.mlp import MLP
from afslvm.networks.recurrent import Recurrence
from afslvm.objectives.objective import ObjectiveSettings
from afslvm.training.settings import OptimizerSettings, TrainSettings

ROOT = pathlib.Path(__file__).resolve().parents[1]
SMOKE = '--config=configs/smoke.py'


@pytest.mark.parametrize(
  ('arguments', 'expected'),
  [
    ([SMOKE, '--config.train.batchsize=4'], 'no key \'batchsize\' (did you mean "batch_size"?)'),
    ([SMOKE, '--config.train.num_step', '4'], 'did you mean "num_steps"'),
    ([SMOKE, '--config.train.batch_size=abc'], "'abc' must be of type int"),
    ([SMOKE, '--config.train.batch_size=0'], 'train.batch_size=0 must be at least 1'),
    ([SMOKE, '--learning_rat=1'], '--learning_rat is not a flag'),
    ([SMOKE, 'train'], "'train' is not a flag"),
    (['--config=configs/smok.py'], 'did you mean "configs/smoke.py"'),
    (['--config=configs/smoke.py:af9'], "no variant 'af9' (did you mean"),
    ([], '--config is missing'),
  ],
)
def test_mistakes_in_flags_end_in_one_line(arguments, expected, launch, tmp_path):
  done = launch('train', f'--workdir={tmp_path / "run"}', *arguments)
  assert done.returncode == 2, done.stderr
  assert done.stderr.startswith('error: ')
  assert done.stderr.count('\n') == 1
  assert expected in done.stderr
  assert not (tmp_path / 'run').exists()


def smoke(**overrides):
  """The smoke config as plain values with dotted overrides; None removes a key."""
  config = cli.load_config(str(ROOT / 'configs/smoke.py')).to_dict()
  for dotted, value in overrides.items():
    *sections, key = dotted.split('.')
    section = config
    for name in sections:
      section = section[name]
    section[key] = value
    if value is None:
      del section[key]
  return ConfigDict(config)


@pytest.mark.parametrize(
  ('key', 'value', 'expected'),
  [
    ('data.name', 'moving_digit', 'did you mean "moving_digits"'),
    ('data.length', 3, 'nothing to score'),
    ('data.length', 30, 'must be in 1..20'),
    ('data.dequantisation', 'unifrm', 'did you mean "uniform"'),
    ('data.frame_sise', 16, 'frame_size'),
    ('data.source', 'x.npy', 'is made without any file'),
    ('optimizer.learning_rate', float('nan'), 'must be finite'),
    ('model.name', 'temporalflow', 'did you mean "temporal_flow"'),
    ('model.windows', 2, 'model.windows is not a key'),
    ('model.boundary', 'contxt', 'did you mean "context"'),
    ('model.base', None, 'model.base is missing'),
    ('model.log_scale_low', 1.0, 'must be at most -0.01'),
    ('model.conditioner.name', 'dense', 'use conv'),
    ('model.conditioner.normalization', 'bath', 'did you mean "batch"'),
    ('model.conditioner.patch', 3, 'does not divide'),
    ('model.conditioner.channels', 1.5, 'must be of type int'),
    ('model.conditioner.widow', 3, 'did you mean "window"'),
    ('optimizer.schedule', 'cosin', 'did you mean "cosine"'),
    ('optimizer.learning_rte', 1.0, 'did you mean "learning_rate"'),
    ('train.keep_checkpoints', 1, 'must be at least 2'),
    ('train.accumulate', 3, 'does not divide train.batch_size'),
    ('train.convolutions', 'product', 'did you mean "products"'),
    ('seed', -1, 'config.seed=-1'),
    ('trian', {}, 'did you mean "train"'),
    ('objective', None, 'config.objective is missing'),
    ('objective.bound', 'iwa', 'did you mean "iwae"'),
    ('objective.num_samples', 0, 'objective.num_samples=0 must be at least 1'),
    ('objective.num_samples', 4, 'needs objective.bound=iwae or fivo'),
    ('objective.kl_warmup_step', 4, 'did you mean "kl_warmup_steps"'),
    ('objective.kl_balance', 1.5, 'objective.kl_balance=1.5 must be at least 0.0 and at most 1.0'),
    ('objective.free_nats', -1.0, 'must be at least 0.0'),
  ],
)
def test_mistakes_in_a_config_are_found_before_anything_is_built(key, value, expected):
  with pytest.raises(ConfigError) as error:
    building.build(smoke(**{key: value}))
  assert expected in str(error.value)
  assert len(str(error.value).splitlines()) == 1
  assert error.value.exit_code == 2


@pytest.mark.parametrize(
  ('file', 'key', 'value', 'expected'),
  [
    ('jsb/avf1', 'data.min_length', -3, 'data.min_length=-3 must be in 0..25'),
    ('jsb/avf1', 'data.min_length', 26, 'data.min_length=26 must be in 0..25'),
    ('jsb/avf1', 'model.inference.start.name', 'pror', 'did you mean "prior"'),
    ('jsb/avf1', 'objective.first_scored', 25, 'leaves nothing to score of data.length=25'),
    ('jsb/avf1', 'model.inference.smoothing', 8, 'these iterations see no observation'),
    ('jsb/avf1', 'model.inference.start.name', 'iterative', 'it is one of direct, prior'),
    ('jsb/direct', 'model.inference.smoothing', 8, 'sees the later ones (smoothing), for free'),
    ('jsb/avf1', 'data.stateful', True, 'needs objective.bound=elbo, objective.first_scored=0'),
    ('jsb/avf1', 'objective.free_nats', 1.0, 'objective.gradients=em needs'),
    ('fsdd/vrnn', 'model.likelihood.bins', 'levels', 'is for 8-bit data'),
    ('fsdd/vrnn', 'data.dequantisation', 'discretised', 'does not fit'),
    ('smoke', 'data.stateful', True, 'needs a latent variable model'),
  ],
)
def test_mistakes_in_configs_of_sequences(file, key, value, expected):
  config = cli.load_config(str(ROOT / f'configs/{file}.py'))
  config.update_from_flattened_dict({key: value})
  with pytest.raises(ConfigError) as error:
    building.build(config)
  assert expected in str(error.value)
  assert len(str(error.value).splitlines()) == 1


def test_a_whole_number_is_fine_where_a_real_one_is_meant():
  assert building.build(smoke(**{'optimizer.clip_norm': 2})).optimizer.clip_norm == 2.0


def test_every_config_builds():
  for path in sorted((ROOT / 'configs').rglob('*.py')):
    shared = path.parent.name == 'configs' and path.stem != 'smoke'
    if shared or path.stem == '__init__':
      continue
    parts = building.build(cli.load_config(str(path)))
    latent, video = r'(SLVM|SRNN|VRNN|SVG)( \+ AVF-\d)?', r'VideoFlow( \+ AF)?|Glow'
    names = rf'(\d-AF( box)?|({latent}|{video})( \+ \d-AF( box)?)?)'
    assert re.fullmatch(names, building.label(parts.config['model']))
    assert path.relative_to(ROOT).as_posix() in path.read_text(), 'the docstring shows no command'


def test_configs_list_every_option_with_its_default():
  """Only keys that a config has can be overridden on the command line."""

  def defaults(cls, *left_out):
    fields = {f.name: f.default for f in dataclasses.fields(cls)}
    return {k: v for k, v in fields.items() if k not in ('parent', 'name', *left_out)}

  def options(name):
    table = building.dataset_class(name).OPTIONS
    return {k: v.default for k, v in table.items() if v.default is not None}

  common = importlib.import_module('afslvm.configs.common')
  assert defaults(ObjectiveSettings) == common.OBJECTIVE
  assert defaults(OptimizerSettings) == common.OPTIMIZER
  assert defaults(TrainSettings) == common.TRAIN
  assert {'transform': 'affine', **defaults(AutoregressiveAffine, 'conditioner')} == common.FLOW
  box = defaults(AutoregressiveBoxLogistic, 'conditioner')
  assert {'transform': 'box_logistic', **box} == common.BOX_FLOW
  assert {'name': 'conv', **defaults(ConvConditioner, 'event_shape')} == common.CONV
  assert {'name': 'dense', **defaults(DenseConditioner, 'event_shape')} == common.DENSE
  assert {'name': 'dcgan', **defaults(DcganEncoder)} == common.DCGAN_ENCODER
  assert {'name': 'dcgan', **defaults(DcganDecoder, 'frame_size')} == common.DCGAN_DECODER
  assert {'name': 'mlp', **defaults(MLP)} == common.MLP
  assert {'name': 'lstm', **defaults(LSTMPrior, 'latent_size')} == common.LSTM_PRIOR
  shared = 'latent_size', 'encoder', 'backward'  # `smoothing` and `smoothing_cell` of a config
  direct = defaults(Direct, *shared, 'network', 'head_size')
  assert {'name': 'direct', **common.SMOOTHING, **direct} == common.DIRECT
  iterative = {'name': 'iterative', **common.SMOOTHING, **defaults(Iterative, *shared)}
  assert {**iterative, 'start': {'name': 'prior'}} == common.ITERATIVE
  assert defaults(Recurrence, 'features', 'map_shape', 'kernel') == {
    'cell': common.RECURRENCE['cell']
  }
  likelihoods = {
    'gaussian': (Gaussian, common.GAUSSIAN),
    'discretized_gaussian': (DiscretizedGaussian, common.DISCRETIZED_GAUSSIAN),
    'bernoulli': (Bernoulli, common.BERNOULLI),
    'nade': (Nade, common.NADE),
  }
  for name, (cls, table) in likelihoods.items():
    assert {'name': name, **defaults(cls, 'event_shape')} == table
  assert defaults(Glow, 'event_shape', 'condition_channels') == common.GLOW
  given = 'event_shape', 'above_channels', 'network', 'flow'
  assert defaults(LevelPrior, *given) == common.LEVEL_PRIOR
  assert {'name': 'conv2d', **defaults(PlanePrior, 'features')} == common.CONV2D_PRIOR
  assert {'name': 'conv3d', **defaults(SpacetimePrior, 'features')} == common.CONV3D_PRIOR
  datasets = (common.MOVING_DIGITS, common.STOCHASTIC_MOVING_MNIST, common.KTH)
  sound = (common.TIMIT, common.FSDD, common.AUDIO_FOLDER)
  for table in (*datasets, common.BAIR, common.VIDEO_FOLDER, *common.MUSIC.values(), *sound):
    assert {'name': table['name'], **options(table['name'])} == table


def test_missing_data_ends_in_one_line_with_the_command(launch, tmp_path):
  done = launch(
    'train',
    '--config=configs/stochastic_moving_mnist/af1.py',
    f'--workdir={tmp_path / "run"}',
    f'--config.data.data_dir={tmp_path}',
  )
  assert done.returncode == 3
  assert done.stderr.count('\n') == 1, done.stderr
  assert str(tmp_path) in done.stderr
  assert 'python launch/prepare_data.py --dataset=stochastic_moving_mnist' in done.stderr


@pytest.mark.parametrize(
  ('arguments', 'expected'),
  [
    (['--workdir=nowhere'], 'nowhere holds no run'),
    (['--workdir={run}', '--protocol=af_papers'], 'did you mean "af_paper"'),
    (['--workdir={run}', '--protocol=continuous'], 'is for continuous data'),
    (['--workdir={run}', '--split=tests'], 'did you mean "test"'),
    (['--workdir={run}', '--num_context=2'], 'this model needs 3'),
    (['--workdir={run}', '--checkpoint=7'], '--checkpoint=7 is not there'),
    (['--workdir={run}', '--inference_iterations=2'], 'this model has no iterative inference'),
    (['--workdir={run}', '--inference_iterations=-2'], 'inference_iterations'),
    (['--workdir={run}', '--protocol=sequences'], 'with gauss256; use af_paper or discrete'),
  ],
)
def test_mistakes_in_evaluation(arguments, expected, launch, smoke_run):
  done = launch('evaluate', *(a.format(run=smoke_run) for a in arguments))
  assert done.returncode == 2, done.stderr
  assert done.stderr.count('\n') == 1, done.stderr
  assert expected in done.stderr


def test_evaluation_as_a_user_runs_it(launch, smoke_run):
  import json

  first = launch('evaluate', f'--workdir={smoke_run}')
  assert first.returncode == 0, first.stderr
  report = json.loads((smoke_run / 'evaluation' / 'af_paper.json').read_text())
  names = [result['name'] for result in report['results']]
  assert names == ['1-AF', 'static Gaussian', 'copy-last Gaussian']
  for result in report['results']:
    assert result['protocol'] == 'af_paper'
    assert result['kind'] == 'exact'
    assert result['scored_frames'] == [3, 12]
    assert result['nats_per_dim'] > result['floor_nats_per_dim'] == pytest.approx(1.4189, abs=1e-4)
    assert result['bits_per_dim'] == pytest.approx(result['nats_per_dim'] / 0.693147, rel=1e-4)
    assert result['standard_error'] > 0
    assert result['dequantisation'] == 'gauss256'
    assert result['num_sequences'] == 512
    assert result['num_samples'] == 1
  assert set(report['decorrelation']) == {'x', '1/y'}
  again = launch('evaluate', f'--workdir={smoke_run}')
  assert again.stdout == first.stdout
  assert 'test batches' not in again.stderr  # the evaluation was used again


@mock.patch.dict(os.environ)
def test_compiled_programs_are_kept_within_bounds(tmp_path):
  names = 'JAX_COMPILATION_CACHE_DIR', 'JAX_COMPILATION_CACHE_MAX_SIZE'

  def kept(**environment):
    for name in (*names, 'XDG_CACHE_HOME'):
      os.environ.pop(name, None)
    os.environ.update({name: str(value) for name, value in environment.items()})
    cli._keep_compiled_programs()
    return tuple(os.environ.get(name) for name in names)

  bound, file = str(cli.CACHE_BYTES), tmp_path / 'file'
  file.touch()
  assert kept(XDG_CACHE_HOME=tmp_path) == (str(tmp_path / 'afslvm' / 'jax'), bound)
  assert kept(HOME=tmp_path) == (str(tmp_path / '.cache' / 'afslvm' / 'jax'), bound)
  assert kept(JAX_COMPILATION_CACHE_DIR='') == ('', None)
  assert kept(XDG_CACHE_HOME=file) == (None, None)


@pytest.mark.parametrize(
  ('error', 'code', 'said'),
  [
    (KeyboardInterrupt(), 130, ''),
    (SystemExit(143), 143, ''),
    (SystemExit('no'), 1, ''),
    (ConfigError('a value'), 2, 'error: a value\n'),
    (OSError(28, 'No space left', 'x'), 6, 'error: No space left (x); free space'),
    (RuntimeError('RESOURCE_EXHAUSTED: much'), 6, 'error: out of memory'),
    (RuntimeError('a bug'), 1, 'RuntimeError: a bug\n'),
    (KeyError('a bug'), 1, "KeyError: 'a bug'\n"),
  ],
)
def test_what_ends_one_of_several_processes_is_said_before_it_leaves(error, code, said, capsys):
  assert cli.ended_by(error) == code
  assert said in capsys.readouterr().err
