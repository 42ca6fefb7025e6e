"""`launch/evaluate.py` on music, whole songs, with more or fewer inference iterations."""

import json

import numpy as np
import pytest

CONFIG = """
from configs import common

LAYERS = {{'name': 'mlp', 'features': 4, 'depth': 1}}


def get_config():
  model = common.slvm(
    2,
    encoder=LAYERS,
    decoder=LAYERS,
    prior={{'features': 4, 'depth': 1, 'hidden': 4, 'layers': 1}},
    inference={{'name': 'iterative', 'features': 4, 'depth': 1}},
    likelihood={{'name': 'bernoulli'}},
  )
  data = {{'name': 'jsb', 'source': '{source}', 'length': 6, 'dequantisation': 'none'}}
  train = {{'num_steps': 4, 'batch_size': 4, 'log_every': 2, 'validation_batches': 1}}
  return common.experiment(data=data, model=model, optimizer={{}}, train=train)
"""


@pytest.fixture(scope='module')
def music_run(launch, session_dir):
  """A tiny model of random notes, songs of 6 to 15 steps."""
  rng = np.random.default_rng(0)
  lengths, split = rng.integers(6, 16, 20), np.repeat([0, 1, 2], [9, 4, 7])
  notes = (rng.random((lengths.sum(), 88)) < 0.05).astype(np.uint8)
  source, config, workdir = (session_dir / name for name in ('jsb.npz', 'music.py', 'music_run'))
  np.savez(source, packed=np.packbits(notes, axis=1), lengths=lengths, split=split)
  config.write_text(CONFIG.format(source=source))
  prepared = launch('prepare_data', '--dataset=jsb', f'--source={source}')
  assert prepared.returncode == 0, prepared.stderr
  trained = launch('train', f'--config={config}', f'--workdir={workdir}')
  assert trained.returncode == 0, trained.stderr
  return workdir


def evaluate(launch, workdir, *flags):
  """What is printed, and the results by kind."""
  done = launch('evaluate', f'--workdir={workdir}', *flags)
  assert done.returncode == 0, done.stderr
  with open(done.stdout.splitlines()[-1]) as file:
    results = json.load(file)['results']
  return done.stdout, {r['kind']: r for r in results if r['name'] == results[0]['name']}


def test_whole_songs(launch, music_run):
  said, found = evaluate(launch, music_run, '--num_samples=3', '--num_particles=2')
  assert 'protocol sequences' in said
  assert 'per-note Markov' in said
  assert list(found) == ['elbo', 'iwae-3', 'fivo-2']
  assert found['elbo']['num_sequences'] == 7
  assert found['elbo']['measure'] == 'probability'
  assert found['elbo']['nats_per_step'] == pytest.approx(88 * found['elbo']['nats_per_dim'])
  said, again = evaluate(
    launch, music_run, '--num_samples=3', '--num_particles=2', '--batch_size=2'
  )
  assert again == found  # reused, since batches make no difference
  said, found = evaluate(launch, music_run, '--protocol=avf_paper')
  assert 'uncorrected' in said
  assert found['elbo']['uncorrected_sequence_mean'] < found['elbo']['sequence_mean_nats_per_step']


def test_other_inference_iterations(launch, music_run):
  """None at all leaves the posterior at the prior; they have a file of their own."""
  said, trained = evaluate(launch, music_run, '--inference_iterations=1')
  assert said.splitlines()[-1].endswith('/sequences.json')
  said, none = evaluate(launch, music_run, '--inference_iterations=0')
  assert said.splitlines()[-1].endswith('/sequences_iterations0.json')
  assert none['elbo']['kl_nats_per_step'] == pytest.approx(0, abs=1e-6)
  assert trained['elbo']['kl_nats_per_step'] > 1e-4


@pytest.mark.parametrize(
  ('flags', 'words'),
  [
    (['--inference_iterations=2'], 'this model has no iterative inference'),
    (['--inference_iterations=-2'], 'inference_iterations'),
    (['--protocol=sequences'], 'trained with gauss256; use af_paper or discrete'),
    (['--protocol=afv_paper'], 'did you mean "a'),
  ],
)
def test_mistakes_end_in_one_line(flags, words, launch, smoke_run):
  done = launch('evaluate', f'--workdir={smoke_run}', *flags)
  assert done.returncode == 2, done.stderr
  assert done.stderr.count('\n') == 1
  assert words in done.stderr
