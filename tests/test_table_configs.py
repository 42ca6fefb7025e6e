"""The configs of tables: counts at the AF paper's size, that they train, and train alike."""

import json

import jax
import numpy as np
import pytest

from afslvm import building, cli
from afslvm.evaluation import published
from afslvm.objectives.objective import Carried, make_loss
from afslvm.reproduction.tables import AF_1, BOX
from afslvm.training import loop
from afslvm.training.experiment import Experiment
from afslvm.training.settings import TrainSettings
from afslvm.training.workdir import Workdir
from tests import reproduced

COUNTS = {
  1: dict(zip(AF_1.rows, (335_042, 670_084, 11_289_090, 10_572_484, 10_907_526), strict=True)),
  3: dict(zip(AF_1.rows, (338_502, 677_004, 11_295_238, 10_582_092, 10_920_594), strict=True)),
}
PAPER_FOLDERS = sorted(AF_1.folders['paper'])


def count(parts):
  variables = building.abstract_variables(parts.model, parts.model.num_context + 1)
  return building.count_parameters(variables)


@pytest.mark.parametrize('row', AF_1.rows)
@pytest.mark.parametrize('dataset', PAPER_FOLDERS)
def test_counts_of_the_paper_configs(dataset, row):
  parts = building.build(cli.load_config(f'configs/{dataset}/{row}.py'))
  channels = 3 if dataset == 'bair' else 1
  assert count(parts) == COUNTS[channels][row]
  assert parts.length == (16 if 'af2' in row else 13)
  assert parts.optimizer.learning_rate == 1e-4
  paper = published.size_of(
    reproduced.LABELS[row], dataset, parts.model.event_shape, COUNTS[channels][row]
  )
  index = list(AF_1.rows).index(row)
  if row == 'slvm_af2':  # not in Table 3
    assert paper is None
  else:
    assert paper.thousands == published.PARAMETERS[paper.dataset][index]
    assert paper.why_different


def test_counts_of_table_3_need_no_excuse():
  assert published.size_of('1-AF', 'bair', (64, 64, 3), 363_078).why_different == ''
  assert published.size_of('SLVM', 'kth', (64, 64, 1), 960_034) is None
  assert published.size_of('SLVM', 'moving_digits', (64, 64, 1), 11_289_090) is None
  assert (
    'transposition'
    in published.size_of('SLVM + 1-AF', 'bair', (64, 64, 3), 10_582_092).why_different
  )


def test_describe_prints_the_count_of_the_paper(launch):
  done = launch('describe', '--config=configs/kth/slvm.py')
  assert done.returncode == 0, done.stderr
  assert 'SLVM: 11,289,090 parameters' in done.stdout
  assert 'AF paper, Table 3, KTH: 11302k (PyTorch’s LSTM cell' in done.stdout


def one_batch(parts):
  """One sequence of random frames that leaves the latent model three steps."""
  length = parts.model.num_context + 3
  x = np.random.default_rng(0).integers(0, 256, (1, length, *parts.model.event_shape), np.uint8)
  return {'x': x, 'mask': np.ones((1, length), bool)}


@pytest.mark.parametrize('config', ['bair/slvm_af1', 'kth/slvm'])
def test_paper_configs_have_gradients_of_the_right_shapes(config):
  """Traced, not compiled: that takes a minute at this size."""
  parts = building.build(cli.load_config(f'configs/{config}.py'))
  batch = one_batch(parts)
  variables = building.abstract_variables(parts.model, batch['x'].shape[1])
  params, state = variables['params'], {k: v for k, v in variables.items() if k != 'params'}
  loss = make_loss(parts.objective, parts.model, 'gauss256')
  grads, (metrics, carried, _) = jax.eval_shape(
    jax.grad(loss, has_aux=True), params, Carried(state), batch, jax.random.key(0), 0
  )
  assert (metrics['loss'].shape, metrics['loss'].dtype) == ((), np.float32)
  for a, b in ((grads, params), (carried.collections, state)):
    jax.tree.map(lambda a, b: np.testing.assert_equal((a.shape, a.dtype), (b.shape, b.dtype)), a, b)


@pytest.mark.slow
@pytest.mark.thorough  # nothing else compiles a model of the paper's size
def test_a_paper_config_trains(tmp_path):
  """Two steps of the one that compiles fastest."""
  parts = building.build(cli.load_config('configs/moving_mnist/af1.py'))
  batch = one_batch(parts)

  class Batches:
    def __next__(self):
      return batch

    def get_state(self):
      return {}

  experiment = Experiment(
    model=parts.model,
    dequantisation='gauss256',
    length=batch['x'].shape[1],
    seed=0,
    train=TrainSettings(num_steps=2, batch_size=1, log_every=1),
    optimizer=parts.optimizer,
    training_batches=Batches,
    validation_batches=lambda: iter([batch]),
    fingerprint='0' * 16,
    config={},
    objective=parts.objective,
  )
  with Workdir(tmp_path) as workdir:
    assert loop.train(workdir, experiment) == 0
  lines = [json.loads(line) for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()]
  assert all(np.isfinite(line['nats_per_dim']) for line in lines if 'nats_per_dim' in line)
  assert json.loads((tmp_path / 'receipt.json').read_text())['skipped_steps'] == 0


@pytest.mark.parametrize('folder', AF_1.folders['small'].values())
def test_rows_of_a_small_table_are_trained_alike(folder):
  sections = [cli.load_config(f'{folder}/{row}.py').to_dict() for row in AF_1.rows]
  for section in ('data', 'optimizer', 'train'):
    assert all(config[section] == sections[0][section] for config in sections), section


@pytest.mark.parametrize('folder', BOX.folders['small'].values())
def test_rows_of_the_box_table_differ_in_their_transform_alone(folder):
  for row in ('af1', 'af2', 'slvm_af1'):
    pair = [
      cli.load_overridden(f'{folder}/{name}.py', BOX.overrides).to_dict()
      for name in (row, f'{row}_box')
    ]
    for name, config in zip((row, f'{row}_box'), pair, strict=True):
      assert building.label(building.build(config).config['model']) == reproduced.LABELS[name]
    assert [config['model'].pop('transform') for config in pair] == ['affine', 'box_logistic']
    assert pair[0] == pair[1]


def test_warm_ups_follow_the_number_of_steps():
  file, given = 'configs/moving_digits/slvm_af1.py', ['train.num_steps=300']
  config = cli.load_overridden(file, given).to_dict()
  assert config['objective']['kl_warmup_steps'] == 90
  assert config['optimizer']['warmup_steps'] == 9
  config = cli.load_overridden(file, [*given, 'objective.kl_warmup_steps=7']).to_dict()
  assert config['objective']['kl_warmup_steps'] == 7
