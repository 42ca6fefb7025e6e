"""`evaluate`, `generate` and `report` of `launch/` as users run them, on a tiny model of music."""

import io
import json
import wave

import numpy as np
import pytest

# Other tests run these commands on frames, and evaluate sequences of many lengths without them.
pytestmark = [pytest.mark.slow, pytest.mark.thorough]

CONFIG = """
from afslvm.configs import common

def get_config():
  layers = {'features': 4, 'depth': 1}
  model = common.slvm(
    2,
    encoder={'name': 'mlp', **layers},
    decoder={'name': 'mlp', **layers},
    prior={'hidden': 4, 'layers': 1, **layers},
    inference={'name': 'iterative', **layers},
    likelihood={'name': 'bernoulli', 'initial_rate': 0.05},
  )
  return common.experiment(
    data={'name': 'jsb', 'source': SOURCE, 'dequantisation': 'none', 'length': 8},
    model=model,
    optimizer={},
    train={'num_steps': 4, 'batch_size': 4, 'log_every': 2, 'validation_batches': 1},
  )
"""
LENGTHS = (30, 24, 9)
MANY = ('--num_samples=3', '--num_particles=2')


@pytest.fixture(scope='module')
def music_run(launch, tmp_path_factory):
  """A run on songs of a rising scale over one note that is held."""
  folder = tmp_path_factory.mktemp('music')
  songs = [[[48, 60 + step % 12] for step in range(length)] for length in LENGTHS]
  source, config = folder / 'jsb.json', folder / 'config.py'
  source.write_text(json.dumps({'train': songs, 'valid': songs, 'test': songs}))
  config.write_text(CONFIG.replace('SOURCE', repr(str(source))))
  for done in (
    launch('prepare_data', '--dataset=jsb', f'--source={source}'),
    launch('train', f'--config={config}', f'--workdir={folder / "run"}'),
  ):
    assert done.returncode == 0, done.stderr
  return folder / 'run'


def evaluate(launch, workdir, *flags):
  """What is printed, and the results by kind."""
  done = launch('evaluate', f'--workdir={workdir}', *flags)
  assert done.returncode == 0, done.stderr
  with open(done.stdout.splitlines()[-1]) as file:
    results = json.load(file)['results']
  return done.stdout, {r['kind']: r for r in results if r['name'] == results[0]['name']}


def test_whole_songs(launch, music_run):
  said, found = evaluate(launch, music_run, *MANY)
  assert 'protocol sequences' in said
  assert 'per-note Markov' in said
  assert list(found) == ['elbo', 'iwae-3', 'fivo-2']
  assert found['elbo']['num_sequences'] == 3
  assert found['elbo']['measure'] == 'probability'
  assert found['elbo']['nats_per_step'] == pytest.approx(88 * found['elbo']['nats_per_dim'])
  said, again = evaluate(launch, music_run, *MANY, '--batch_size=2', '--inference_iterations=1')
  assert again == found  # reused: batches make no difference, and it was trained with one iteration
  assert said.splitlines()[-1].endswith('/sequences.json')
  said, found = evaluate(launch, music_run, '--protocol=avf_paper')
  assert 'uncorrected' in said
  assert found['elbo']['uncorrected_sequence_mean'] < found['elbo']['sequence_mean_nats_per_step']


def test_other_inference_iterations(launch, music_run):
  """None at all leaves the posterior at the prior; they have a file of their own."""
  _, trained = evaluate(launch, music_run, *MANY)
  said, none = evaluate(launch, music_run, '--inference_iterations=0')
  assert said.splitlines()[-1].endswith('/sequences_iterations0.json')
  assert none['elbo']['kl_nats_per_step'] == pytest.approx(0, abs=1e-6)
  assert trained['elbo']['kl_nats_per_step'] > 1e-4


def test_continued_songs_are_files_to_listen_to(music_run, launch, tmp_path):
  pretty_midi = pytest.importorskip('pretty_midi')
  arguments = ('--num_samples=4', '--num_sequences=2', '--num_pictures=1', '--step_seconds=0.5')
  done = launch('generate', f'--workdir={music_run}', *arguments, f'--output={tmp_path}')
  assert done.returncode == 0, done.stderr
  about = json.loads((tmp_path / 'metrics.json').read_text())
  protocol = about['protocol']
  assert (protocol['context_frames'], protocol['predicted_frames']) == (16, 48)
  assert protocol['scored_frames'] == 8  # of the second-longest song
  assert about['metrics'].keys() == {'mse'}
  first = about['sequences'][0]
  names = {path.name for path in tmp_path.iterdir() if path.name.startswith(f'test_{first:05d}')}
  files = ['truth.mid', 'truth.wav', 'sample1.mid', 'sample1.wav', 'sample4.mid']
  assert names >= {f'test_{first:05d}_{name}' for name in files} | {f'test_{first:05d}.png'}
  assert len(names) == 2 + 5 + 4  # npz and png, MIDI of all, wav of the truth and three samples
  data = (tmp_path / f'test_{first:05d}_truth.mid').read_bytes()
  (piano,) = pretty_midi.PrettyMIDI(io.BytesIO(data)).instruments
  assert {n.pitch for n in piano.notes} == {48, *range(60, 72)}
  assert max(n.end for n in piano.notes) == pytest.approx(0.5 * (16 + 8))
  with wave.open(str(tmp_path / f'test_{first:05d}_sample1.wav')) as file:
    assert file.getnframes() == 0.5 * (16 + 48) * 16000
  with np.load(tmp_path / f'test_{first:05d}.npz') as values:
    assert values['samples'].shape == (4, 48, 88)


def test_page_with_players(music_run, launch, tmp_path):
  page, picture = tmp_path / 'page.html', tmp_path / 'rows.png'
  done = launch('report', music_run, f'--output={page}', f'--picture={picture}')
  assert done.returncode == 0, done.stderr
  text = page.read_text()
  # Half of the songs have 24 steps; two do, of which both are shown and continued.
  assert 'the first 24 of its 30 steps' in text
  assert text.count('<audio ') == 2 * 2 + 2 * 5 + 3
  assert picture.read_bytes().startswith(b'\x89PNG')
