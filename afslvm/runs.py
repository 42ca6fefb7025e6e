"""Trained runs: a working directory's config and verified checkpoint, as objects again."""

import contextlib
import dataclasses
import functools
import logging
import os
import pathlib
import signal
from collections.abc import Iterator, Mapping
from typing import Any

import jax
from ml_collections import ConfigDict

from afslvm import building, files, own_arrays, run_evaluation
from afslvm.build_data import Splits
from afslvm.errors import CheckpointError, ConfigError
from afslvm.models.base import SequenceModel
from afslvm.training import checkpoint, distributed, state


@dataclasses.dataclass(frozen=True)
class Run:
  """A working directory with a verified checkpoint.

  Attributes:
    path: of the run.
    built: what its config describes.
    checkpoint: 'step', 'parameters_sha256', 'validation_nats_per_dim', 'selected_by'.
  """

  path: pathlib.Path
  built: building.Built
  checkpoint: dict[str, Any]

  score, latents, generate = own_arrays.score, own_arrays.latents, own_arrays.generate
  evaluate = run_evaluation.evaluate

  @property
  def model(self) -> SequenceModel:
    """The sequence model; `variables` are its variables."""
    return self.built.model

  @property
  def config(self) -> dict[str, Any]:
    """The whole config as plain values."""
    return self.built.config

  @property
  def dataset(self) -> Any:
    """The TFDS builder of the data."""
    return self.built.dataset

  @property
  def data(self) -> Splits:
    """The sequences: `data['test'][0]` is x [T, *event], as it is stored."""
    return self.built.data

  @property
  def label(self) -> str:
    """The name of the model in tables, such as 'SLVM + 1-AF'."""
    return building.label(self.config['model'])

  @functools.cached_property
  def variables(self) -> dict[str, Any]:
    """The variables to evaluate (the moving average, where there is one), on the first device.

    Raises:
      CheckpointError: the checkpoint is of another model.
    """
    return self.restore()[0].evaluated

  def parameters(self) -> Any:
    """The trained parameters themselves, the moving average aside."""
    return self.restore()[0].params

  def num_parameters(self) -> int:
    """Trained numbers."""
    variables = building.abstract_variables(self.model, self.built.length)
    return building.count_parameters(variables)

  def restore(self) -> tuple[state.TrainState, Any]:
    """The whole training state, and where in the data it was."""
    settings = self.built.train, self.built.optimizer
    mesh = distributed.make_mesh(jax.local_devices()[:1])
    target = state.abstract_state(
      self.model,
      *settings,
      self.built.length,
      distributed.replicated(mesh),
      self.built.train.batch_size if self.built.stateful else 0,
      self.built.objective.is_online,
    )
    with _quiet_orbax():
      return checkpoint.restore_step(self.path / 'checkpoints', self.checkpoint['step'], target)


def train(
  config: Any, workdir: str | os.PathLike, overrides: Mapping[str, Any] | None = None
) -> Run:
  """Trains to the budget, from the newest good checkpoint if there is one, and opens the run.

  Args:
    config: as of `build`, or what that returns.
    workdir: folder of the run.
    overrides: other values for some keys of the config, {'train.num_steps': 100}.

  Raises:
    ConfigError: anything in the config that can't be used, or a folder that holds another run.
    DataError: the data are missing or damaged.
    NumericsError: too many non-finite steps in a row.
    KeyboardInterrupt: training was stopped and saved; the same call continues it.
  """
  from afslvm.training.loop import train as train_loop
  from afslvm.training.workdir import Workdir

  if not isinstance(config, building.Built):
    config = building.build(config, overrides)
  elif overrides:
    config = building.build(config.config, overrides)
  with Workdir(workdir) as folder:
    stopped_by = train_loop(folder, building.experiment(config))
  if stopped_by == signal.SIGINT:
    raise KeyboardInterrupt('training was stopped and saved; the same call continues it')
  if stopped_by:
    raise SystemExit(128 + stopped_by)
  return load_run(workdir, data_dir=config.config['data'].get('data_dir', ''))


def load_run(workdir: str | os.PathLike, which: str = 'best', data_dir: str = '') -> Run:
  """Opens a trained run at its 'best' or 'latest' checkpoint, or at a step ('500').

  The classes that `config.json` names by a path ('my_package.my_module:MyClass') are imported, so
  that code of that name is run: open runs of people you trust.

  Args:
    workdir: folder of the run.
    which: the checkpoint.
    data_dir: where the data lie, if they have moved since training.

  Raises:
    ConfigError: there is no run, or no such checkpoint.
    CheckpointError: no checkpoint verifies.
  """
  path = pathlib.Path(workdir).expanduser()
  try:
    config = ConfigDict(files.read_json(path / 'config.json'))
    if data_dir:
      config.data.data_dir = data_dir
  except OSError:
    raise ConfigError(
      f'--workdir={workdir} holds no run; train one: '
      f'python launch/train.py --config=configs/smoke.py --workdir={workdir}'
    ) from None
  except (ValueError, AttributeError, TypeError) as error:
    raise ConfigError(f'{path / "config.json"} is damaged ({error}); restore it') from None
  directory = path / 'checkpoints'
  step = checkpoint.find_good(directory, 'best' if which == 'best' else 'latest')
  if step is None:
    raise CheckpointError(f'{directory} holds no complete checkpoint yet; train first')
  if which not in ('best', 'latest'):
    step = _step_called(str(which), directory)
  manifest = checkpoint.read_manifest(directory / str(step)) or {}
  about = {key: manifest.get(key) for key in ('step', 'parameters_sha256', checkpoint.METRIC)}
  return Run(path, building.build(config), {**about, 'selected_by': which})


@contextlib.contextmanager
def _quiet_orbax() -> Iterator[None]:
  """Silences warnings about options that reading doesn't need; errors are still logged."""
  logger = logging.getLogger('absl')
  before = logger.level
  logger.setLevel(logging.ERROR)
  try:
    yield
  finally:
    logger.setLevel(before)


def _step_called(which: str, directory: pathlib.Path) -> int:
  steps = checkpoint.all_steps(directory)
  if not which.isdigit() or int(which) not in steps:
    there = ', '.join(map(str, steps))
    raise ConfigError(f'--checkpoint={which} is not there; use best, latest or one of {there}')
  what = checkpoint.problem(directory / which)
  if what:
    raise CheckpointError(f'checkpoint {which} is {what}; use --checkpoint=best')
  return int(which)
