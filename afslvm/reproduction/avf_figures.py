"""Figures 3 and 4 of the AVF paper, from runs of its tables."""

import functools
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from afslvm.errors import ConfigError
from afslvm.evaluation.contract import LikelihoodResult
from afslvm.reproduction import folders, plan
from afslvm.reproduction.plan import PlannedRun
from afslvm.reproduction.tables import Column, Table
from afslvm.visualization import figures
from afslvm.visualization.events import Event

ITERATIONS = (0, 1, 2, 3, 5, 8)
SHOWN_STEPS = 24  # of figure 4, where the event doesn't say
AS_TRAINED = 'evaluated with as many as trained'


def run_folders(
  workdir: pathlib.Path, table: Table, row: str = ''
) -> dict[tuple[str, int], pathlib.Path]:
  """The run with the lowest seed of every row that is there, or of one row.

  Raises:
    ConfigError: there is none.
  """
  pairs = plan.found(workdir, [row] if row else table.rows)
  lowest = {name: min(seed for other, seed in pairs if other == name) for name, _ in pairs}
  if not lowest:
    raise ConfigError(
      f'{workdir} holds no run {row or "ROW"}-SEED; train it: python launch/reproduce.py '
      f'--table={table.name} --rows={row or "ROW"} --workdir={workdir} --dataset=NAME'
    )
  return {pair: workdir / plan.folder_name(*pair) for pair in lowest.items()}


# ---- figure 3 ------------------------------------------------------------------------------------


def iterations(run: PlannedRun) -> int:
  """Inference iterations that a run was trained with; 0 of direct inference."""
  section = run.config['model']
  while 'inference' not in section and 'base' in section:
    section = section['base']
  return section.get('inference', {}).get('num_iterations', 0)


def no_iterations(workdir: pathlib.Path, table: Table) -> ConfigError:
  """What to say where no run can be shown."""
  rows = ','.join(row for row in table.rows if 'avf' in row) or 'avf1'
  return ConfigError(
    f'{workdir} holds no run of iterative inference; train one: python launch/reproduce.py '
    f'--table={table.name} --rows={rows} --workdir={workdir} --dataset=NAME'
  )


def columns(run: PlannedRun) -> list[Column]:
  """Of a run: its free energy with `ITERATIONS` of inference, and with as many as trained."""
  trained = iterations(run)
  counts = sorted({*ITERATIONS, trained})
  return [
    Column(str(n), 'test', rules='avf_paper', iterations=None if n == trained else n)
    for n in counts
  ]


def free_energies(found: Sequence[tuple[PlannedRun, list[Column]]]) -> tuple[bytes, bytes]:
  """Free energy against iterations, a line for each run, as SVG for light and dark pages."""
  curves: dict[str, list[tuple[int, float, float]]] = {}
  as_trained: dict[str, list[tuple[int, float, float]]] = {}
  for run, asked in found:
    points = [_point(run, column) for column in asked]
    curves[run.table.rows[run.row] or run.label] = points
    if match := re.fullmatch(r'(\w*)avf\d+', run.row):
      own = [point for point in points if point[0] == iterations(run)]
      as_trained.setdefault(match[1], []).extend(own)
  for prefix, points in as_trained.items():
    if len(points) > 1:
      model = prefix.strip('_').upper()
      curves[f'{model}, {AS_TRAINED}' if model else AS_TRAINED] = points
  return figures.free_energy_against_iterations(curves)


def _point(run: PlannedRun, column: Column) -> tuple[int, float, float]:
  evaluation = folders.evaluation(run, column)
  if evaluation is None:
    raise ConfigError(
      f'{run.path} has no evaluation with {column.name} iterations; make it: python '
      f'launch/evaluate.py --workdir={run.path} --protocol={column.rules} '
      f'--inference_iterations={column.name}'
    )
  leading = LikelihoodResult.from_json(evaluation['results'][0]).leading
  return int(column.name), leading.value, leading.standard_error


# ---- figure 4 ------------------------------------------------------------------------------------


def choose(source: Any, event: Event, seed: int) -> np.ndarray:
  """The beginning of a random sequence, [1, T, *event] as stored."""
  wanted = event.shown_steps or SHOWN_STEPS
  lengths = source.lengths
  index = np.arange(len(source))
  if lengths is not None:
    index = np.flatnonzero(lengths >= min(wanted, int(lengths.max())))
  return source[int(np.random.default_rng(seed).choice(index))][None, :wanted]


def predictions(model: Any, variables: Any, x: np.ndarray, seed: int) -> dict[str, np.ndarray]:
  """What a model expects of every step before it has seen it, and what it makes of it after.

  Args:
    model: with latent variables, without flows.
    variables: its variables.
    x: [1, T, *event].
    seed: of the posterior's draws, which lead from step to step.

  Returns:
    'data', 'prediction' (decoded from the prior's mean) and 'reconstruction' (from the
    posterior's), each [T, *event].

  Raises:
    ConfigError: the model has flows, or no latent variables.
  """
  if model.core is not model or not hasattr(model, 'likelihood'):
    raise ConfigError('--figure=avf_4 is of latent variable models without flows; use af_4')
  apply = functools.partial(model.apply, variables)
  prepared = apply(x, np.ones(x.shape[:2], bool), method='prepare')
  state = apply(1, method='initial_state')

  @jax.jit
  def one(state, prepared_t, key):
    return model.apply(variables, state, prepared_t, method=_step, rngs={'sample': key})

  means = []
  for t in range(x.shape[1]):
    prepared_t = jax.tree.map(lambda value, t=t: value[:, t], prepared)
    state, mean = one(state, prepared_t, jax.random.fold_in(jax.random.key(seed), t))
    means.append(jax.device_get(mean))
  predicted, reconstructed = (np.concatenate(values) for values in zip(*means, strict=True))
  return {'data': np.asarray(x[0]), 'prediction': predicted, 'reconstruction': reconstructed}


def _step(model: Any, state: Any, prepared_t: Any):
  """Returns the next state, and the means of x_t that prior and posterior lead to."""
  following, terms = model.advance(state, prepared_t)

  def mean(latent):
    features = model.emission(state.latent, latent.loc, prepared_t.seen, prepared_t.mask)
    return model.likelihood.predict(features)

  return following, (mean(terms.latents.prior), mean(terms.latents.posterior))
