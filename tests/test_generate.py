"""`launch/generate.py` as a user runs it, on the smoke run."""

import json

import numpy as np
import pytest
from PIL import Image

FEW = ('--num_samples=3', '--num_sequences=2', '--num_pictures=1')


@pytest.fixture(scope='module')
def generated(launch, smoke_run, tmp_path_factory):
  """Stdout and folder of continuations that go beyond the data."""
  folder = tmp_path_factory.mktemp('generated') / 'new'
  done = launch('generate', f'--workdir={smoke_run}', *FEW, f'--output={folder}')
  assert done.returncode == 0, done.stderr
  return done.stdout, folder


def read(folder):
  return json.loads((folder / 'metrics.json').read_text())


def test_files_of_each_sequence(generated):
  output, folder = generated
  first, second = read(folder)['sequences']
  names = {f'test_{first:05d}.{kind}' for kind in ('npz', 'png', 'gif')}
  assert {path.name for path in folder.iterdir()} == {
    *names,
    f'test_{second:05d}.npz',
    'metrics.json',
  }
  assert output.splitlines()[-1] == str(folder)
  assert (folder / f'test_{first:05d}.png').read_bytes().startswith(b'\x89PNG')
  assert (folder / f'test_{first:05d}.gif').read_bytes().startswith(b'GIF8')


def test_protocol_is_stated(generated):
  output, folder = generated
  found = read(folder)
  protocol = found['protocol']
  asked = {'context_frames': 5, 'predicted_frames': 20, 'num_samples': 3, 'temperature': 1.0}
  about = {'seed': 0, 'split': 'test', 'num_sequences': 2, 'data_range': 1.0, 'clipped': True}
  assert {**protocol, **asked, **about} == protocol
  assert protocol['scored_frames'] == 15  # the data have 20
  for line in found['in_words']:
    assert line in output
  assert 'The data end at frame 19: scored on frames 5..19 only.' in output
  assert 'PSNR, dB (higher is better)' in output
  assert found['checkpoint']['step'] == 20


def test_scores_follow_from_the_values(generated):
  """By numpy, from the files: they hold frames of 8 bits, which the scores did not see."""
  folder = generated[1]
  found = read(folder)
  best, mean, copy = [], [], []
  for place, index in enumerate(found['sequences']):
    with np.load(folder / f'test_{index:05d}.npz') as values:
      truth = values['truth'].astype(float)[5:] / 255
      samples = values['samples'].astype(float) / 255
      last = values['truth'].astype(float)[4] / 255
      assert values['context'].shape == (5, 16, 16, 1)
      assert np.abs(values['context'] - values['truth'][:5] / 255).std() < 2 / 256
      assert samples.shape == (3, 20, 16, 16, 1)
      assert values['mean_path'].shape == (20, 16, 16, 1)

    def psnr(predicted, truth=truth):
      error = np.square(predicted - truth).mean(axis=(-3, -2, -1))
      return -10 * np.log10(error)

    each = psnr(samples[:, :15]).mean(axis=1)
    assert found['best_sample']['psnr'][place] == 1 + each.argmax()
    best.append(each.max())
    mean.append(psnr(samples[:, :15].mean(axis=0)).mean())
    copy.append(psnr(np.broadcast_to(last, truth.shape)).mean())
  scores = found['metrics']['psnr']
  np.testing.assert_allclose(scores['best of samples']['mean'], np.mean(best), atol=0.02)
  np.testing.assert_allclose(scores['mean of samples']['mean'], np.mean(mean), atol=0.02)
  np.testing.assert_allclose(scores['copy last']['mean'], np.mean(copy), atol=1e-3)
  assert len(scores['mean path']['per_frame']) == 15
  assert found['metrics']['ssim'].keys() == scores.keys()


def test_same_command_gives_the_same_bytes(generated, launch, smoke_run):
  output, folder = generated
  before = {path.name: path.read_bytes() for path in folder.iterdir()}
  again = launch('generate', f'--workdir={smoke_run}', *FEW, f'--output={folder}')
  assert again.stdout == output
  assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
  other = launch('generate', f'--workdir={smoke_run}', *FEW, '--seed=1', f'--output={folder}')
  assert other.returncode == 2
  assert 'holds something else already' in other.stderr
  assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_without_truth_there_is_no_score(launch, smoke_run):
  arguments = ('--num_context=20', '--num_frames=2', '--num_samples=1', '--num_sequences=1')
  done = launch('generate', f'--workdir={smoke_run}', *arguments, '--temperature=0.5')
  assert done.returncode == 0, done.stderr
  assert 'there is no truth to compare with' in done.stdout
  assert 'all frames' not in done.stdout
  (folder,) = (smoke_run / 'generated').glob('test_step20_context20_frames2_*temperature0.5_*')
  assert read(folder)['metrics'] == {}


@pytest.mark.parametrize(
  ('arguments', 'expected'),
  [
    (['--workdir=nowhere'], 'nowhere holds no run'),
    (['--workdir={run}', '--num_context=2'], 'this model needs 3'),
    (['--workdir={run}', '--num_context=21'], 'have 20 frames'),
    (['--workdir={run}', '--split=tests'], 'did you mean "test"'),
    (['--workdir={run}', '--output=README.md'], 'is a file'),
    (['--workdir={run}', '--output=docs'], 'choose another --output'),
    (['--workdir={run}', '--temperature=-1'], 'temperature'),
    (['--workdir={run}', '--likelihood_noise=0'], 'this model has no latent variables'),
  ],
)
def test_mistakes_end_in_one_line(arguments, expected, launch, smoke_run):
  done = launch('generate', *(argument.format(run=smoke_run) for argument in arguments))
  assert done.returncode == 2, done.stderr
  assert done.stderr.count('\n') == 1, done.stderr
  assert expected in done.stderr


def test_temperatures_side_by_side(launch, smoke_run, tmp_path):
  few = ('--num_samples=1', '--num_sequences=1', '--num_frames=4', f'--output={tmp_path / "new"}')
  command = ('generate', f'--workdir={smoke_run}', *few)
  done = launch(*command, '--compare_temperatures=0,0.5,1')
  assert done.returncode == 0, done.stderr
  (index,) = read(tmp_path / 'new')['sequences']
  path = tmp_path / 'new' / f'test_{index:05d}_temperatures'
  with Image.open(path.with_suffix('.png')) as picture:
    assert picture.height % 4 == 0  # rows of the truth and of three temperatures
  assert path.with_suffix('.gif').read_bytes().startswith(b'GIF8')
  failed = launch(*command, '--compare_temperatures=0,hot')
  assert failed.returncode == 2
  assert failed.stderr.strip().endswith('must be numbers, such as 0,0.5,1')
