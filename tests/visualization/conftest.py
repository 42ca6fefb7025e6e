"""Runs as the report sees them, without training: a tiny model at its initialisation."""

import copy
import dataclasses
import functools
import json
import math
import pathlib

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from afslvm import build
from afslvm.evaluation import contract as contract_lib
from afslvm.evaluation import store
from afslvm.transforms import preprocessing
from afslvm.visualization import records
from configs import common

CONV = {'name': 'conv', 'window': 3, 'encoder_depth': 0, 'decoder_depth': 0, 'patch': 2}
LINEAR = {'name': 'dense', 'window': 2, 'depth': 0, 'constant_scale': True}
DIGITS = {'name': 'moving_digits', 'frame_size': 8, 'num_frames': 9}
PARTICLE = {'name': 'particle', 'dequantisation': 'none', 'num_frames': 8}


def config_of(conditioner, num_flows, data) -> ConfigDict:
  flows = [{'boundary': 'context'}] * num_flows
  model = common.temporal_flows(common.standard_normal(), conditioner, flows)
  return common.experiment(data=data, model=model, optimizer={}, train={})


def latent_config(num_flows, data) -> ConfigDict:
  sizes = {'hidden': 4, 'layers': 1}
  model = common.slvm(
    2,
    encoder={'widths': (4,), 'features': 4},
    decoder={'widths': (4,)},
    prior={'features': 4, **sizes},
    inference=sizes,
    likelihood={},
  )
  model = common.temporal_flows(model, CONV, [{'boundary': 'context'}] * num_flows)
  return common.experiment(data=data, model=model, optimizer={}, train={})


CONFIGS = {
  'af1': lambda: config_of(CONV, 1, {**DIGITS, 'length': 9}),
  'af2': lambda: config_of(CONV, 2, {**DIGITS, 'length': 9}),
  'slvm': lambda: latent_config(0, {**DIGITS, 'length': 9}),
  'slvm_af1': lambda: latent_config(1, {**DIGITS, 'length': 9}),
  'vectors': lambda: config_of(LINEAR, 1, {**PARTICLE, 'length': 8}),
}


HEALTHY = {
  'kl': 4.25,
  'kl_per_step': [6.0, 4.0, 2.75],
  'active_units': 1,
  'latent_size': 2,
  'predictive_gap': 31.5,
  'residual_correlation': -0.0451,
  'saturation/flow 1': 0.0123,
}


def write_validations(run, *validations):
  """Appends validations to a run, 100 steps apart, and reads it again."""
  folder = pathlib.Path(run.workdir)
  with open(folder / 'metrics.jsonl', 'a') as file:
    for number, health in enumerate(validations, 1):
      line = {'step': 100 * number, 'validation_nats_per_dim': 3.0, **health}
      file.write(json.dumps(line) + '\n')
  return dataclasses.replace(run, records=records.read(folder))


def write_records(workdir, step=20):
  lines = [{'step': s, 'nats_per_dim': 5.0 - s / 10, 'loss': 1.0} for s in range(1, step + 1)]
  lines.append({'step': step, 'validation_nats_per_dim': 3.25})
  (workdir / 'metrics.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))
  receipt = {'device': {'count': 1, 'kind': 'cpu'}, 'steps_per_second': 12.5}
  (workdir / 'receipt.json').write_text(json.dumps({**receipt, 'total_wall_seconds': 61.0}))


@functools.cache
def initialized(kind):
  """Parts, data and variables of one kind of run."""
  parts = build.parts(CONFIGS[kind]())
  stored = parts.dataset.draw('test', 2, np.random.default_rng(0))
  x = preprocessing.dequantise(jax.random.key(0), stored, parts.data['dequantisation'])
  keys = {'params': jax.random.key(0), 'sample': jax.random.key(1)}
  return parts, x, jax.jit(lambda x: parts.model.init(keys, x, method='initialize'))(x)


@pytest.fixture
def make_run(tmp_path):
  """Makes a `records.Run` of a kind in `CONFIGS`; `evaluate` gives it an evaluation."""

  def make(title, kind, with_records=True, **changes) -> records.Run:
    workdir = tmp_path / title.replace(' ', '_')
    workdir.mkdir()
    if with_records:
      write_records(workdir)
    parts, x, variables = initialized(kind)
    run = records.Run(
      title=title,
      workdir=str(workdir),
      model=parts.model,
      variables=variables,
      checkpoint={'step': 20, 'parameters_sha256': 'abc', 'validation_nats_per_dim': 3.25},
      parameters=build.count_parameters(variables),
      config=copy.deepcopy(parts.config),
      dataset=build.dataset_label(parts.dataset),
      data_config=f'{parts.dataset.name}/{parts.dataset.config_name()}',
      num_frames=parts.dataset.num_frames,
      records=records.read(workdir),
      sequences=records.Sequences([4, 7], np.asarray(x), 'test', seed=0),
    )
    return dataclasses.replace(run, **changes)

  return make


@pytest.fixture
def evaluate():
  """Writes an evaluation of a run, as the evaluation binary does, and reads the run again."""

  def write(run, protocol, dequantisation, scored, nats_per_dim, sha256='abc', dataset=None):
    contract = contract_lib.LikelihoodContract(
      protocol=protocol,
      dataset=dataset or run.dataset,
      split='test',
      data_space='continuous' if dequantisation == 'none' else '8bit',
      dequantisation=dequantisation,
      context_frames=scored[0],
      scored_frames=scored,
    )
    dims = np.full(16, (scored[1] - scored[0] + 1) * math.prod(run.model.event_shape))
    offset = 0.0 if dequantisation == 'none' else math.log(256.0)
    spread = np.linspace(-0.1, 0.1, 16)

    def result(name, kind, value, samples=1):
      density = (offset - value - spread) * dims
      return contract_lib.result(name, kind, contract, density, dims, samples, seed=0)

    if dequantisation == 'uniform':
      results = [result('model', 'elbo', nats_per_dim, 5)]
      results.append(result('model', 'iwae-5', nats_per_dim - 0.01, 5))
    else:
      results = [result('model', 'exact', nats_per_dim)]
    results.append(result('static Gaussian', 'exact', 7.5))
    levels = {'1/y': 0.012, 'x': 0.375}
    decorrelation = {
      name: {'temporal_correlation': value, 'standard_deviation': 1.01}
      for name, value in levels.items()
    }
    checkpoint = {'step': 20 if sha256 == 'abc' else 10, 'parameters_sha256': sha256}
    identity = store.identity(contract, checkpoint, 'feedbeef', num_samples=1, seed=0)
    folder = pathlib.Path(run.workdir)
    store.write(store.path_of(folder, contract, scored[0]), identity, results, decorrelation)
    return dataclasses.replace(run, records=records.read(folder))

  return write


@pytest.fixture
def digits_run(make_run):
  """Two flows on frames."""
  return make_run('2-AF', 'af2')


@pytest.fixture
def particle_run(make_run):
  """One flow on vectors."""
  return make_run('1-AF particle', 'vectors')
