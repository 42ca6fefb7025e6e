"""What the numbers of the report say: sentences, the tables, the paper's figures, the cost."""

from afslvm.evaluation import published
from afslvm.evaluation.contract import LikelihoodResult
from afslvm.evaluation.diagnostics import is_number
from afslvm.training.progress import format_duration
from afslvm.visualization import gaps as gaps_lib
from afslvm.visualization import markup
from afslvm.visualization import results as tables
from afslvm.visualization.markup import Html, element
from afslvm.visualization.page import paragraphs
from afslvm.visualization.records import Run


def headlines(runs: list[Run]) -> list[str]:
  """One sentence per contract: every model, the best reference, the floor."""
  titles = [run.title for run in runs]
  return [_headline(column, titles) for column in tables.columns(runs)]


def _headline(column: tables.Column, titles: list[str]) -> str:
  c, floor = column.contract, column.contract.floor_nats_per_dim
  models: dict[str, LikelihoodResult] = {}
  others: dict[str, LikelihoodResult] = {}
  for entry in column.as_trained or column.entries:
    group = models if entry.title in titles else others
    if entry.title not in group or entry.result.leading < group[entry.title].leading:
      group[entry.title] = entry.result
  ranked = sorted(models, key=lambda title: models[title].leading)
  needs = ', '.join(f'{title} {_value(models[title])}' for title in ranked)
  unit = column.entries[0].result.leading.unit
  split = '' if c.split == 'test' else f', {c.split} split'
  text = f'{c.protocol}{split}, {tables.scored_in_words(c)}: {needs} {unit}'
  if others:
    best = min(others, key=lambda name: others[name].leading)
    text += f'; the best trivial reference, {best}, {_value(others[best])}'
  return text + (f'; no model can be below {floor:.3f}.' if floor else '.')


def _value(result: LikelihoodResult) -> str:
  limit = '' if result.kind == 'exact' else '≤ '
  return f'{limit}{result.leading.value:.3f} ± {result.leading.standard_error:.3f}'


def results(runs: list[Run]) -> Html:
  """Tables, what is missing in them, the paper, and what training took."""
  gaps = [
    element('div', f'{what}. To add it: ', element('code', command), class_='note')
    for what, command in gaps_lib.missing_evaluations(runs)
  ]
  return markup.join(
    [
      paragraphs(
        'Negative log-likelihood of held-out sequences; lower is better. Each column is one '
        'question (data, noise, scored steps), and numbers of different columns do not compare. '
        '± is one standard error over sequences; ≤ marks a bound, the exact value is at most that. '
        'Below the models, in italics, trivial models in the same contract: one that ignores time '
        'and one that expects no change.'
      ),
      tables.results_table(runs),
      *gaps,
      tables.contracts_in_full(runs),
      Html('') if all(run.event.is_heard for run in runs) else _paper(runs),
      element('h3', 'What it took'),
      _cost(runs),
    ]
  )


def _paper(runs: list[Run]) -> Html:
  """The paper's figures apart from ours, unless they stand in the table already."""
  found = tables.columns(runs)
  if any(column.paper for column in found):
    reason = 'Test figures stand in the table above too, where they are comparable.'
  else:
    reasons = dict.fromkeys(_why_apart(column) for column in found)
    why = '; '.join(reasons) or 'no run has been evaluated'
    sets = '; '.join(f'{b.words} ({b.dataset})' for b in published.BENCHMARKS)
    reason = f'Not comparable with the table above: {why}. The paper scores {sets}.'
  header = ['model', *published.DATASETS, *(f'{d}, parameters' for d in published.DATASETS)]
  rows = []
  for index, model in enumerate(published.MODELS):
    values = [_published(model, dataset) for dataset in published.DATASETS]
    sizes = [f'{published.PARAMETERS[d][index]:,}k' for d in published.DATASETS]
    rows.append([model, *values, *sizes])
  return markup.join(
    [
      element('h3', 'What the AF paper reports'),
      paragraphs(
        f'{reason} Nats/dim, test (training in parentheses), log 256 included as in the protocol '
        'af_paper; from Tables 1, 2 and 3 of the paper, with the sign that makes lower better.'
      ),
      markup.table(header, rows),
    ]
  )


def _why_apart(column: tables.Column) -> str:
  shape = tuple(column.run.model.event_shape)
  return published.why_not_comparable(column.contract, column.run.data_config, shape)


def _published(model: str, dataset: str) -> str:
  values = {}
  for split in ('test', 'train'):
    for result in published.find(dataset, split):
      if result.model == model:
        limit = '' if result.kind == 'exact' else '≤ '
        values[split] = f'{limit}{result.nats_per_dim:.2f}'
  return f'{values["test"]} ({values["train"]})'


def _cost(runs: list[Run]) -> Html:
  header = ['model', 'parameters', 'step / budget', 'batch', 'validation', 'steps/s', 'time', 'on']
  return markup.table(header, [_cost_row(run) for run in runs])


def _cost_row(run: Run) -> list[str]:
  receipt, train = run.records.receipt, run.config['train']
  device = receipt.get('device')
  device = device if isinstance(device, dict) else {}
  wall, rate = receipt.get('total_wall_seconds'), receipt.get('steps_per_second')
  score = run.checkpoint.get('validation_nats_per_dim')
  return [
    run.title,
    f'{run.parameters:,}',
    f'{run.checkpoint.get("step")} / {train["num_steps"]}',
    str(train['batch_size']),
    f'{score * run.unit_dims:.3f} {run.event.unit}' if is_number(score) else '–',
    f'{rate:.1f}' if is_number(rate) else '–',
    format_duration(wall) if is_number(wall) else '–',
    f'{device["count"]} {device["kind"]}' if {'count', 'kind'} <= device.keys() else '–',
  ]
