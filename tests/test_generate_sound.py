"""`launch/generate.py` and `launch/report.py` as a user runs them, on a tiny model of music."""

import io
import json
import wave

import numpy as np
import pytest

pytestmark = pytest.mark.slow

CONFIG = """
from configs import common

def get_config():
  sizes, mlp = {'hidden': 4, 'layers': 1}, {'name': 'mlp', 'features': 8, 'depth': 1}
  model = common.slvm(
    2,
    encoder=mlp,
    decoder=mlp,
    prior={'features': 4, **sizes},
    inference=sizes,
    likelihood={'name': 'bernoulli', 'initial_rate': 0.05},
  )
  return common.experiment(
    data={'name': 'jsb', 'source': SOURCE, 'dequantisation': 'none', 'length': 8},
    model=model,
    optimizer={},
    train={'num_steps': 2, 'batch_size': 4, 'validation_batches': 1},
  )
"""
LENGTHS = (30, 24, 9)


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
