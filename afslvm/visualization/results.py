"""The results tables: one column per likelihood contract, never two in one."""

import dataclasses
from typing import NamedTuple

from afslvm.evaluation import contract as contract_lib
from afslvm.evaluation import published
from afslvm.evaluation.contract import LikelihoodContract, LikelihoodResult
from afslvm.evaluation.protocols import PROTOCOLS
from afslvm.models.base import PRIOR_CHAIN_ELBO
from afslvm.visualization import markup
from afslvm.visualization.markup import Html, element
from afslvm.visualization.records import Run

NOISE = {
  'gauss256': '8-bit values / 255 + N(0, 1/256²) noise, log 256 included',
  'uniform': 'uniform noise, a bound on the probability of the 8-bit values',
  'none': 'density of continuous values',
  'discretised': 'probability of the 8-bit values, without noise',
}
# Of data that get no noise: what is given a probability.
VALUES = {'binary': 'binary values', 'pcm16': '16-bit samples'}
MEANINGS = {
  'context_frames': 'steps that are given and not scored',
  'scored_frames': 'first and last scored step, counted from 0',
  'mask_policy': 'padding',
  'average': 'weighting of steps and sequences',
}


class Entry(NamedTuple):
  """One number of a column."""

  title: str
  result: LikelihoodResult
  outdated: str  # the step that was evaluated, if the run has a better checkpoint since
  iterations: int | None = None  # of an iterative inference, if not as trained


@dataclasses.dataclass
class Column:
  """All numbers that answer one question on the same data.

  Attributes:
    contract: the question.
    fingerprint: of the data.
    entries: of models and references.
    run: one that has it.
  """

  contract: LikelihoodContract
  fingerprint: str
  run: Run
  entries: list[Entry] = dataclasses.field(default_factory=list)

  def of(self, title: str) -> list[Entry]:
    """The numbers of one row."""
    return [entry for entry in self.entries if entry.title == title]

  @property
  def as_trained(self) -> list[Entry]:
    """Those whose inference runs as many iterations as it was trained with, or has none."""
    return [entry for entry in self.entries if entry.iterations is None]

  def add(self, entry: Entry):
    """Adds a number; the same number of a reference, from another run, stands there once."""
    if entry not in self.entries:
      self.entries.append(entry)

  @property
  def paper(self) -> tuple[published.PublishedResult, ...]:
    """The paper's numbers that answer the same question."""
    data = self.run.data_config, self.run.model.event_shape
    benchmark = published.benchmark_of(*data)
    if benchmark is None or published.why_not_comparable(self.contract, *data):
      return ()
    return published.find(benchmark.dataset, 'test', self.contract.protocol)


def columns(runs: list[Run]) -> list[Column]:
  """Groups all results by contract and data; those that most runs answer come first."""
  found: dict[tuple[LikelihoodContract, str], Column] = {}
  answered: dict[tuple[LikelihoodContract, str], set[str]] = {}
  for run in runs:
    for evaluated in run.records.evaluations:
      own = evaluated.results[0].name
      old = evaluated.checkpoint.get('parameters_sha256') != run.checkpoint.get('parameters_sha256')
      for result in evaluated.results:
        key = (result.contract, evaluated.fingerprint)
        column = found.setdefault(key, Column(*key, run))
        answered.setdefault(key, set()).add(run.title)
        if result.name == own:
          step = str(evaluated.checkpoint.get('step', '?')) if old else ''
          column.add(Entry(run.title, result, step, evaluated.iterations))
        else:
          column.add(Entry(result.name, result, ''))
  return sorted(found.values(), key=lambda c: -len(answered[c.contract, c.fingerprint]))


def text_tables(runs: list[Run]) -> str:
  """The tables for a terminal, each with its contract above it."""
  tables = []
  for column in columns(runs):
    titles = [run.title for run in runs]
    entries = sorted(
      column.entries, key=lambda e: titles.index(e.title) if e.title in titles else len(titles)
    )
    results = [dataclasses.replace(e.result, name=_name(e)) for e in entries]
    tables.append(contract_lib.table(results))
  return '\n\n'.join(tables)


def _name(entry: Entry) -> str:
  other = entry.iterations is not None
  return f'{entry.title}, {_iterations(entry)}' if other else entry.title


def _iterations(entry: Entry) -> str:
  return f'{entry.iterations} inference iteration{"" if entry.iterations == 1 else "s"}'


# ---- the page ------------------------------------------------------------------------------------


def results_table(runs: list[Run]) -> Html:
  """Rows are models, trivial references and what the paper reports; columns are contracts."""
  found = columns(runs)
  if not found:
    return element('p', 'No run has been evaluated yet.')
  titles = [run.title for run in runs]
  references = dict.fromkeys(
    e.title for column in found for e in column.entries if e.title not in titles
  )
  header = ['model', *(_question(column) for column in found)]
  rows = [[run.title, *(_model_cell(column, run, titles) for column in found)] for run in runs]
  rows += [[element('em', name), *(_cell(c, c.of(name)) for c in found)] for name in references]
  papers = dict.fromkeys((r.paper, r.model) for column in found for r in column.paper)
  rows += [
    [element('em', f'{paper}, {model}'), *(_published(c, model) for c in found)]
    for paper, model in papers
  ]
  return markup.table(header, rows, class_='results')


def _question(column: Column) -> Html:
  """A column's heading: the contract in words."""
  c = column.contract
  floor = c.floor_nats_per_dim
  lines = [
    element('b', c.protocol),
    f'{c.dataset}, {c.split} split',
    f'{scored_in_words(c)} after {c.context_frames} given',
    _values(c),
    f'floor {floor:.3f} nats/dim' if floor is not None else 'no floor',
    _size(column),
  ]
  return element('div', markup.join(lines, Html('<br>')), class_='question')


def scored_in_words(c: LikelihoodContract) -> str:
  """'steps 3..12', or 'all steps from 0'."""
  return f'all steps from {c.scored_frames[0]}' if c.whole_sequences else f'steps {c.scored}'


def _values(c: LikelihoodContract) -> str:
  """What is scored."""
  if c.dequantisation == 'none' and c.measure == 'probability':
    return f'probability of {VALUES.get(c.data_space, c.data_space)}'
  return NOISE.get(c.dequantisation, c.dequantisation)


def _size(column: Column) -> str:
  """How much was scored; a cell says it where it is another."""
  r = column.entries[0].result
  draws = f', {r.num_samples} draws of noise each' if r.num_samples > 1 else ''
  return f'{r.num_sequences} sequences{draws}'


def _is_best(column: Column, title: str, titles: list[str]) -> bool:
  values = {
    t: min((e.result.leading.value for e in column.as_trained if e.title == t), default=None)
    for t in titles
  }
  present = {t: value for t, value in values.items() if value is not None}
  return len(present) > 1 and title in present and present[title] == min(present.values())


def _model_cell(column: Column, run: Run, titles: list[str]) -> Html:
  entries, asked = column.of(run.title), column.contract
  same_data = asked.dataset == run.dataset
  if not entries and same_data and run.model.num_context > asked.scored_frames[0]:
    return element('small', f'– (looks back {run.model.num_context} steps)')
  return _cell(column, entries, _is_best(column, run.title, titles))


def _cell(column: Column, entries: list[Entry], best: bool = False) -> Html:
  if not entries:
    return element('small', '–')
  entries = sorted(entries, key=lambda e: -1 if e.iterations is None else e.iterations)
  usual = column.entries[0].result
  return markup.join([_number(e, usual, best and e.iterations is None) for e in entries])


def _number(entry: Entry, usual: LikelihoodResult, best: bool) -> Html:
  r = entry.result
  limit = '' if r.kind == 'exact' else '≤ '
  about = [*_beside(r, limit), kind_in_words(r.kind)]
  if r.num_sequences != usual.num_sequences:
    about.append(f'{r.num_sequences} sequences')
  if r.num_samples != usual.num_samples:
    about.append(f'{r.num_samples} draws')
  if entry.iterations is not None:
    about.append(f'with {_iterations(entry)}, not as trained')
  if entry.outdated:
    about.append(f'of step {entry.outdated}, not the present best')
  value = f'{limit}{r.leading.value:.3f}'
  return element(
    'div',
    element('strong', value) if best else value,
    f' ± {r.leading.standard_error:.3f} ',
    element('small', r.leading.unit),
    element('small', ', '.join(about), class_='line'),
    '' if r.kl_nats_per_step is None else _kl(r.kl_nats_per_step),
    class_='number',
  )


def _beside(r: LikelihoodResult, limit: str) -> list[str]:
  """Returns the same number in other units, and under the other average."""
  bits = [f'{limit}{r.bits_per_dim:.3f} bits/dim']
  if r.nats_per_step is None:
    return bits
  if r.leading.value == r.nats_per_step:
    found = [f'{limit}{r.sequence_mean_nats_per_step:.3f} as a mean over sequences']
  else:
    found = [f'{limit}{r.nats_per_step:.3f} over all steps']
  if r.uncorrected_sequence_mean is not None:
    found.append(f'{r.uncorrected_sequence_mean:.3f} uncorrected')
  if r.contract.data_space == 'pcm16':
    found.append(f'{limit}{r.nats_per_dim:.3f} nats/sample')
  return found + (bits if r.contract.data_space == '8bit' else [])


def _kl(nats_per_step: float) -> Html:
  return element('small', f'KL/step {nats_per_step:.2f} nats', class_='line')


def kind_in_words(kind: str) -> str:
  """What a kind of number is."""
  if kind == PRIOR_CHAIN_ELBO:
    return f'bound of another model, whose prior has a chain of its own ({kind})'
  name, _, draws = kind.partition('-')
  words = {'exact': 'exact', 'elbo': 'bound', 'iwae': 'tighter bound', 'fivo': 'tighter bound'}
  return f'{words.get(name, name)} ({kind})' if draws or name == 'elbo' else words.get(name, kind)


def _published(column: Column, model: str) -> Html:
  found = [result for result in column.paper if result.model == model]
  if not found:
    return _cell(column, [])
  limit = '' if found[0].kind == 'exact' else '≤ '
  small = element('small', 'nats/dim, as published', class_='line')
  return element('div', f'{limit}{found[0].nats_per_dim:.2f}', small, class_='number')


def contracts_in_full(runs: list[Run]) -> Html:
  """Every field of every contract, folded away."""
  blocks = []
  for column in columns(runs):
    fields = dataclasses.asdict(column.contract)
    rows = [[key, str(value), MEANINGS.get(key, '')] for key, value in fields.items()]
    rows.append(['data', column.fingerprint, 'fingerprint of the prepared records'])
    if column.contract.protocol in PROTOCOLS:
      rows.append(['summary', PROTOCOLS[column.contract.protocol].summary, ''])
    blocks.append(markup.table(['field', 'value', 'meaning'], rows, class_='prose'))
  return markup.details('What the columns mean, in full', *blocks) if blocks else Html('')
