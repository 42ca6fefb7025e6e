"""Tables of whole sequences as Markdown: nats per step, and what an inference iteration costs.

Everything here is a function of `table.json` alone, as in `markdown`, which has those of frames.
"""

import math
import statistics
from collections.abc import Sequence
from typing import Any

from afslvm.evaluation.contract import LikelihoodResult
from afslvm.reproduction import markdown
from afslvm.reproduction.costs import Cost, costs, digits_of, number, words
from afslvm.reproduction.table import results
from afslvm.reproduction.tables import TABLES
from afslvm.training.progress import format_duration

Table = dict[str, Any]
PAPER, STRICT = ('test', 'validation'), ('test_all', 'validation_all')
LEGEND = (
  'Nats per step, lower is better; ≤ marks a bound. ± is the standard error over sequences (the '
  'mean over seeds of each seed’s), s.d. the standard deviation over seeds. KL(posterior ‖ prior) '
  'is per step. References, in italics, are fitted to the training split. The last table has what '
  'training cost, in CPU time that includes compilation and validations, and where each row stood '
  'once it had used as much as the first: in the middle of its own schedule, which favours the '
  'first. Time is compared between runs of one commit only. Checkpoints are the best by validation.'
)
# Of a result: a mean, and its standard error.
BY_SEQUENCE = ('sequence_mean_nats_per_step', 'sequence_mean_error')
BY_STEP = ('nats_per_step', 'nats_per_step_error')


def page(table: Table, has_legend: bool = True) -> str:
  """The whole table: title, legend, numbers, costs, the runs, and how to make it again."""
  commits = ', '.join(markdown.commit(name) for name in table['evaluated_at'])
  title = TABLES[table['table']].title
  return '\n'.join(
    [
      f'# {title} on {table["data"]["label"]}, scale {table["scale"]}',
      '',
      *(['Only a trial: after so few steps these numbers mean nothing.', ''] * _trial(table)),
      *([LEGEND, ''] * has_legend),
      *_parts(table),
      '',
      *_runs(table),
      '',
      *(f'`{command}`  ' for command in table['commands']),
      f'evaluated at commit {commits}.',
      '',
    ]
  )


def _trial(table: Table) -> bool:
  return markdown.is_trial(table)


def _parts(table: Table) -> list[str]:
  lines = []
  for part in (_paper, _strict):
    lines += [*part(table), '']
  lines += [*markdown.rendered(*costs(table)), '']
  return [*lines, *_sentences(table)]


# ---- numbers -------------------------------------------------------------------------------------


def _paper(table: Table) -> list[str]:
  """The AVF paper's convention, with its own numbers where they are of the same sequences."""
  column = table['columns'][PAPER[0]]
  published, factor = column['published'], column['published_factor']
  header = ['model', 'parameters', 'seeds', 'test, sequence mean', 'uncorrected', 'all steps']
  header += ['KL', 'validation, sequence mean']
  header += ['AVF paper, as published', '× T / (T − 1)'] if published else []
  lines = []
  for row in table['rows']:
    found = results(row, PAPER[0])
    cells = [
      *(_name(row), f'{row["parameters"]:,}', str(len(row['seeds'])) if row['seeds'] else ''),
      _value(found, BY_SEQUENCE),
      number(statistics.fmean(_numbers(found, 'uncorrected_sequence_mean'))),
      _value(found, BY_STEP),
      _kl(found),
      _value(results(row, PAPER[1]), BY_SEQUENCE),
    ]
    if published:
      paper = published.get(row.get('row'))
      cells += ['–'] * 2 if paper is None else [f'{paper:,.2f}', f'{factor * paper:,.2f}']
    lines.append(cells)
  why = column['why_not_published']
  note = [f'The AVF paper’s numbers are not beside this: {why}.'] if why else []
  return [
    _about(table, PAPER[0]),
    '',
    *markdown.rendered(header, lines),
    *([''] * bool(why)),
    *note,
  ]


def _strict(table: Table) -> list[str]:
  """All steps from the first one on, and the particle filter's bound."""
  kinds = [r.kind for row in table['rows'] for r in _others(row)[:1] if r.kind]
  header = ['model', 'test, all steps', 'sequence mean', 'KL']
  header += [f'{kinds[0].upper()}, all steps', 'sequence mean'] if kinds else []
  header += ['validation, all steps', 'sequence mean']
  lines = []
  for row in table['rows']:
    found, held_out = (results(row, name) for name in STRICT)
    cells = [_name(row), _value(found, BY_STEP), _value(found, BY_SEQUENCE), _kl(found)]
    if kinds:
      others = _others(row)
      cells += [_value(others, BY_STEP), _value(others, BY_SEQUENCE)] if others else ['', '']
    lines.append([*cells, _value(held_out, BY_STEP), _value(held_out, BY_SEQUENCE)])
  return [_about(table, STRICT[0]), '', *markdown.rendered(header, lines), *_untaught(table)]


def _untaught(table: Table) -> list[str]:
  """A word on rows whose training gave the first step, which is scored here."""
  rows = [words(row) for row in table['rows'] if row.get('first_scored', 0)]
  if not rows:
    return []
  return ['', f'Trained with the first step given, which is scored here: {"; ".join(rows)}.']


def _about(table: Table, name: str) -> str:
  column = table['columns'][name]
  return f'{column["num_sequences"]:,} sequences; {column["describe"]}.'


def _name(row: dict[str, Any]) -> str:
  return f'*{row["model"]}*' if markdown.is_reference(row) else words(row)


def _others(row: dict[str, Any]) -> list[LikelihoodResult]:
  """The bounds beside a model's own one, of every seed; none of a reference."""
  seeds = row.get('bounds', {}).get(STRICT[0], [])
  return [LikelihoodResult.from_json(values) for found in seeds for values in found]


def _numbers(found: Sequence[LikelihoodResult], name: str) -> list[float]:
  values = [getattr(result, name) for result in found]
  return [math.nan if value is None else value for value in values]


def _value(found: Sequence[LikelihoodResult], names: tuple[str, str]) -> str:
  """'≤ 6.773 ± 0.081, s.d. 0.006'."""
  values, errors = (_numbers(found, name) for name in names)
  mean, error = statistics.fmean(values), statistics.fmean(errors)
  digits = digits_of(mean)
  text = f'{"≤ " if found[0].kind != "exact" else ""}{number(mean)}'
  text += '' if math.isnan(error) else f' ± {error:.{digits}f}'
  return text + (f', s.d. {statistics.stdev(values):.{digits}f}' if len(values) > 1 else '')


def sequence_mean(found: Sequence[LikelihoodResult]) -> str:
  """Returns the mean over sequences of nats per step, as the tables show it."""
  return _value(found, BY_SEQUENCE)


def _kl(found: Sequence[LikelihoodResult]) -> str:
  there = [r.kl_nats_per_step for r in found if r.kl_nats_per_step is not None]
  return f'{statistics.fmean(there):.2f}' if there else ''


# ---- costs ---------------------------------------------------------------------------------------


def _sentences(table: Table) -> list[str]:
  """Returns a sentence about what one more inference iteration costs, if the rows tell."""
  models = {row['row']: row for row in table['rows'] if not markdown.is_reference(row)}
  counts = {name: int(name[3:]) for name in models if name[:3] == 'avf' and name[3:].isdigit()}
  base = models.get(TABLES[table['table']].baseline)
  if base is None or not counts:
    return []
  few, many = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
  step = Cost.of(base).cpu_milliseconds
  took = {name: Cost.of(models[name]).cpu_milliseconds for name in (few, many)}
  if step is None or None in took.values():
    return []
  iterations = f'{counts[few]} inference iteration{"s" * (counts[few] > 1)}'
  factor = f'{took[few] / step:.1f}'
  sentence = f'Training with {iterations} takes {factor} times the CPU time of {words(base)}'
  if many != few:
    more = (took[many] - took[few]) / (counts[many] - counts[few])
    sentence += f', each more {more / step:.1f} times ({more:.0f} ms per step)'
  return [f'{sentence}.', '']


# ---- runs ----------------------------------------------------------------------------------------


def _runs(table: Table) -> list[str]:
  """Every seed, and what it took."""
  header = ['model', 'seed', 'test, sequence mean', 'test, all steps from 0', 'best of steps']
  header += ['batch', 'time', 'CPU time', 'on', 'commit', 'config']
  lines = []
  for row in table['rows']:
    lines += [_run(row, index, seed) for index, seed in enumerate(row['seeds'])]
  return markdown.rendered(header, lines)


def _run(row: dict[str, Any], index: int, seed: int) -> list[str]:
  wall, cpu = row['wall_seconds'][index], row['cpu_seconds'][index]
  overridden = ''.join(f' --config.{value}' for value in row['overrides'])
  return [
    *(words(row), str(seed)),
    _value([results(row, PAPER[0])[index]], BY_SEQUENCE),
    _value([results(row, STRICT[0])[index]], BY_STEP),
    f'{row["best_steps"][index]:,} of {row["steps"]:,}',
    str(row['batch_size']),
    *('' if seconds is None else format_duration(seconds) for seconds in (wall, cpu)),
    ', '.join(row['devices']),
    markdown.commit(row['commits'][index]),
    f'`{row["config"]}{overridden}`',
  ]
