"""A training step that was refused, once more: what in it is no number, and where it arises."""

import pathlib
import re
import traceback
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import checkify

from afslvm.errors import ConfigError, DataError
from afslvm.training import randomness
from afslvm.training.checkpoint import leaf_paths
from afslvm.training.experiment import Batch
from afslvm.training.gradients import Gradient
from afslvm.training.state import TrainState
from afslvm.types import PyTree

PACKAGE = str(pathlib.Path(__file__).resolve().parents[1])


class Replay(NamedTuple):
  """What a step computes again.

  Attributes:
    step: its number, from 1.
    metrics: of the loss, by name, and the norm of the gradient.
    data: arrays of the batch by name, of which {'shape', 'dtype', 'low', 'high', 'bad'}; `bad` is
      the number of non-finite values, `low` and `high` are of the others, None where there is none.
    parameters: number of non-finite values by path, where there are any.
    gradient: the same of the gradient.
    origin: the first operation that gave NaN, and the line it came from; '' if none did.
  """

  step: int
  metrics: dict[str, float]
  data: dict[str, dict[str, Any]]
  parameters: dict[str, int]
  gradient: dict[str, int]
  origin: str


def replay(gradient: Gradient, state: TrainState, batch: Batch, step: int, seed: int) -> Replay:
  """Computes loss and gradient of a step with the same key as in training.

  Every operation is checked for NaN, so it is slow; sums may round in another order.

  Args:
    gradient: from `make_gradient`.
    state: that the step was tried on.
    batch: of the step.
    step: its number, from 1.
    seed: of the run.
  """

  def compute(params, carried, batch):
    index = jnp.int32(step - 1)
    key = jax.random.fold_in(randomness.stream(seed, 'training'), index)
    outcome, grads = gradient(params, carried, batch, key, index)
    return outcome.metrics, grads

  checked = jax.jit(checkify.checkify(compute, errors=checkify.nan_checks))
  error, (metrics, grads) = checked(state.params, state.carried, batch)
  norm = jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(grads)))
  return Replay(
    step=step,
    metrics={name: float(value) for name, value in {**metrics, 'grad_norm': norm}.items()},
    data={name: _about(np.asarray(value)) for name, value in batch.items()},
    parameters=_bad(state.params),
    gradient=_bad(grads),
    origin=_origin(error.get_exception()),
  )


def _about(values: np.ndarray) -> dict[str, Any]:
  finite = values[np.isfinite(values)]
  ends = (finite.min().item(), finite.max().item()) if finite.size else (None, None)
  shape = list(values.shape)
  about = {'shape': shape, 'dtype': str(values.dtype), 'low': ends[0], 'high': ends[1]}
  return {**about, 'bad': values.size - finite.size}


def _bad(tree: PyTree) -> dict[str, int]:
  counts = {path: int(jnp.sum(~jnp.isfinite(leaf))) for path, leaf in leaf_paths(tree).items()}
  return {path: count for path, count in counts.items() if count}


def _origin(error: Any) -> str:
  """What checkify found, at the innermost line of this library that led to it."""
  if error is None:
    return ''
  operation = str(error).partition('\n')[0].removesuffix('.')
  found = getattr(error, 'traceback_info', None)  # of checkify's own errors
  frames = traceback.extract_tb(found.as_python_traceback()) if found is not None else []
  own = [frame for frame in frames if frame.filename.startswith(PACKAGE)]
  if not own:
    return operation
  file = pathlib.Path(own[-1].filename).relative_to(pathlib.Path(PACKAGE).parent).as_posix()
  return f'{operation}, from {file}:{own[-1].lineno} ({own[-1].name})'


def read_batch(folder: pathlib.Path, step: int = 0) -> tuple[int, Batch]:
  """The batch that training left in `folder`, of all processes together, and its step.

  Args:
    folder: `debug` in a run.
    step: which one; 0 for the last.

  Raises:
    ConfigError: there is none.
    DataError: it is damaged.
  """
  found: dict[int, list[tuple[int, pathlib.Path]]] = {}
  for path in folder.glob('step_*.npz'):
    if named := re.fullmatch(r'step_(\d+)(?:_process_(\d+))?', path.stem):
      found.setdefault(int(named[1]), []).append((int(named[2] or 0), path))
  if not found:
    raise ConfigError(f'{folder} holds no batch: training was not ended by non-finite steps')
  step = step or max(found)
  if step not in found:
    raise ConfigError(
      f'--step={step} is not in {folder}, only {", ".join(map(str, sorted(found)))}'
    )
  processes, paths = zip(*sorted(found[step]), strict=True)
  shares = [_read(path) for path in paths]
  are_alike = all(share.keys() == shares[0].keys() for share in shares)
  if list(processes) != list(range(len(shares))) or not are_alike:
    raise DataError(f'{folder}: step {step} lacks the batch of a process, or has that of two runs')
  return step, {name: np.concatenate([share[name] for share in shares]) for name in shares[0]}


def _read(path: pathlib.Path) -> Batch:
  try:
    with np.load(path, allow_pickle=False) as stored:
      batch = {name: stored[name] for name in stored.files if name != 'step'}
    if batch.keys() - {'reset'} != {'x', 'mask'}:
      raise ValueError('it holds no batch')
    return batch
  except Exception as error:  # NumPy and zipfile raise many kinds for damaged files
    raise DataError(f'{path} is damaged ({error}); train again to that step') from None
