"""What a table says about claims, in sentences whose numbers are the table's.

Those of the AF paper, and that a box-logistic flow nearest the data is better than an affine one.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from afslvm.evaluation.contract import LikelihoodResult
from afslvm.reproduction.table import results

Table = dict[str, Any]
FLOWS_HELP = ('SLVM + 1-AF', 'SLVM')
MORE_FLOWS_HELP = (('2-AF', '1-AF'), ('SLVM + 2-AF', 'SLVM + 1-AF'))
BOX_HELPS = tuple(
  (f'{model} box', model) for model in ('1-AF', '2-AF', 'SLVM + 1-AF', 'VideoFlow + 1-AF')
)


class Pair(NamedTuple):
  """Results of two models by seed, of the seeds that both have.

  Attributes:
    column: of the table.
    rows: of both models.
    held_out: {seed: of both models}, on held-out sequences.
    train: likewise, on training sequences.
  """

  column: dict[str, Any]
  rows: tuple[dict[str, Any], dict[str, Any]]
  held_out: dict[int, tuple[LikelihoodResult, LikelihoodResult]]
  train: dict[int, tuple[LikelihoodResult, LikelihoodResult]]


def sentences(table: Table, columns: tuple[tuple[str, str], ...]) -> list[str]:
  """A list in Markdown; models that aren't in the table are left out.

  Args:
    table: as `table.json` holds it.
    columns: pairs of a column of held-out sequences and one of training sequences, the one that is
      preferred first.
  """
  found = [_lower(pair) for pair in _pairs(table, columns[:1], FLOWS_HELP)]
  for models in (*MORE_FLOWS_HELP, *BOX_HELPS):
    found += [_lower(pair) for pair in _pairs(table, columns, models)]
  found += [_smaller_gap(pair) for pair in _pairs(table, columns[:1], FLOWS_HELP)]
  return [f'* {sentence}' for sentence in found]


def _pairs(table, columns, models: tuple[str, str]) -> Iterator[Pair]:
  """The models in the first of the columns in which both are."""
  for held_out, train in columns:
    rows = [row for name in models for row in table['rows'] if row['model'] == name]
    if held_out in table['columns'] and len([row for row in rows if row[held_out]]) == 2:
      first, second = rows
      by_seed = _by_seed(first, second, held_out), _by_seed(first, second, train)
      if by_seed[0]:
        yield Pair(table['columns'][held_out], (first, second), *by_seed)
      return


def _by_seed(first, second, column: str) -> dict[int, tuple[LikelihoodResult, LikelihoodResult]]:
  a, b = (dict(zip(row['seeds'], results(row, column), strict=True)) for row in (first, second))
  return {seed: (a[seed], b[seed]) for seed in a if seed in b}


def _lower(pair: Pair) -> str:
  """How two models compare on held-out sequences."""
  a, b = (_mean(values) for values in _nats(pair.held_out))
  lower = sum(first < second for first, second in zip(*_nats(pair.held_out), strict=True))
  first, second = pair.rows
  return (
    f'{first["model"]} against {second["model"]}: {a:.3f} against {b:.3f} nats/dim on '
    f'{_where(pair)}, lower on {lower} of {_seeds(pair)}, with {first["parameters"]:,} against '
    f'{second["parameters"]:,} parameters.'
  )


def _smaller_gap(pair: Pair) -> str:
  """How much better two models do on training sequences than on others."""
  gaps = [
    [held_out - train for held_out, train in zip(ours, theirs, strict=True)]
    for ours, theirs in zip(_nats(pair.held_out), _nats(pair.train), strict=True)
  ]
  smaller = sum(a < b for a, b in zip(*gaps, strict=True))
  a, b = (f'{_mean(gap):+.3f}'.replace('-', '−') for gap in gaps)
  first, second = pair.rows
  return (
    f'Gap between held-out and training sequences, {first["model"]} against {second["model"]}: {a} '
    f'against {b} nats/dim on {_where(pair)}, smaller on {smaller} of {_seeds(pair)}. Both splits '
    'are other sequences, so part of a gap is chance: see the ± of each.'
  )


def _nats(by_seed) -> list[list[float]]:
  """Returns nats/dim of both models, in the same order of seeds."""
  return [[pair[k].nats_per_dim for pair in by_seed.values()] for k in (0, 1)]


def _mean(values: list[float]) -> float:
  return sum(values) / len(values)


def _where(pair: Pair) -> str:
  first, last = pair.column['scored_frames']
  return f'{pair.column["split"]} frames {first}..{last}'


def _seeds(pair: Pair) -> str:
  count = len(pair.held_out)
  return f'{count} seed{"s" * (count != 1)}'
