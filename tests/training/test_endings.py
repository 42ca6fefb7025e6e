"""However the loop ends, what was computed is kept and says so."""

import json
import os
import signal

import numpy as np
import pytest

from afslvm.errors import ConfigError, DataError, NumericsError
from afslvm.training import checkpoint, loop, records
from afslvm.training.workdir import Workdir
from tests.training.test_step import Batches, experiment

pytestmark = pytest.mark.usefixtures('kept_programs')


@pytest.fixture
def sequences():
  return np.random.default_rng(0).normal(size=(8, 2, 6, 3)).astype(np.float32)


def train(path, given):
  with Workdir(path) as workdir:
    return loop.train(workdir, given)


class Stopping(Batches):
  """Sends a signal while a batch is fetched."""

  def __init__(self, x, at):
    super().__init__(x)
    self.at = at

  def __next__(self):
    if self.next_index == self.at:
      os.kill(os.getpid(), signal.SIGTERM)
    return super().__next__()


def with_batches(given, batches):
  return given.__class__(**{**vars(given), 'training_batches': batches})


@pytest.mark.parametrize('at', [0, 3, 5])
def test_a_signal_at_any_step_is_kept(at, sequences, tmp_path):
  """At the first, in the middle, and at the last, where the run is simply finished."""
  # The loop asks for its own batches first, and then for one to initialise from.
  made = iter([Stopping(sequences, at), Batches(sequences)])
  stopped = train(tmp_path, with_batches(experiment(sequences), lambda: next(made)))
  assert stopped == (0 if at == 5 else signal.SIGTERM)
  assert checkpoint.find_good(tmp_path / 'checkpoints') == at + 1
  assert json.loads((tmp_path / 'receipt.json').read_text())['step'] == at + 1


def test_a_signal_during_the_last_save_loses_nothing(sequences, tmp_path, monkeypatch):
  close = checkpoint.Checkpoints.close

  def signalled(self):
    os.kill(os.getpid(), signal.SIGTERM)
    close(self)

  monkeypatch.setattr(checkpoint.Checkpoints, 'close', signalled)
  assert train(tmp_path, experiment(sequences)) == 0
  assert checkpoint.find_good(tmp_path / 'checkpoints') == 6
  assert (tmp_path / 'receipt.json').exists()


def test_an_error_seals_the_checkpoint_that_was_begun(sequences, tmp_path):
  class Failing(Batches):
    def __next__(self):
      if self.next_index == 4:
        raise DataError('record 4 is damaged')
      return super().__next__()

  given = with_batches(experiment(sequences, checkpoint_every=2), lambda: Failing(sequences))
  with pytest.raises(DataError):
    train(tmp_path, given)
  assert checkpoint.find_good(tmp_path / 'checkpoints') == 4


def test_too_many_bad_steps_keep_the_state_they_were_tried_on(sequences, tmp_path):
  sequences[3:] = np.nan
  with pytest.raises(NumericsError):
    train(tmp_path, experiment(sequences, num_steps=20, max_skipped=3, checkpoint_every=2))
  assert checkpoint.find_good(tmp_path / 'checkpoints') == 6
  manifests = [
    checkpoint.read_manifest(tmp_path / 'checkpoints' / str(step))
    for step in checkpoint.all_steps(tmp_path / 'checkpoints')
  ]
  # Steps 4 to 6 were skipped: the parameters are those after step 3.
  assert len({manifest['parameters_sha256'] for manifest in manifests[:2]}) == 1
  assert (tmp_path / 'debug' / 'step_6.npz').exists()


def test_other_data_are_refused_on_resume(sequences, tmp_path):
  train(tmp_path, with_config(experiment(sequences, num_steps=4), config('constant', 4)))
  given = with_config(experiment(sequences, num_steps=6), config('constant', 6))
  other = given.__class__(**{**vars(given), 'fingerprint': '1' * 16})
  with pytest.raises(DataError, match='fingerprint 1111111111111111') as error:
    train(tmp_path, other)
  assert error.value.exit_code == 3
  assert train(tmp_path, given) == 0


def config(schedule, num_steps, batch_size=2):
  return {
    'optimizer': {'schedule': schedule},
    'train': {'num_steps': num_steps, 'batch_size': batch_size},
  }


def with_config(given, values):
  return given.__class__(**{**vars(given), 'config': values})


def test_more_steps_continue_a_constant_schedule_only(sequences, tmp_path):
  for schedule in ('constant', 'cosine'):
    path = tmp_path / schedule
    short, long = (
      with_config(experiment(sequences, num_steps=n), config(schedule, n)) for n in (4, 6)
    )
    assert train(path, short) == 0
    if schedule == 'constant':
      assert train(path, long) == 0
      assert checkpoint.find_good(path / 'checkpoints') == 6
    else:
      with pytest.raises(ConfigError, match=r'train.num_steps=4, not 6'):
        train(path, long)


def test_a_mistake_before_the_first_checkpoint_does_not_lock_the_folder(sequences, tmp_path):
  with Workdir(tmp_path) as workdir:
    workdir.store_config(config('constant', 4, batch_size=9))
  assert train(tmp_path, with_config(experiment(sequences), config('constant', 6))) == 0
  assert json.loads((tmp_path / 'config.json').read_text())['train']['batch_size'] == 2


def test_a_damaged_config_is_named(sequences, tmp_path):
  train(tmp_path, experiment(sequences, num_steps=4))
  (tmp_path / 'config.json').write_text('{"train": ')
  with pytest.raises(ConfigError, match='config.json is damaged'):
    train(tmp_path, experiment(sequences, num_steps=4))


def test_the_best_checkpoint_outlives_newer_ones(sequences, tmp_path, monkeypatch):
  scores = iter([3.0, 1.0, 2.0, float('nan'), 4.0, 5.0])
  monkeypatch.setattr(records, 'make_validation', lambda *_: lambda _: (next(scores), {}))
  train(tmp_path, experiment(sequences, eval_every=1))
  assert checkpoint.all_steps(tmp_path / 'checkpoints') == [6, 5, 2]
  assert checkpoint.find_good(tmp_path / 'checkpoints', 'best') == 2
  assert checkpoint.find_good(tmp_path / 'checkpoints') == 6
  # A damaged best one gives way to the next best.
  for file in (tmp_path / 'checkpoints' / '2').rglob('*'):
    if file.is_file() and file.name != checkpoint.MANIFEST:
      file.write_bytes(b'')
  assert checkpoint.find_good(tmp_path / 'checkpoints', 'best') == 5


def test_huge_but_finite_gradients_are_skipped(sequences, tmp_path):
  sequences[2] = 1e18
  given = experiment(sequences)
  assert train(tmp_path, given) == 0
  assert json.loads((tmp_path / 'receipt.json').read_text())['skipped_steps'] == 1
