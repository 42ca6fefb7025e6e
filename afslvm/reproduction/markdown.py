"""A table's values as Markdown, for people. Everything here is a function of `table.json` alone."""

import math
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from afslvm.evaluation import published
from afslvm.evaluation.contract import LikelihoodResult
from afslvm.reproduction import claims
from afslvm.reproduction.costs import costs, words
from afslvm.reproduction.table import results
from afslvm.reproduction.tables import AF_1, TABLES
from afslvm.training.progress import format_duration

Table = dict[str, Any]
# Columns of each part of the table: held out, train.
COMMON, OWN = ('test', 'train'), ('test_context3', 'train_context3')
PAPER, PAPER_OWN = ('paper', 'train'), ('paper_context3', 'train_context3')
CLAIMED = (OWN, COMMON)
LEGEND = (
  'Nats and bits per dimension, lower is better; ≤ marks a bound. ± is the standard error over '
  'sequences (the mean over seeds of each seed’s), s.d. the standard deviation over seeds. Gap: '
  'held-out less train. KL(posterior ‖ prior) in nats per step, of held-out sequences. References, '
  'in italics, are fitted to the training split.'
)


class Summary(NamedTuple):
  """Of the seeds of one model in one column.

  Attributes:
    mean: nats/dim.
    standard_error: over sequences, the mean of the seeds' own: all see the same sequences, so more
      seeds don't make it smaller.
    spread: standard deviation over seeds (n - 1), None of one seed.
    bound: whether the value is an upper limit.
  """

  mean: float
  standard_error: float
  spread: float | None
  bound: bool


def summarise(found: Sequence[LikelihoodResult]) -> Summary:
  """At least one result of one model, one per seed."""
  values = [result.nats_per_dim for result in found]
  return Summary(
    mean=statistics.fmean(values),
    standard_error=statistics.fmean(result.standard_error for result in found),
    spread=statistics.stdev(values) if len(values) > 1 else None,
    bound=found[0].kind != 'exact',
  )


def page(table: Table, has_legend: bool = True) -> str:
  """The whole table: title, legend, both parts, the runs, and how to make it again."""
  commits = ', '.join(commit(name) for name in table['evaluated_at'])
  return '\n'.join(
    [
      f'# {TABLES[table["table"]].title} on {table["data"]["label"]}, scale {table["scale"]}',
      '',
      *(['Only a trial: after so few steps these numbers mean nothing.', ''] * is_trial(table)),
      about(table),
      '',
      *([LEGEND, ''] * has_legend),
      *parts(table),
      *claims.sentences(table, CLAIMED),
      '',
      *beside_paper(table),
      '',
      *_costs(table),
      *_runs(table),
      '',
      *(f'`{command}`  ' for command in table['commands']),
      f'evaluated at commit {commits}.',
      '',
    ]
  )


def is_trial(table: Table) -> bool:
  """Whether this was made to try the machinery."""
  return table['scale'] == 'quick'


def about(table: Table) -> str:
  """One line that says what the numbers are."""
  floor = table['columns'][COMMON[0]]['floor_nats_per_dim']
  limit = f', floor {floor:.3f} nats/dim' if floor is not None else ''
  sequences = ', '.join(f'{table["columns"][name]["num_sequences"]:,} {name}' for name in COMMON)
  return (
    f'{table["data"]["label"]}: protocol `{table["protocol"]["name"]}`{limit}; '
    f'{sequences} sequences.'
  )


def parts(table: Table) -> list[str]:
  """One table for each pair of columns that there is."""
  there = [names for names in (COMMON, OWN, PAPER, PAPER_OWN) if names[0] in table['columns']]
  return [line for names in there for line in (*part(table, names), '')]


def part(table: Table, names: tuple[str, str]) -> list[str]:
  """Heading and table of the models that answer one pair of columns."""
  test, train = (table['columns'][name] for name in names)
  first, last = test['scored_frames']
  paper = {**test['published']}
  header = ['model', 'parameters', 'seeds', f'{test["split"]}, frames {first}..{last}']
  header += ['bits/dim']
  header += ['train', 'bits/dim', 'gap', 'KL', 'steps/s']
  header += ['as published'] if paper else []
  models = [row for row in table['rows'] if row[names[0]]]
  best = min(
    (summarise(results(row, names[0])).mean for row in models if not is_reference(row)),
    default=math.nan,
  )
  lines = [_part_row(row, names, best) for row in models]
  if paper:
    for row, cells in zip(models, lines, strict=True):
      value = paper.get(row['model'])
      limit = '≤ ' if 'SLVM' in row['model'] else ''
      cells.append('–' if value is None else f'{limit}{value:.2f}')
  return rendered(header, lines)


def is_reference(row: dict[str, Any]) -> bool:
  """Whether a row is of a trivial model."""
  return bool(row.get('reference'))


def _part_row(row: dict[str, Any], names: tuple[str, str], best: float) -> list[str]:
  test, train = (summarise(results(row, name)) for name in names)
  kl = [result.kl_nats_per_step for result in results(row, names[0])]
  name = f'*{row["model"]}*' if is_reference(row) else words(row)
  value = nats(test)
  if not is_reference(row) and test.mean == best:
    value = f'**{value}**'
  return [
    name,
    f'{row["parameters"]:,}',
    str(len(row['seeds'])) if row['seeds'] else '',
    value,
    bits(test),
    nats(train),
    bits(train),
    gap(test, train),
    _mean(kl, '.2f'),
    _mean(row.get('steps_per_second'), '.1f'),
  ]


def nats(values: Summary) -> str:
  """'≤ 2.353 ± .006, s.d. .004'."""
  spread = '' if values.spread is None else f', s.d. {_short(values.spread)}'
  error = '' if math.isnan(values.standard_error) else f' ± {_short(values.standard_error)}'
  return f'{"≤ " if values.bound else ""}{values.mean:.3f}{error}{spread}'


def gap(test: Summary, train: Summary) -> str:
  """'+0.017 ± .008': the sequences of the two splits are different ones, so errors add up."""
  value = f'{test.mean - train.mean:+.3f}'.replace('-', '−')
  error = math.hypot(test.standard_error, train.standard_error)
  return value if math.isnan(error) else f'{value} ± {_short(error)}'


def bits(values: Summary) -> str:
  """Returns the mean in bits per dimension."""
  return f'{"≤ " if values.bound else ""}{values.mean / math.log(2):.3f}'


def _short(value: float) -> str:
  """.006 for 0.0062."""
  return f'{value:.3f}'.removeprefix('0')


def _mean(values: list[float | None] | None, form: str) -> str:
  there = [value for value in values or [] if value is not None]
  return format(statistics.fmean(there), form) if there else ''


def _costs(table: Table) -> list[str]:
  """Returns the lines about what training took, none of tables that didn't record it."""
  if any('cpu_seconds' not in row for row in table['rows'] if not is_reference(row)):
    return []
  about = (
    'CPU time includes compilation and validations. Validation is in nats/dim of each model’s own '
    'scored frames; at equal CPU time, which is compared between runs of one commit only, it is in '
    'the middle of a schedule.'
  )
  return [about, '', *rendered(*costs(table)), '']


def _runs(table: Table) -> list[str]:
  """Every seed, and what it took."""
  header = ['model', 'seed', f'test, frames {_frames(table)}', 'KL', 'correlation of x → y']
  header += ['best of steps', 'batch', 'steps/s', 'time', 'on', 'commit', 'config']
  lines = []
  for row in table['rows']:
    for index, seed in enumerate(row['seeds']):
      lines.append(_run(row, index, seed))
  return rendered(header, lines)


def _run(row: dict[str, Any], index: int, seed: int) -> list[str]:
  result = results(row, COMMON[0])[index]
  kl, wall = result.kl_nats_per_step, row['wall_seconds'][index]
  rate = row['steps_per_second'][index]
  overridden = ''.join(f' --config.{value}' for value in row['overrides'])
  return [
    words(row),
    str(seed),
    nats(summarise([result])),
    '' if kl is None else f'{kl:.2f}',
    _correlation(row['temporal_correlation'][index]),
    f'{row["best_steps"][index]:,} of {row["steps"]:,}',
    str(row['batch_size']),
    '' if rate is None else f'{rate:.1f}',
    '' if wall is None else format_duration(wall),
    ', '.join(row['devices']),
    commit(row['commits'][index]),
    f'`{row["config"]}{overridden}`',
  ]


def _correlation(values: dict[str, float]) -> str:
  """Temporal correlation of the data and of what the last flow passes on."""
  levels = [values[label] for label in sorted(values) if label.endswith('/y')]
  if 'x' not in values or not levels:
    return ''
  return f'{values["x"]:.3f} → {levels[-1]:.3f}'.replace('-', '−')


def commit(name: str) -> str:
  """Short, with a plus sign where the tree was changed."""
  own, _, changes = name.partition('+')
  return own[:7] + ('+' if changes else '')


def _frames(table: Table) -> str:
  return '{}..{}'.format(*table['columns'][COMMON[0]]['scored_frames'])


def beside_paper(table: Table) -> list[str]:
  """Why the paper's numbers stand beside ours, or why they don't."""
  names = (PAPER_OWN[0], PAPER[0], OWN[0], COMMON[0])
  test = next(table['columns'][name] for name in names if name in table['columns'])
  if table['table'] != AF_1.name:
    return []
  if test['why_not_published']:
    lines = [f'Tables 1 and 2 of the AF paper are not beside this: {test["why_not_published"]}.']
  else:
    lines = [
      'The paper’s Table 2 (training) is of random crops of all its training sequences, the train '
      'columns here of fixed crops of as many sequences as the test split has, so they are not '
      'beside one another. Its Table 1 is the best epoch on the test sequences themselves.'
    ]
  return lines + _sizes(table)


def _sizes(table: Table) -> list[str]:
  """Table 3 of the paper, for models of its size."""
  data = table['data']
  found = [
    (row, published.size_of(row['model'], table['dataset'], data['event_shape'], row['parameters']))
    for row in table['rows']
  ]
  sizes = [
    f'{row["model"]} {row["parameters"]:,} here, {size.thousands}k there'
    for row, size in found
    if size is not None
  ]
  return ['', f'Parameters beside the paper’s Table 3: {"; ".join(sizes)}.'] if sizes else []


def rendered(header: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
  """Returns the lines of a Markdown table."""
  rows = [header, ['---'] * len(header), *lines]
  return [f'| {" | ".join(row)} |' for row in rows]
