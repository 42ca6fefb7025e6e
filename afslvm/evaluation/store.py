"""Evaluations on disk: WORKDIR/evaluation/PROTOCOL.json, reused while it is still true."""

import json
import pathlib
from typing import Any

from afslvm import files
from afslvm.evaluation.contract import LikelihoodContract, LikelihoodResult

# Of the rules by which numbers are made: raise it with any change that would alter one, so that
# evaluations that are there are made anew.
SCORING = 2


def path_of(
  workdir: pathlib.Path,
  contract: LikelihoodContract,
  num_context: int,
  inference_iterations: int | None = None,
) -> pathlib.Path:
  """Where an evaluation lies; the name says what differs from the protocol's own choice.

  Args:
    workdir: of the run.
    contract: what is asked.
    num_context: as asked for; 0 is what protocol and model need.
    inference_iterations: None for as many as the model was trained with.
  """
  name = contract.protocol
  if num_context:
    name += f'_context{num_context}'
  if inference_iterations is not None:
    name += f'_iterations{inference_iterations}'
  if contract.split != 'test':
    name += f'_{contract.split}'
  return workdir / 'evaluation' / f'{name}.json'


def identity(
  contract: LikelihoodContract, checkpoint: dict[str, Any], fingerprint: str, **settings: Any
) -> dict[str, Any]:
  """All that decides the numbers of an evaluation, as JSON would give it back."""
  values = {
    'contract': contract.to_dict(),
    'checkpoint': checkpoint,
    'data_fingerprint': fingerprint,
    'settings': settings,
    'scoring': SCORING,
  }
  return json.loads(json.dumps(values))


def read_if_current(path: pathlib.Path, asked: dict[str, Any]) -> dict[str, Any] | None:
  """The evaluation at `path` if it answers exactly `asked` (see `identity`)."""
  found = _read(path)
  return found if found is not None and found.get('identity') == asked else None


def _read(path: pathlib.Path) -> dict[str, Any] | None:
  """What was written there, or None where it is missing or damaged; older ones have no checksum."""
  try:
    found = files.read_json(path)
  except (OSError, ValueError):
    return None
  return found if found.get('sha256', files.own_sha256(found)) == files.own_sha256(found) else None


def write(
  path: pathlib.Path,
  asked: dict[str, Any],
  results: list[LikelihoodResult],
  decorrelation: dict[str, dict[str, float]],
  **more: Any,
) -> dict[str, Any]:
  """Writes an evaluation and returns what was written."""
  report = {
    'identity': asked,
    'results': [result.to_json() for result in results],
    'decorrelation': decorrelation,
    **more,
  }
  report['sha256'] = files.own_sha256(report)
  path.parent.mkdir(parents=True, exist_ok=True)
  files.write_json(path, report)
  return report


def read_all(workdir: pathlib.Path) -> list[dict[str, Any]]:
  """Every intact evaluation of a run, by file name."""
  found = (_read(path) for path in sorted((workdir / 'evaluation').glob('*.json')))
  return [report for report in found if report is not None]
