"""Runs as a table sees them, finished without having been trained."""

import dataclasses
import math
import pathlib

import numpy as np

from afslvm.evaluation import contract as contract_lib
from afslvm.evaluation.references import COPY_LAST, STATIC
from afslvm.reproduction import folders, plan, tables

LABELS = {
  'af1': '1-AF',
  'af2': '2-AF',
  'slvm': 'SLVM',
  'slvm_af1': 'SLVM + 1-AF',
  'slvm_af2': 'SLVM + 2-AF',
}
LABELS |= {f'{row}_box': f'{LABELS[row]} box' for row in ('af1', 'af2', 'slvm_af1')}
CONTEXT = {'af1': 3, 'af2': 6, 'slvm': 0, 'slvm_af1': 3, 'slvm_af2': 6}
CONTEXT |= {f'{row}_box': CONTEXT[row] for row in ('af1', 'af2', 'slvm_af1')}
DATA = plan.Data(
  name='moving_digits',
  label='moving_digits 16x16x1',
  config='moving_digits/px16',
  event_shape=(16, 16, 1),
  data_space='8bit',
  fingerprint='feedbeef',
  num_scored={'train': 16},
)
PUBLISHED = dataclasses.replace(
  DATA,
  name='moving_mnist',
  label='moving_mnist 64x64x1 published=True',
  config='moving_mnist/published',
  event_shape=(64, 64, 1),
)
KTH = dataclasses.replace(
  PUBLISHED, name='kth', label='kth 64x64x1 persons=avf', config='kth/avf-px64'
)
ABOUT = {
  'table': 'af_1',
  'dataset': 'moving_digits',
  'scale': 'small',
  'overrides': [],
  'commands': ['python launch/reproduce.py'],
}


def planned(row, seed=0, data=DATA, path=pathlib.Path('runs'), table=tables.AF_1):
  return plan.PlannedRun(
    table=table,
    row=row,
    seed=seed,
    label=LABELS[row],
    parameters=1000 + len(row),
    num_context=CONTEXT[row],
    measure='density',
    config_file=f'configs/moving_digits/{row}.py',
    overrides=(),
    config={'seed': seed, 'data': {'data_dir': ''}, 'train': {'num_steps': 50, 'batch_size': 16}},
    path=path / plan.folder_name(row, seed),
    data=data,
  )


def finished(row, seed=0, data=DATA, test=2.5, gap=0.1, error=0.01, table=tables.AF_1):
  """A run that scores `test` nats/dim with that standard error, and `gap` less on training data."""
  run = planned(row, seed, data, table=table)
  values = {'test': test, 'train': test - gap, 'validation': test + gap}
  checkpoint = {'step': 40, 'parameters_sha256': 'abc'}
  evaluations = {
    column.name: {
      'identity': run.identity(column, checkpoint),
      'results': [r.to_json() for r in _results(run, column, values[column.split], error)],
      'git_commit': 'c0ffee0123456789',
      'decorrelation': {
        'x': {'temporal_correlation': 0.4, 'standard_deviation': 0.3},
        '1/y': {'temporal_correlation': -0.01, 'standard_deviation': 1.0},
      },
    }
    for column in run.columns
  }
  receipt = {
    'steps_per_second': 12.5,
    'total_wall_seconds': 61.0,
    'git_commit': '0123456789abcdef',
    'device': {'count': 1, 'kind': 'cpu'},
    'data_fingerprint': data.fingerprint,
  }
  return folders.FinishedRun(run, receipt, evaluations)


def _results(run, column, value, error):
  bound = 'elbo' if 'slvm' in run.row else 'exact'
  own = _result(run, column, run.label, bound, value, error)
  kl = 3.25 + column.context / 100 if bound == 'elbo' else None
  return [
    dataclasses.replace(own, kl_nats_per_step=kl),
    _result(run, column, STATIC, 'exact', 4.7, 0.01),
    _result(run, column, COPY_LAST, 'exact', 4.8, 0.01),
  ]


def _result(run, column, name, kind, value, error):
  """16 sequences whose values have exactly this mean and standard error."""
  spread = np.repeat([-1.0, 1.0], 8)
  spread *= error * math.sqrt(16) / spread.std(ddof=1)
  dims = np.full(16, tables.AF_1.columns[0].protocol.num_scored * math.prod(run.data.event_shape))
  nats = (math.log(256.0) - value - spread) * dims
  contract = run.contract(column)
  return contract_lib.result(name, kind, contract, nats, dims, num_samples=1, seed=0)
