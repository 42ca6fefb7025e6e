"""Values that the first batch decides: on any number of devices, once, and never again."""

import signal

import jax
import numpy as np
import pytest

from afslvm.training import checkpoint, distributed, loop, program, state
from afslvm.training.workdir import Workdir
from tests import constructors
from tests.training import test_endings
from tests.training.test_step import Batches, experiment, on_devices

pytestmark = pytest.mark.usefixtures('kept_programs')

DEVICES_SCRIPT = """
import functools, jax, numpy as np
from afslvm.training import distributed, program
from tests import constructors
from tests.training.test_step import Batches, experiment
x = np.random.default_rng(0).uniform(size=(1, 4, 5, *constructors.VIDEO)).astype(np.float32)
x[0] += np.arange(4, dtype=np.float32).reshape(4, 1, 1, 1, 1)  # rows differ more than frames
model = constructors.videoflow(frame='flow_last', sees='both')
given = experiment(x, model, batch_size=4)
expected = None
for count in (1, 2, 4):
  mesh = distributed.make_mesh(jax.devices()[:count])
  params = program.first_state(given, program.initial_batch(given, mesh), mesh).params
  params = jax.tree.map(np.asarray, params)
  expected = expected or params
  close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
  jax.tree.map(close, params, expected)
  print(count, float(params['glow']['level_0']['norm']['shift'].mean()))
"""


@pytest.mark.slow
def test_devices_share_the_statistics_of_the_first_batch(environment):
  """Of the global batch: each device by itself would have those of its own rows."""
  done = on_devices(4, environment, '-c', DEVICES_SCRIPT)
  assert done.returncode == 0, done.stderr
  counts, means = zip(*(line.split() for line in done.stdout.splitlines()), strict=True)
  assert counts == ('1', '2', '4')
  np.testing.assert_allclose(np.array(means, float), 2.0, atol=0.05)


@pytest.fixture(scope='module')
def sequences():
  rng = np.random.default_rng(0)
  x = rng.uniform(size=(8, 2, 5, *constructors.VIDEO)).astype(np.float32)
  return x * np.linspace(1, 3, 8, dtype=np.float32).reshape(8, 1, 1, 1, 1, 1)


def given(sequences, **train):
  model = constructors.videoflow(map_=constructors.glow(levels=1, depth=2))
  return experiment(sequences, model, **{'num_steps': 4, 'checkpoint_every': 2, **train})


def test_they_are_computed_once(sequences, tmp_path):
  """What is restored scores another batch as what was saved does, to the last bit."""
  made, mesh = given(sequences), distributed.make_mesh(jax.devices()[:1])
  first = program.first_state(made, program.initial_batch(made, mesh), mesh)
  step, batches = program.compiled_step(made, mesh), made.training_batches()
  trained = jax.tree.map(jax.numpy.copy, first)
  for _ in range(3):
    trained, _ = step(trained, distributed.to_devices(next(batches), mesh))
  other = jax.numpy.asarray(10 * sequences[7] - 3)
  score = jax.jit(lambda state: made.model.apply({'params': state.params}, other).elbo)
  before = score(trained)
  assert np.all(before[:, 2:] != score(first)[:, 2:])
  saved = checkpoint.Checkpoints(tmp_path / 'checkpoints', 2)
  saved.save(trained, {'iterator': {}})
  saved.close()
  target = state.abstract_state(
    made.model, made.train, made.optimizer, made.length, distributed.replicated(mesh)
  )
  restored, _ = checkpoint.Checkpoints(tmp_path / 'checkpoints', 2).restore(target)
  np.testing.assert_array_equal(score(restored), before)
  jax.tree.map(np.testing.assert_array_equal, restored.params, trained.params)


@pytest.mark.slow
@pytest.mark.thorough  # what is restored is tested above; that runs go on, in test_resume
def test_a_run_that_goes_on_does_not_initialise_again(sequences, tmp_path):
  """Stopped after two steps, it ends with the same parameters as one that was not."""
  straight, stopped = tmp_path / 'straight', tmp_path / 'stopped'
  assert train(straight, given(sequences)) == 0
  made = iter([test_endings.Stopping(sequences, 1), Batches(sequences)])
  first = test_endings.with_batches(given(sequences), lambda: next(made))
  assert train(stopped, first) == signal.SIGTERM
  assert checkpoint.find_good(stopped / 'checkpoints') == 2
  assert train(stopped, given(sequences)) == 0
  hashes = [
    checkpoint.read_manifest(folder / 'checkpoints' / '4')['parameters_sha256']
    for folder in (straight, stopped)
  ]
  assert hashes[0] == hashes[1]


def train(path, made):
  with Workdir(path) as workdir:
    return loop.train(workdir, made)
