"""What training says and keeps when its surroundings fail: disk, folder, data, signals."""

import json
import logging
import os
import resource
import shutil
import signal
import subprocess
import threading
import time
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afslvm import files
from afslvm.errors import CheckpointError, ConfigError, PlatformError
from afslvm.evaluation import store
from afslvm.training import checkpoint, waiting
from afslvm.training.state import TrainState
from afslvm.training.workdir import Workdir
from tests.faults import run_readers
from tests.training.test_endings import Stopping, train, with_batches
from tests.training.test_step import Batches, experiment

pytestmark = [
  pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning'),
  pytest.mark.usefixtures('kept_programs'),
]


@pytest.fixture
def sequences():
  return np.random.default_rng(0).normal(size=(8, 2, 6, 3)).astype(np.float32)


class Disturbed(Batches):
  """Does something before a batch."""

  def __init__(self, x, at, action):
    super().__init__(x)
    self.at, self.action = at, action

  def __next__(self):
    if self.next_index == self.at:
      self.action()
    return super().__next__()


def eight_steps(sequences):
  return experiment(sequences, num_steps=8, checkpoint_every=2, log_every=8)


def disturbed(sequences, at, action):
  given = eight_steps(sequences)
  made = iter([Disturbed(sequences, at, action), Batches(sequences)])
  return with_batches(given, lambda: next(made))


def one_line(caught, *words):
  message = str(caught.value)
  assert '\n' not in message
  assert all(word in message for word in words), message


# ---- disk and folder -----------------------------------------------------------------------------


def test_a_full_disk_keeps_the_checkpoint_before_and_the_run_goes_on(sequences, tmp_path):
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)

  def fill():
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, limits[1]))

  try:
    with pytest.raises(CheckpointError) as caught:
      train(tmp_path / 'full', disturbed(sequences, 7, fill))
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  one_line(caught, str(tmp_path / 'full'), 'File too large', 'free space', 'the last good step is')
  assert checkpoint.find_good(tmp_path / 'full' / 'checkpoints') in (2, 4, 6)
  for name in ('full', 'straight'):
    assert train(tmp_path / name, eight_steps(sequences)) == 0
  assert outcome(tmp_path / 'full') == outcome(tmp_path / 'straight')


def outcome(path):
  receipt = json.loads((path / 'receipt.json').read_text())
  return receipt['parameters_sha256'], (path / 'metrics.jsonl').read_bytes()


@pytest.mark.parametrize('free', [10, 3_000])
def test_too_little_space_is_said_before_training(free, sequences, tmp_path, monkeypatch, caplog):
  monkeypatch.setattr(
    checkpoint.shutil, 'disk_usage', lambda path: types.SimpleNamespace(free=free)
  )
  words = 'checkpoints of 0 MB have to fit', '0 MB are free'
  if free == 10:
    with pytest.raises(CheckpointError) as caught:
      train(tmp_path / 'run', experiment(sequences))
    one_line(caught, *words, str(tmp_path), 'free space')
    assert not (tmp_path / 'run' / 'metrics.jsonl').exists()
    return
  with caplog.at_level(logging.WARNING, 'afslvm.training.checkpoint'):
    assert train(tmp_path / 'run', experiment(sequences)) == 0
  assert all(word in caplog.text for word in words)


def test_a_folder_that_is_taken_away_ends_training(sequences, tmp_path):
  run = tmp_path / 'run'

  def take_away():
    # A checkpoint that is being written would make the folder anew.
    deadline = time.monotonic() + 30
    while not (run / 'checkpoints' / '6').is_dir() and time.monotonic() < deadline:
      time.sleep(0.01)
    run.rename(tmp_path / 'elsewhere')

  with pytest.raises((CheckpointError, PlatformError)) as caught:  # whoever writes first
    train(run, disturbed(sequences, 7, take_away))
  one_line(caught, str(run), 'back', 'run the same command again')
  assert checkpoint.find_good(tmp_path / 'elsewhere' / 'checkpoints') in (2, 4, 6)


@pytest.mark.parametrize('place', ['file', 'file/run', '/proc/run'])
def test_folders_that_can_not_be_made(place, tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(ConfigError) as caught, Workdir(tmp_path / place):
    pass
  one_line(caught, f'--workdir={tmp_path / place} can not be written')


@pytest.mark.skipif(os.geteuid() == 0, reason='whoever is root may write anywhere')
def test_a_folder_without_permission(tmp_path):
  tmp_path.chmod(0o555)
  with pytest.raises(ConfigError) as caught, Workdir(tmp_path / 'run'):
    pass
  one_line(caught, 'can not be written: Permission denied')


# ---- signals -------------------------------------------------------------------------------------


def test_a_second_signal_ends_at_once_and_loses_no_checkpoint(sequences, tmp_path, monkeypatch):
  close, impatient = checkpoint.Checkpoints.close, iter([True])

  def signalled(self):
    if next(impatient, False):
      os.kill(os.getpid(), signal.SIGTERM)
    close(self)

  monkeypatch.setattr(checkpoint.Checkpoints, 'close', signalled)
  made = iter([Stopping(sequences, 3), Batches(sequences)])
  with pytest.raises(SystemExit) as caught:
    train(tmp_path, with_batches(experiment(sequences), lambda: next(made)))
  assert caught.value.code == 143
  assert checkpoint.find_good(tmp_path / 'checkpoints') == 4


# ---- data that stand still -----------------------------------------------------------------------


class Piped:
  """Batches that another process sends, one byte each."""

  def __init__(self, pipe):
    self.pipe = pipe

  def __next__(self):
    return {'x': np.frombuffer(self.pipe.read(1), np.uint8)}


def test_a_source_that_is_stopped_is_named(monkeypatch):
  said = threading.Event()
  lines = []

  def record(text, *values):
    lines.append(text % values)
    said.set()

  monkeypatch.setattr(logging.getLogger('afslvm.training.waiting'), 'warning', record)
  with subprocess.Popen(
    ['cat'], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
  ) as source:
    with waiting.WatchedBatches(Piped(source.stdout), 'digits in /data', seconds=0.05) as watched:
      source.stdin.write(b'a')
      assert next(watched)['x'] == ord('a')
      source.send_signal(signal.SIGSTOP)
      source.stdin.write(b'b')
      reader = threading.Thread(target=lambda: lines.append(next(watched)))
      reader.start()
      assert said.wait(60)
      source.send_signal(signal.SIGCONT)
      reader.join(60)
    source.stdin.close()
  assert 'digits in /data stands still after 1 batches' in lines[0]
  assert lines[-1]['x'] == ord('b')


def test_a_process_ends_when_another_is_alive_and_stuck(monkeypatch, caplog):
  codes, left = [], threading.Event()

  def leave(code):
    codes.append(code)
    left.set()

  monkeypatch.setattr(waiting.processes, 'leave', leave)
  caplog.set_level(logging.WARNING, 'afslvm.training.waiting')
  with waiting.WatchedSteps(patience=0.06) as steps:
    with steps.waiting():  # one process waits for nobody, and is never ended
      assert not left.wait(0.5)
    monkeypatch.setattr(waiting.processes, 'are_many', lambda: True)
    assert not left.wait(0.5)  # nor is one of many between steps
    with steps.waiting():
      assert left.wait(60)
  assert set(codes) == {6}
  assert 'a step has taken 0 s so far' in caplog.text
  assert 'processes is stuck; end them all and run the same command' in caplog.text


# ---- checkpoints of something else ---------------------------------------------------------------


def small_state(**arrays):
  params = {'w': jnp.ones((2, 3)), **arrays}
  zero = jnp.int32(0)
  return TrainState(jnp.int32(4), params, {}, (), (), zero, zero)


def test_checkpoints_of_other_arrays_and_versions_are_refused(tmp_path):
  checkpoints = checkpoint.Checkpoints(tmp_path)
  checkpoints.save(small_state(), {'next_index': 4})
  checkpoints.close()
  assert checkpoint.restore_step(tmp_path, 4, small_state())[1] == {'next_index': 4}
  others = {
    'stored float32[2, 3], model bfloat16[2, 3]': small_state(w=jnp.ones((2, 3), jnp.bfloat16)),
    'stored float32[2, 3], model float32[3, 3]': small_state(w=jnp.ones((3, 3))),
    'first params/b (stored nothing, model float32[1])': small_state(b=jnp.ones(1)),
  }
  for words, target in others.items():
    with pytest.raises(CheckpointError) as caught:
      checkpoint.restore_step(tmp_path, 4, jax.eval_shape(lambda target=target: target))
    one_line(caught, '1 arrays differ', words, 'use the config it was trained with')

  # A newer format is neither read nor set aside.
  path = tmp_path / '4' / checkpoint.MANIFEST
  manifest = {**json.loads(path.read_text()), 'format': checkpoint.FORMAT + 1}
  path.write_text(json.dumps({**manifest, 'sha256': files.own_sha256(manifest)}))
  with pytest.raises(CheckpointError) as caught:
    checkpoint.Checkpoints(tmp_path)
  one_line(caught, str(tmp_path / '4'), 'of format 2', 'reads up to 1')
  assert path.exists()


def test_the_newest_checkpoint_is_that_of_the_largest_step(tmp_path):
  run_readers.make_checkpoint(tmp_path)
  folder = tmp_path / 'checkpoints'
  for step in (20, 100):
    shutil.copytree(folder / '3', folder / str(step))
  for index, path in enumerate(sorted(folder.iterdir(), key=lambda p: -int(p.name))):
    os.utime(path, (index, index))
  assert checkpoint.find_good(folder) == 100


# ---- records -------------------------------------------------------------------------------------


def test_a_damaged_record_is_left_out_and_the_others_stay(tmp_path, caplog):
  lines = [f'{{"step": {step}, "loss": 1.0}}\n' for step in range(1, 7)]
  lines[2] = '{"step": \x00, "loss": 1.0}\n'
  (tmp_path / 'metrics.jsonl').write_text(''.join(lines) + '{"step": 7, "lo')
  with caplog.at_level(logging.WARNING, 'afslvm'):
    Workdir(tmp_path).truncate_records(5)
  kept = [json.loads(line)['step'] for line in (tmp_path / 'metrics.jsonl').open()]
  assert kept == [1, 2, 4, 5]
  assert [r.getMessage() for r in caplog.records] == [
    f'line 3 of {tmp_path / "metrics.jsonl"} is damaged and left out'
  ]


def test_an_evaluation_of_which_a_digit_changed_is_made_anew(tmp_path):
  run_readers.make_records(tmp_path)
  path = tmp_path / 'evaluation' / 'x.json'
  assert store.read_if_current(path, run_readers.IDENTITY)
  path.write_text(path.read_text().replace('1.25', '1.35'))
  assert store.read_if_current(path, run_readers.IDENTITY) is None
  assert store.read_all(tmp_path) == []
