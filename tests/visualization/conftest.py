"""Runs as the report sees them, without training: a tiny model at its initialisation."""

import copy
import dataclasses
import functools
import json
import math
import pathlib
import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from afslvm import building
from afslvm.configs import common
from afslvm.evaluation import contract as contract_lib
from afslvm.evaluation import store
from afslvm.models.base import SequenceModel, StepTerms
from afslvm.transforms import preprocessing
from afslvm.visualization import events, records

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
  parts = building.build(CONFIGS[kind]())
  stored = parts.dataset.draw('test', 2, np.random.default_rng(0))
  x = preprocessing.dequantise(jax.random.key(0), stored, parts.dequantisation)
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
      parameters=building.count_parameters(variables),
      config=copy.deepcopy(parts.config),
      dataset=building.dataset_label(parts.dataset),
      data_config=f'{parts.dataset.name}/{parts.dataset.config_name()}',
      num_frames=parts.dataset.num_frames,
      event=events.event_of(parts.dataset),
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


# ---- music and speech ----------------------------------------------------------------------------


class Persistent(SequenceModel):
  """Any step is probably like the one before; of notes Bernoulli, of sound Gaussian."""

  binary: bool = True

  def setup(self):
    self.keep = self.param('keep', nn.initializers.constant(0.8), ())

  def initial_state(self, batch_size):
    return jnp.zeros((batch_size, *self.event_shape))

  def step(self, state, x_t, mask_t=None):
    mean = self.mean(state)
    self.sow('visuals', 'mean', mean, reduce_fn=lambda _, new: (new,), init_fn=tuple)
    terms = jnp.sum(x_t * jnp.log(mean) if self.binary else -jnp.square(x_t - mean), axis=-1)
    zero = jnp.zeros_like(terms)
    return x_t, StepTerms(terms, zero, zero, jnp.ones(terms.shape, bool))

  def mean(self, state):
    return jnp.clip(self.keep * state, 0.02, 1.0) if self.binary else self.keep * state

  def predict(self, state, temperature=1.0, limit=None):
    key, mean = self.make_rng('sample'), self.mean(state)
    if self.binary:
      x_t = (
        jax.random.uniform(key, mean.shape) * temperature < mean - 0.5 * (1 - temperature)
      ) * 1.0
    else:
      x_t = mean + 0.1 * temperature * jax.random.normal(key, mean.shape)
    return x_t, x_t


def song(steps, seed=0):
  """Four voices [T, 88] that move by steps of a scale, each note held for some steps."""
  rng, roll = np.random.default_rng(seed), np.zeros((steps, 88), np.uint8)
  for base in (22, 29, 36, 43):
    place = base
    for step in range(steps):
      if rng.random() < 0.5:
        place = int(np.clip(place + rng.choice([-2, -1, 1, 2]), base - 6, base + 6))
      roll[step, place] = 1
  return roll


def vowel(steps, frame=200, rate=8000, seed=0):
  """Standardised frames [T, frame]: a few harmonics that swell and fade, and a little noise."""
  time = np.arange(steps * frame) / rate
  rng, swell = np.random.default_rng(seed), np.sin(np.pi * time / time[-1]) ** 2
  tone = sum(np.sin(2 * np.pi * 130 * k * time) / k for k in (1, 2, 3, 6, 7))
  wave = swell * tone + 0.02 * rng.normal(size=time.size)
  return (wave / wave.std()).reshape(steps, frame).astype(np.float32)


def heard_run(workdir, title, data_space, steps=40) -> records.Run:
  """A run on music ('binary') or speech ('pcm16')."""
  binary = data_space == 'binary'
  make = song if binary else vowel
  x = jnp.asarray(np.stack([make(steps, seed=seed) for seed in range(2)]), jnp.float32)
  model = Persistent(event_shape=x.shape[2:], binary=binary)
  variables = model.init({'params': jax.random.key(0)}, x, method='initialize')
  builder = types.SimpleNamespace(
    event_shape=x.shape[2:], data_space=data_space, sample_rate=8000, mean=2.0, std=900.0
  )
  workdir.mkdir()
  write_records(workdir)
  data = {'name': 'a set', 'length': 10, 'dequantisation': 'none'}
  return records.Run(
    title=title,
    workdir=str(workdir),
    model=model,
    variables={'params': variables['params']},
    checkpoint={'step': 20, 'parameters_sha256': 'abc', 'validation_nats_per_dim': 0.125},
    parameters=1,
    config={'data': data, 'model': {}, 'train': {'num_steps': 20, 'batch_size': 2}},
    dataset=f'a set of {data_space}',
    data_config='a set/all',
    num_frames=4000,
    event=events.event_of(builder),
    records=records.read(workdir),
    sequences=records.Sequences([3, 5], np.asarray(x), 'test', seed=0, lengths=[steps, 2 * steps]),
  )


@pytest.fixture
def music_run(tmp_path):
  """A model of piano rolls."""
  return heard_run(tmp_path / 'music', 'Notes', 'binary')


@pytest.fixture
def speech_run(tmp_path):
  """A model of waveforms."""
  return heard_run(tmp_path / 'speech', 'Waves', 'pcm16')


@pytest.fixture
def digits_run(make_run):
  """Two flows on frames."""
  return make_run('2-AF', 'af2')


@pytest.fixture
def particle_run(make_run):
  """One flow on vectors."""
  return make_run('1-AF particle', 'vectors')
