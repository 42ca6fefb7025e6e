"""Kill, damage, interrupt: a run that is continued equals one that was never stopped."""

import json
import os
import shutil
import signal
import time

import chex
import jax
import numpy as np
import pytest

from afslvm import runs
from afslvm.training import checkpoint
from tests import forks
from tests.faults import kills
from tests.thorough import some_of

pytestmark = pytest.mark.slow
OPTIONS = (
  '--config=configs/smoke.py',
  '--config.train.num_steps=40',
  '--config.train.checkpoint_every=5',
  '--config.train.eval_every=20',
  '--config.train.log_every=3',
  '--config.optimizer.ema_decay=0.9',
)


KILLS = [[16], [1, 7, 16, 23, 35]]


@pytest.fixture(scope='module')
def straight(launch, tmp_path_factory):
  """A run that nothing interrupted."""
  workdir = tmp_path_factory.mktemp('straight')
  done = launch('train', *OPTIONS, f'--workdir={workdir}')
  assert done.returncode == 0, done.stderr
  return workdir


def start(workdir, environment, *more, options=OPTIONS):
  script = ['launch/train.py', *options, *more, f'--workdir={workdir}']
  return forks.Fork(script, kills.ROOT, environment)


def wait_for_line(workdir, step, timeout=120):
  """Until metrics.jsonl holds a line of `step` or later."""
  deadline = time.monotonic() + timeout
  while time.monotonic() < deadline:
    if kills.last_step(workdir) >= step:
      return
    time.sleep(0.005)
  raise AssertionError(f'no step {step} within {timeout} s')


def assert_same_run(workdir, straight, environment):
  """The same records byte for byte; the same parameters, optimiser, average and data position."""
  assert (workdir / 'metrics.jsonl').read_bytes() == (straight / 'metrics.jsonl').read_bytes()
  states = []
  for folder in (workdir, straight):
    run = runs.load_run(folder, 'latest', environment['TFDS_DATA_DIR'])
    assert run.checkpoint['step'] == 40
    states.append(run.restore())
  (state, data), (expected, expected_data) = states
  chex.assert_trees_all_equal(state, expected)
  assert data == expected_data
  assert data['iterator'] == {'next_index': 40}


@pytest.mark.parametrize('steps', some_of(KILLS, KILLS[:1]), ids=len)
def test_resume_is_bit_exact_after_sigkill(steps, straight, environment, tmp_path):
  """Killed at moments that async saves may be under way, then left to finish."""
  for step in steps:
    kills.kill(start(tmp_path, environment), tmp_path, step, delay=0.003 * step)
  process = start(tmp_path, environment)
  _, log = process.communicate(timeout=120)
  assert process.returncode == 0, log
  assert_same_run(tmp_path, straight, environment)


def killed_and_continued(environment, folder, options):
  """Checks that it equals a run that was not; returns it and its records."""
  straight, killed = folder / 'straight', folder / 'killed'
  process = start(straight, environment, options=options)
  _, log = process.communicate(timeout=300)
  assert process.returncode == 0, log
  process = start(killed, environment, options=options)
  assert kills.kill(process, killed, step=13, delay=0)
  process = start(killed, environment, options=options)
  _, log = process.communicate(timeout=120)
  assert process.returncode == 0, log
  assert 'resuming from step' in log
  assert_same_run(killed, straight, environment)
  return killed, [json.loads(line) for line in (killed / 'metrics.jsonl').read_text().splitlines()]


@pytest.mark.thorough  # another killed run
def test_resume_is_bit_exact_for_a_latent_model_on_streams(environment, tmp_path):
  """Killed in the warm-up of its divergence; its own state goes from batch to batch."""
  warm_up = ('--config.objective.kl_initial_weight=0.1', '--config.objective.kl_warmup_steps=30')
  streams = ('--config.data.length=6', '--config.data.stateful=True')
  options = ('--config=configs/smoke.py:srnn', *OPTIONS[1:], *warm_up, *streams)
  killed, lines = killed_and_continued(environment, tmp_path, options)
  weights = [line['kl_weight'] for line in lines if 'kl_weight' in line]
  assert weights[0] < weights[5] < weights[-1] == 1
  assert all(len(line['kl_per_step']) == 6 for line in lines if 'kl_per_step' in line)
  state, _ = runs.load_run(killed, 'latest', environment['TFDS_DATA_DIR']).restore()
  assert any(np.any(leaf) for leaf in jax.tree.leaves(state.carried.stream))


@pytest.mark.thorough  # tests/training/test_endings.py has signals at every kind of step
@pytest.mark.parametrize(('number', 'code'), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_finishes_the_step_saves_and_says_how_to_go_on(
  number, code, straight, environment, tmp_path
):
  process = start(tmp_path, environment)
  wait_for_line(tmp_path, 6)
  process.send_signal(number)
  _, log = process.communicate(timeout=60)
  assert process.returncode == code, log
  assert 'run the same command again to continue' in log
  assert 'Traceback' not in log
  saved = checkpoint.find_good(tmp_path / 'checkpoints')
  assert saved is not None
  assert json.loads((tmp_path / 'receipt.json').read_text())['step'] == saved
  process = start(tmp_path, environment)
  _, log = process.communicate(timeout=120)
  assert process.returncode == 0
  assert f'resuming from step {saved}' in log
  assert_same_run(tmp_path, straight, environment)


def test_a_finished_run_is_not_trained_again(straight, launch):
  before = {p: p.stat().st_mtime_ns for p in straight.rglob('*') if p.name != '.lock'}
  done = launch('train', *OPTIONS, f'--workdir={straight}')
  assert done.returncode == 0
  assert 'already trained' in done.stderr
  assert before == {p: p.stat().st_mtime_ns for p in straight.rglob('*') if p.name != '.lock'}


def damage(path, how):
  content = path.read_bytes()
  if how == 'delete':
    path.unlink()
  elif how == 'truncate':
    path.write_bytes(content[: len(content) // 2])
  else:
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :])


def test_every_damaged_file_is_found(straight, tmp_path):
  """Each file of a checkpoint in turn, deleted, truncated and with one bit flipped."""
  source = straight / 'checkpoints' / '40'
  files = [p.relative_to(source) for p in source.rglob('*') if p.is_file()]
  assert len(files) > 3
  assert not checkpoint.problem(source)
  for name in files:
    for how in ('delete', 'truncate', 'flip'):
      if (source / name).stat().st_size == 0 and how != 'delete':
        continue
      copy = tmp_path / 'copy'
      shutil.copytree(source, copy)
      damage(copy / name, how)
      assert checkpoint.problem(copy), f'{how} {name} was not noticed'
      shutil.rmtree(copy)


@pytest.mark.thorough  # which files are believed is the law of the test above
def test_a_damaged_checkpoint_falls_back_and_ends_the_same(straight, environment, tmp_path):
  shutil.copytree(straight, tmp_path / 'run')
  workdir = tmp_path / 'run'
  newest = workdir / 'checkpoints' / '40'
  largest = max((p for p in newest.rglob('*') if p.is_file()), key=lambda p: p.stat().st_size)
  damage(largest, 'flip')
  process = start(workdir, environment)
  _, log = process.communicate(timeout=120)
  assert process.returncode == 0, log
  assert 'checkpoint 40 is damaged: sha256' in log
  assert 'resuming from step 35' in log
  assert_same_run(workdir, straight, environment)
  assert (workdir / 'checkpoints_set_aside' / '40').is_dir()


@pytest.mark.thorough  # likewise
def test_nothing_but_damaged_checkpoints_ends_with_exit_4(straight, launch, tmp_path):
  workdir = tmp_path / 'run'
  shutil.copytree(straight, workdir)
  for step in checkpoint.all_steps(workdir / 'checkpoints'):
    files = (workdir / 'checkpoints' / str(step)).rglob('*')
    damage(max((p for p in files if p.is_file()), key=lambda p: p.stat().st_size), 'truncate')
  for name in ('train', 'evaluate'):
    options = OPTIONS if name == 'train' else ()
    done = launch(name, *options, f'--workdir={workdir}')
    assert done.returncode == 4
    assert done.stderr.count('\n') == 1, done.stderr
    assert 'verifies' in done.stderr


def test_another_config_in_the_same_workdir_is_refused(straight, launch):
  done = launch('train', *OPTIONS, f'--workdir={straight}', '--config.model.conditioner.channels=9')
  assert done.returncode == 2
  assert done.stderr.startswith('error: ')
  assert 'model.conditioner.channels=8, not 9' in done.stderr


def test_a_second_writer_is_refused(launch, environment, tmp_path):
  process = start(tmp_path, environment, '--config.train.num_steps=100000')
  wait_for_line(tmp_path, 1)
  done = launch('train', *OPTIONS, f'--workdir={tmp_path}')
  process.send_signal(signal.SIGTERM)
  process.communicate(timeout=120)
  assert done.returncode == 2
  assert f'in use by pid {process.pid}' in done.stderr


def test_records_and_receipt(straight):
  lines = [json.loads(line) for line in (straight / 'metrics.jsonl').read_text().splitlines()]
  steps = [line['step'] for line in lines if 'loss' in line]
  assert steps == [*range(3, 40, 3), 40]
  assert [line['step'] for line in lines if 'validation_nats_per_dim' in line] == [20, 40]
  receipt = json.loads((straight / 'receipt.json').read_text())
  assert receipt['device']['platform'] == 'cpu'
  for key in ('steps_per_second', 'frames_per_second', 'peak_memory_mb', 'wall_seconds'):
    assert receipt[key] > 0
  assert receipt['git_commit']
  assert receipt['versions']['jax']
  assert len(receipt['data_fingerprint']) == 16
  assert list((straight / 'tensorboard').iterdir())
  config = json.loads((straight / 'config.json').read_text())
  assert config['train']['num_steps'] == 40
  kept = checkpoint.all_steps(straight / 'checkpoints')
  assert kept[:2] == [40, 35]
  best = checkpoint.find_good(straight / 'checkpoints', 'best')
  scores = {line['step']: line['validation_nats_per_dim'] for line in lines if 'loss' not in line}
  assert best == min(scores, key=scores.get)
  assert np.isfinite(list(scores.values())).all()


def test_no_orphaned_temporary_files(straight):
  assert not [p for p in straight.rglob('*') if 'tmp' in p.name.lower()]
  assert os.access(straight / 'config.json', os.R_OK)
