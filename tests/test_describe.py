"""Parameter counts of the AF paper's Table 3, and what `launch/describe.py` prints."""

import json

import jax
import jax.numpy as jnp
import pytest

from afslvm import building, cli, files
from afslvm.training import checkpoint, state
from afslvm.training.optimizer import make_optimizers

# Frame channels -> flows -> (`context`, `learned`); Table 3 counts the constants of `learned`.
COUNTS = {
  1: {1: (335_042, 343_234), 2: (670_084, 686_468)},
  3: {1: (338_502, 363_078), 2: (677_004, 726_156)},
}
BOUNDARIES = ('context', 'learned')


def count(model, length):
  return building.count_parameters(building.abstract_variables(model, length))


@pytest.mark.parametrize('boundary', BOUNDARIES)
@pytest.mark.parametrize('flows', [1, 2])
def test_counts_of_the_configs(flows, boundary):
  suffix = ':learned' if boundary == 'learned' else ''
  parts = building.build(cli.load_config(f'configs/moving_mnist/af{flows}.py{suffix}'))
  assert parts.model.event_shape == (64, 64, 1)
  expected = COUNTS[1][flows][BOUNDARIES.index(boundary)]
  assert count(parts.model, parts.length) == expected


@pytest.mark.parametrize('boundary', BOUNDARIES)
@pytest.mark.parametrize('flows', [1, 2])
def test_counts_of_three_channels(flows, boundary):
  config = cli.load_config(f'configs/moving_mnist/af{flows}.py:{boundary}')
  model = building.model(config.model.to_dict(), (64, 64, 3))
  assert count(model, config.data.length) == COUNTS[3][flows][BOUNDARIES.index(boundary)]


# ---- the binary ----------------------------------------------------------------------------------


def test_json_of_a_config(launch):
  result = launch('describe', '--config=configs/moving_mnist/af1.py:learned', '--json')
  assert (result.returncode, result.stderr) == (0, '')
  found = json.loads(result.stdout)
  assert found['parameters'] == 343_234
  assert found['event_shape'] == found['data']['event_shape'] == [64, 64, 1]
  assert (found['bound'], found['num_context'], found['min_context']) == ('exact', 3, 0)
  modules = {module['path']: module for module in found['modules']}
  assert sum(module['parameters'] for module in found['modules']) == 343_234
  assert sum(module['parameters'] > 0 for module in found['modules']) == 19
  root, head = modules[''], modules['flow/conditioner/shift_head']
  assert (root['class'], root['subtotal']) == ('TemporalFlow', 343_234)
  assert (head['class'], head['shapes']) == ('Conv', {'kernel': [3, 3, 64, 1], 'bias': [1]})
  assert head['output'] == [10, 64, 64, 1]
  assert modules['flow']['shapes'] == {
    'initial_shift': [64, 64, 1],
    'initial_log_scale': [64, 64, 1],
  }


def test_table_of_a_config_with_overrides(launch):
  result = launch(
    'describe', '--config=configs/smoke.py:af2', '--config.model.conditioner.channels=4'
  )
  assert (result.returncode, result.stderr) == (0, '')
  lines = result.stdout.splitlines()
  rows = {line.split()[0]: line.split() for line in lines if '/' in line.split('  ')[0]}
  assert rows['flow/conditioner/encoder_0/conv'][1:3] == ['Conv', f'{9 * 4 * 4 + 4}']
  assert rows['base/flow/conditioner/encoder_0/conv'][2] == f'{9 * 4 * 8 + 8}'
  total = sum(int(row[2].replace(',', '')) for row in rows.values())
  assert f'2-AF: {total:,} parameters' in result.stdout
  assert 'likelihood: exact, after 6 steps of context' in lines[-1]


MISTAKES = {
  'neither': ([], ['exactly one of --config=FILE and --workdir=DIR']),
  'both': (['--config=configs/smoke.py', '--workdir=x'], ['exactly one']),
  'no run': (['--workdir=nowhere'], ['--workdir=nowhere holds no run', 'launch/train.py']),
  'no file': (['--config=configs/smok.py'], ['did you mean "configs/smoke.py"']),
  'override': (
    ['--config=configs/smoke.py', '--config.model.conditioner.chanels=4'],
    ['did you mean "channels"'],
  ),
  'flag': (['--config=configs/smoke.py', '--jsn'], ['did you mean "json"']),
}


@pytest.mark.parametrize('name', MISTAKES)
def test_mistakes_end_in_one_line(launch, name):
  arguments, words = MISTAKES[name]
  result = launch('describe', *arguments)
  assert (result.returncode, result.stdout) == (2, '')
  assert result.stderr.count('\n') == 1
  for word in words:
    assert word in result.stderr


# ---- runs ----------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path):
  """A working directory with checkpoints 1 and 2, as training writes them, without training."""
  config = cli.load_config('configs/smoke.py')
  config.model.conditioner.channels = 2
  parts = building.build(config)
  (tmp_path / 'config.json').write_text(json.dumps(parts.config))
  optimizer, _ = make_optimizers(parts.optimizer, parts.train.num_steps)
  x = jnp.zeros((1, 4, *parts.model.event_shape))
  fresh = state.create_state(parts.model, optimizer, x, seed=0)
  checkpoints = checkpoint.Checkpoints(tmp_path / 'checkpoints')
  for step in (1, 2):
    params = jax.tree.map(lambda leaf, step=step: leaf + step, fresh.params)
    saved = fresh.replace(step=jnp.asarray(step, jnp.int32), params=params)
    checkpoints.save(saved, {'next_index': step}, validation=3.0 + step)
  checkpoints.close()
  return tmp_path, {
    step: checkpoint.tree_sha256(jax.tree.map(lambda leaf, step=step: leaf + step, fresh.params))
    for step in (1, 2)
  }


def describe(launch, workdir):
  result = launch('describe', f'--workdir={workdir}', '--json')
  return result, json.loads(result.stdout) if result.stdout else None


@pytest.mark.slow
@pytest.mark.thorough  # how damage is found is a law of tests/training/test_resume.py
def test_runs_and_their_damage(launch, run):
  workdir, sha256 = run
  result, found = describe(launch, workdir)
  assert (result.returncode, result.stderr) == (0, '')
  assert (found['step'], found['parameters_sha256']) == (2, sha256[2])
  assert (found['validation_nats_per_dim'], found['damaged']) == (5.0, {})
  assert found['parameters'] == sum(module['parameters'] for module in found['modules'])

  # A manifest that is intact and yet of other parameters is not believed.
  path = workdir / 'checkpoints' / '2' / checkpoint.MANIFEST
  manifest = json.loads(path.read_text())
  other = {**manifest, 'parameters_sha256': '0' * 64}
  path.write_text(json.dumps({**other, 'sha256': files.own_sha256(other)}))
  result, found = describe(launch, workdir)
  assert (result.returncode, found) == (4, None)
  assert result.stderr.count('\n') == 1
  assert 'damaged' in result.stderr

  # Neither are files that differ from it: the one before is described.
  path.write_text(json.dumps(manifest))
  largest = max(manifest['files'], key=lambda name: (path.parent / name).stat().st_size)
  content = bytearray((path.parent / largest).read_bytes())
  content[len(content) // 2] ^= 1
  (path.parent / largest).write_bytes(content)
  result, found = describe(launch, workdir)
  assert (result.returncode, found['step'], found['parameters_sha256']) == (0, 1, sha256[1])
  assert list(found['damaged']) == ['2']
  assert 'checkpoint 2 is damaged' in result.stderr


def test_no_checkpoint_yet(launch, tmp_path):
  parts = building.build(cli.load_config('configs/smoke.py'))
  (tmp_path / 'config.json').write_text(json.dumps(parts.config))
  result, _ = describe(launch, tmp_path)
  assert result.returncode == 4
  assert 'no complete checkpoint yet' in result.stderr
  assert result.stderr.count('\n') == 1
