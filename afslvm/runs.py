"""Trained runs: a working directory's config and verified checkpoint, as objects again."""

import dataclasses
import pathlib
from typing import Any

import jax
from ml_collections import ConfigDict

from afslvm import build, files
from afslvm.errors import CheckpointError, ConfigError
from afslvm.training import checkpoint, distributed, state


@dataclasses.dataclass(frozen=True)
class TrainedRun:
  """A working directory with a verified checkpoint.

  Attributes:
    path: of the run.
    parts: what its config describes.
    checkpoint: 'step', 'parameters_sha256', 'validation_nats_per_dim', 'selected_by'.
  """

  path: pathlib.Path
  parts: build.Parts
  checkpoint: dict[str, Any]

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
    variables = build.abstract_variables(self.parts.model, self.parts.data['length'])
    return build.count_parameters(variables)

  def restore(self) -> tuple[state.TrainState, Any]:
    """The whole training state, and where in the data it was."""
    settings = self.parts.train, self.parts.optimizer
    mesh = distributed.make_mesh(jax.local_devices()[:1])
    target = state.abstract_state(
      self.parts.model,
      *settings,
      self.parts.data['length'],
      distributed.replicated(mesh),
      self.parts.train.batch_size if self.parts.data.get('stateful') else 0,
      self.parts.objective.is_online,
    )
    return checkpoint.restore_step(self.path / 'checkpoints', self.checkpoint['step'], target)


def open_run(workdir: str, which: str = 'best', data_dir: str = '') -> TrainedRun:
  """Opens a run of `launch/train.py` at its 'best' or 'latest' checkpoint, or at a step.

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
  except (ValueError, AttributeError) as error:
    raise ConfigError(f'{path / "config.json"} is damaged ({error}); restore it') from None
  directory = path / 'checkpoints'
  step = checkpoint.find_good(directory, 'best' if which == 'best' else 'latest')
  if step is None:
    raise CheckpointError(f'{directory} holds no complete checkpoint yet; train first')
  if which not in ('best', 'latest'):
    step = _step_called(which, directory)
  manifest = checkpoint.read_manifest(directory / str(step)) or {}
  about = {key: manifest.get(key) for key in ('step', 'parameters_sha256', checkpoint.METRIC)}
  return TrainedRun(path, build.parts(config), {**about, 'selected_by': which})


def _step_called(which: str, directory: pathlib.Path) -> int:
  steps = checkpoint.all_steps(directory)
  if not which.isdigit() or int(which) not in steps:
    there = ', '.join(map(str, steps))
    raise ConfigError(f'--checkpoint={which} is not there; use best, latest or one of {there}')
  what = checkpoint.problem(directory / which)
  if what:
    raise CheckpointError(f'checkpoint {which} is {what}; use --checkpoint=best')
  return int(which)
