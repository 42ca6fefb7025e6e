"""Which evaluations a report lacks, and the commands that make them."""

import shlex

from afslvm.evaluation.contract import LikelihoodContract
from afslvm.evaluation.protocols import PROTOCOLS
from afslvm.visualization.records import Run
from afslvm.visualization.results import Column, columns, scored_in_words


def missing_evaluations(runs: list[Run]) -> list[tuple[str, str]]:
  """(what is missing, the command that makes it) for every gap that can be filled."""
  found = columns(runs)
  return [gap for run in runs for gap in _gaps_of(run, found)]


def _gaps_of(run: Run, found: list[Column]) -> list[tuple[str, str]]:
  if not run.records.evaluations:
    return [(f'{run.title} has not been evaluated', _command(run))]
  gaps = {}
  done = {column.contract.protocol for column in found if column.of(run.title)}
  for column in found:
    contract = column.contract
    if column.of(run.title) or contract.dataset != run.dataset:
      continue
    first = contract.scored_frames[0]
    if _can_answer(run, contract):
      what = f'{run.title} is missing under {contract.protocol} on {scored_in_words(contract)}'
      gaps[contract.protocol, first] = (what, _command(run, contract))
    elif contract.protocol in PROTOCOLS and contract.protocol not in done:
      what = f'{run.title} is missing under {contract.protocol}'
      gaps[contract.protocol, None] = (what, _command(run, protocol=contract.protocol))
  return list(gaps.values())


def _can_answer(run: Run, contract: LikelihoodContract) -> bool:
  first, last = contract.scored_frames
  fits = run.model.num_context <= first and last < run.num_frames
  return fits and contract.protocol in PROTOCOLS


def _command(run: Run, contract: LikelihoodContract | None = None, protocol: str = '') -> str:
  words = ['python', 'launch/evaluate.py', f'--workdir={run.workdir}']
  if protocol:
    words.append(f'--protocol={protocol}')
  if contract is not None:
    words.append(f'--protocol={contract.protocol}')
    if contract.split != 'test':
      words.append(f'--split={contract.split}')
    first = contract.scored_frames[0]
    if first != max(PROTOCOLS[contract.protocol].min_context, run.model.num_context):
      words.append(f'--num_context={first}')
  return shlex.join(words)
