"""Two real processes on this machine: the same numbers as one, and nothing lost with either."""

import contextlib
import json
import pathlib
import signal
import socket
import time

import jax
import numpy as np
import pytest

from afslvm.errors import CheckpointError, ConfigError, DataError
from afslvm.training import processes
from tests import forks

ROOT = pathlib.Path(__file__).resolve().parents[2]
OPTIONS = (
  '--config=configs/smoke.py',
  '--config.model.conditioner.normalization=none',
  '--config.train.checkpoint_every=4',
  '--config.train.eval_every=20',
  '--config.train.log_every=1',
)
STEPS = 80


def free_port():
  with socket.socket() as listener:
    listener.bind(('127.0.0.1', 0))
    return listener.getsockname()[1]


@contextlib.contextmanager
def together(workdir, environment, *more, count=2):
  """Processes that train in `workdir`; none outlives the block."""
  port = free_port()
  started = [
    forks.Fork(
      [
        *('launch/train.py', *OPTIONS, f'--workdir={workdir}'),
        *(f'--coordinator=127.0.0.1:{port}', f'--num_processes={count}', f'--process_id={index}'),
        *(option for option in more if not isinstance(option, dict)),
        *(values[index] for values in more if isinstance(values, dict)),
      ],
      ROOT,
      environment,
    )
    for index in range(count)
  ]
  try:
    yield started
  finally:
    for process in started:
      process.kill()
      process.wait()


def ended(process):
  """Exit code and last line of a process that is about to end."""
  _, log = process.communicate(timeout=120)
  lines = [line for line in log.splitlines() if line.startswith(('error', 'saved', 'already'))]
  return process.returncode, lines[-1] if lines else log


def wait_for_checkpoint(workdir, step):
  deadline = time.monotonic() + 120
  while time.monotonic() < deadline:
    found = workdir.glob('checkpoints/*/MANIFEST.afslvm.json')
    if any(int(path.parent.name) >= step for path in found):
      return
    time.sleep(0.02)
  raise AssertionError(f'no checkpoint of step {step}')


def losses(workdir, name='loss'):
  lines = map(json.loads, (workdir / 'metrics.jsonl').read_text().splitlines())
  return {line['step']: line[name] for line in lines if name in line}


@pytest.mark.slow
@pytest.mark.thorough  # it kills each of them
def test_two_processes_train_as_one_whatever_happens_to_them(environment, launch, tmp_path):
  alone, shared = tmp_path / 'alone', tmp_path / 'shared'
  budget = f'--config.train.num_steps={STEPS}'
  assert launch('train', *OPTIONS, budget, f'--workdir={alone}').returncode == 0
  many = '--config.train.num_steps=100000'

  with together(shared, environment, many) as both:
    wait_for_checkpoint(shared, 4)
    both[1].send_signal(signal.SIGTERM)  # one of them is enough
    ends = [ended(process) for process in both]
  assert [code for code, _ in ends] == [143, 143]
  assert ends[0][1] == ends[1][1]
  assert ends[0][1].startswith('saved step')

  with together(shared, environment, many) as both:
    wait_for_checkpoint(shared, max(losses(shared)) + 4)
    both[1].kill()
    code, line = ended(both[0])
  assert code == 6
  assert line.startswith('error: process 1 of 2 ')
  assert 'run the same command' in line

  with together(shared, environment, many) as both:
    wait_for_checkpoint(shared, max(losses(shared)) + 4)
    both[0].kill()
    code, line = ended(both[1])
  assert code == 6
  assert line.startswith('error: process 0 of 2 ')

  # On one device instead of two, and the last validation on two again, to the same end.
  fewer = f'--config.train.num_steps={STEPS - 20}'
  done = launch('train', *OPTIONS, fewer, f'--workdir={shared}')
  assert done.returncode == 0, done.stderr
  assert 'resuming from step' in done.stderr
  with together(shared, environment, budget) as both:
    assert [ended(process)[0] for process in both] == [0, 0]
  for name, steps in (('loss', range(1, STEPS + 1)), ('validation_nats_per_dim', (20, 40, 60, 80))):
    found, expected = losses(shared, name), losses(alone, name)
    assert list(found) == list(expected) == list(steps)
    np.testing.assert_allclose(list(found.values()), list(expected.values()), rtol=1e-4)
  assert json.loads((shared / 'receipt.json').read_text())['device']['count'] == 2


@pytest.mark.parametrize(
  ('differing', 'words'),
  [
    ({0: '--config.seed=1', 1: '--config.seed=2'}, 'processes 0 and 1 differ in seed'),
    pytest.param(
      {0: '--config.train.batch_size=5', 1: '--config.train.batch_size=5'},
      'batch_size 5',
      marks=pytest.mark.thorough,
    ),
  ],
)
def test_mistakes_end_every_process_in_one_line(differing, words, environment, tmp_path):
  with together(tmp_path, environment, differing) as both:
    ends = [ended(process) for process in both]
  for code, line in ends:
    assert code == 2
    assert line.startswith('error:')
    assert words in line
  assert not (tmp_path / 'config.json').exists()


@pytest.mark.slow
@pytest.mark.thorough  # `test_mistakes_end_every_process_in_one_line` starts two, too
def test_others_are_told_that_the_first_can_not_start(environment, tmp_path):
  folder = tmp_path / 'checkpoints' / '4'
  folder.mkdir(parents=True)
  (folder / 'MANIFEST.afslvm.json').write_text('{}')
  with together(tmp_path, environment) as both:
    (code, line), (other_code, other_line) = (ended(process) for process in both)
  assert code == 4
  assert 'no checkpoint' in line
  assert other_code == 6
  assert 'process 0 could not start' in other_line


@pytest.mark.parametrize(
  ('arguments', 'words'),
  [
    (('host:1', 0, 0), '--num_processes=0'),
    (('host:1', 2, 2), '--process_id=2'),
    (('host:1', 2, -1), '--process_id=-1'),
    (('host', 2, 0), "--coordinator='host'"),
    (('', 2, 0), "--coordinator=''"),
    (('host:1', 2, 0, True), '--distributed'),
  ],
)
def test_mistakes_in_flags_are_found_before_anything_starts(arguments, words):
  with pytest.raises(ConfigError) as error:
    processes.connect(*arguments)
  assert words in str(error.value)


def test_one_process_needs_nobody():
  processes.connect()
  assert processes.of_first(lambda: 7) == 7
  assert processes.explain(ValueError('Gloo all-reduce failed')) is None


def test_only_broken_collectives_mean_a_lost_process(monkeypatch):
  monkeypatch.setattr(processes, 'are_many', lambda: True)
  broken = ValueError('UNKNOWN: Gloo AllGather failed')
  found = processes.explain(broken)
  assert 'another process of 1 has ended (UNKNOWN: Gloo AllGather failed)' in str(found)
  assert processes.explain(found) is found
  in_save = CheckpointError('could not write')
  in_save.__cause__ = broken
  assert 'Gloo' in str(processes.explain(in_save))
  disk = ValueError('RESOURCE_EXHAUSTED: /data/gloo/x: No space left [os_error_code=28]')
  full = CheckpointError('could not write to /data/gloo')
  full.__cause__ = disk
  for error in (full, disk, DataError('no /data/connection/x'), OSError(28, 'Gloo'), KeyError()):
    assert processes.explain(error) is None


def test_one_process_agrees_with_itself():
  agreement = processes.Agreement(jax.make_mesh((1,), ('data',)))
  assert [agreement.reached(wanted) for wanted in (False, True)] == [False, True]
