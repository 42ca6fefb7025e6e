"""What came of a sweep: one table over its grid, as text, Markdown and JSON."""

import json
import pathlib
import shlex
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from afslvm import files
from afslvm.evaluation import store
from afslvm.evaluation.contract import LikelihoodResult, describe, footnotes
from afslvm.reproduction import folders, markdown
from afslvm.reproduction.grid import short_names
from afslvm.reproduction.sweep import SweepRun
from afslvm.training import checkpoint

JSON, MARKDOWN = 'results.json', 'results.md'


def outcome(run: SweepRun) -> dict[str, Any]:
  """Returns what a run's folder holds, as plain values; evaluations of its best checkpoint only."""
  values = {
    'name': run.name,
    'settings': run.settings,
    'seed': run.config['seed'],
    'overrides': list(run.overrides),
    'bound': run.bound,
    'question': run.question,
    'status': 'trained',
    'test': [],
  }
  if not folders.is_trained(run):
    diverged = any((run.path / 'debug').glob('step_*.npz'))
    return {**values, 'status': 'not finite' if diverged else 'not finished'}
  directory, receipt = run.path / 'checkpoints', folders.receipt(run)
  best = checkpoint.read_manifest(directory / str(checkpoint.find_good(directory, 'best'))) or {}
  score = best.get(checkpoint.METRIC)
  return {
    **values,
    'status': 'trained' if score is not None else 'not finite',
    checkpoint.METRIC: score,
    'best_step': best.get('step'),
    'steps': receipt['step'],
    **{key: receipt.get(key) for key in ('parameters', 'steps_per_second', 'git_commit')},
    'test': _test_results(run, best),
  }


def _test_results(run: SweepRun, best: dict[str, Any]) -> list[dict[str, Any]]:
  """The model's own results on the test split, of this checkpoint and these data."""
  found = []
  for report in store.read_all(run.path):
    identity = report.get('identity', {})
    scored = identity.get('checkpoint', {}).get('parameters_sha256')
    if (
      scored == best.get('parameters_sha256')
      and identity.get('data_fingerprint') == run.data.fingerprint
      and identity.get('contract', {}).get('split') == 'test'
    ):
      found.append(report['results'][0])  # other bounds and the references stand behind it
  return found


def best_of(found: Sequence[dict[str, Any]]) -> tuple[dict[str, str] | None, str]:
  """The settings with the lowest validation, a mean over seeds, or None and why there is none.

  Settings of which a seed is missing or not finite are left out.
  """
  groups = [g for g in by_settings(found) if all(run['status'] == 'trained' for run in g)]
  if not groups:
    return None, 'no settings have all their seeds trained'
  first, *others = (run['question'] for group in groups for run in group)
  for other in others:
    for key, value in other.items():
      if value != first.get(key):
        return None, (
          f'validation does not compare, {key} is {first.get(key)} and {value}; '
          'see launch/evaluate.py'
        )
  best = min(groups, key=lambda group: statistics.fmean(_scores(group)))
  return best[0]['settings'], ''


def _scores(runs: Sequence[dict[str, Any]]) -> list[float]:
  return [run[checkpoint.METRIC] for run in runs]


def by_settings(found: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
  """Runs that differ in their seed only, in the order of the grid."""
  groups: dict[str, list[dict[str, Any]]] = {}
  for values in found:
    groups.setdefault(json.dumps(values['settings']), []).append(values)
  return list(groups.values())


class _Test(NamedTuple):
  """A column: results that answer one question with the same draws."""

  heading: str
  key: str
  about: str


def _key(result: dict[str, Any]) -> str:
  own = LikelihoodResult.from_json(result)
  counts = own.num_sequences, own.num_samples, own.seed
  return json.dumps([own.contract.to_dict(), counts])


def _tests(found: Sequence[dict[str, Any]]) -> list[_Test]:
  results = {_key(result): result for values in found for result in values['test']}
  columns = []
  for index, (key, values) in enumerate(results.items(), 1):
    result = LikelihoodResult.from_json(values)
    heading = f'test ({index})' if len(results) > 1 else 'test'
    count = f'{result.num_sequences:,} sequences, samples: {result.num_samples}'
    columns.append(_Test(heading, key, f'{heading}: {describe(result.contract)}; {count}'))
  return columns


def table(values: dict[str, Any]) -> tuple[list[str], list[list[str]], list[str]]:
  """Header, rows (one for each point of the grid) and what is to be said below them."""
  found, (unit, size) = values['runs'], (values['unit'], values['dims_per_unit'])
  names, tests = short_names(values['grid']), _tests(found)
  header = [*names.values(), 'seeds', 'parameters', f'validation {unit}', '']
  header += [*(test.heading for test in tests), 'steps/s']
  rows = []
  for group in by_settings(found):
    trained = [run for run in group if run['status'] == 'trained']
    scores = [size * score for score in _scores(trained)]
    speeds = [run['steps_per_second'] for run in trained]
    limit = '' if group[0]['bound'] == 'exact' else '≤ '
    is_best = values['best'] is not None and group[0]['settings'] == values['best']
    others = sorted({run['status'] for run in group} - {'trained'})
    rows.append(
      [
        *group[0]['settings'].values(),
        f'{len(trained)} of {len(group)}' if others else str(len(trained)),
        f'{trained[0]["parameters"]:,}' if trained else '–',
        ', '.join([*([limit + _mean(scores, 3)] if scores else []), *others]),
        'best' if is_best else '',
        *(_test_cell(trained, test) for test in tests),
        f'{statistics.fmean(speeds):.1f}' if speeds else '–',
      ]
    )
  told = footnotes(run['bound'] for run in found)
  return header, rows, [*(test.about for test in tests), *told, _conclusion(values)]


def _test_cell(trained: Sequence[dict[str, Any]], test: _Test) -> str:
  results = [
    LikelihoodResult.from_json(result)
    for run in trained
    for result in run['test']
    if _key(result) == test.key
  ]
  if not results:
    return '–'
  limit = '' if results[0].kind == 'exact' else '≤ '
  return limit + _mean([result.leading.value for result in results], 3)


def _mean(values: Sequence[float], digits: int) -> str:
  """'2.345', of several '2.345 s.d. 0.012'."""
  spread = f' s.d. {statistics.stdev(values):.{digits}f}' if len(values) > 1 else ''
  return f'{statistics.fmean(values):.{digits}f}{spread}'


def _conclusion(values: dict[str, Any]) -> str:
  if values['best'] is None:
    return f'no best: {values["why_no_best"]}'
  words = ' '.join(f'{key}={value}' for key, value in values['best'].items())
  groups = by_settings(values['runs'])
  missing = sum(any(run['status'] != 'trained' for run in group) for group in groups)
  left_out = f'; left out: {missing} of {len(groups)}, which are not all trained' if missing else ''
  return f'best by validation: {words or "the config as it is"}{left_out}'


def write(
  folder: pathlib.Path, runs: Sequence[SweepRun], about: dict[str, Any], command: Sequence[str]
) -> str:
  """Writes results.json and results.md into the folder of a sweep and returns the table as text.

  Args:
    folder: of the sweep.
    runs: planned, trained or not.
    about: 'grid', 'unit', 'dims_per_unit' and what else is to be kept.
    command: that made it.
  """
  found = [outcome(run) for run in runs]
  best, why = best_of(found)
  values = {**about, 'best': best, 'why_no_best': why, 'runs': found, 'command': list(command)}
  header, rows, notes = table(values)
  page = [f'# {about["config"]}', '', *markdown.rendered(header, _bold_best(rows)), '']
  page += [*(f'{note}  ' for note in notes), '', f'`{shlex.join(command)}`', '']
  folder.mkdir(parents=True, exist_ok=True)
  files.write_json(folder / JSON, values)
  (folder / MARKDOWN).write_text('\n'.join(page), encoding='utf-8')
  widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
  lines = ['  '.join(map(str.ljust, row, widths)).rstrip() for row in [header, *rows]]
  return '\n'.join([*lines, *notes])


def _bold_best(rows: Sequence[list[str]]) -> list[list[str]]:
  return [[f'**{cell}**' if 'best' in row and cell else cell for cell in row] for row in rows]
