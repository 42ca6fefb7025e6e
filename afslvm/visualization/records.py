"""What the report shows of a run: plain values, and what its folder records, as far as it is there.

A folder may be incomplete: a run that was killed, is still training, or was never evaluated.
Whatever can't be read is left out.
"""

import dataclasses
import json
import math
import pathlib
from typing import Any

import numpy as np

from afslvm import files
from afslvm.errors import AfslvmError
from afslvm.evaluation import diagnostics, store
from afslvm.evaluation.contract import LikelihoodResult
from afslvm.evaluation.diagnostics import is_number
from afslvm.models.base import SequenceModel
from afslvm.types import PyTree
from afslvm.visualization.events import FRAMES, Event

Curve = list[tuple[int, float]]


@dataclasses.dataclass(frozen=True)
class Evaluated:
  """One readable file of WORKDIR/evaluation.

  Attributes:
    results: the model's first, then those of the trivial references.
    decorrelation: {'x': {'temporal_correlation', 'standard_deviation'}, '1/y': ...}.
    fingerprint: of the data.
    checkpoint: what was evaluated: 'step', 'parameters_sha256', ...
    iterations: of an iterative inference; None for as many as it was trained with.
  """

  results: list[LikelihoodResult]
  decorrelation: dict[str, dict[str, float]]
  fingerprint: str
  checkpoint: dict[str, Any]
  iterations: int | None = None


@dataclasses.dataclass(frozen=True)
class Records:
  """What training and evaluation wrote down.

  Attributes:
    train: (step, nats/dim of the training batch).
    validation: (step, nats/dim of the validation split).
    receipt: versions, device, speed, ...; empty if there is none.
    evaluations: by file name.
    health: of every validation, oldest first: 'step', and what `diagnostics.diagnose` found then.
  """

  train: Curve
  validation: Curve
  receipt: dict[str, Any]
  evaluations: list[Evaluated]
  health: list[dict[str, Any]] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Sequences:
  """Held-out sequences of a run's data.

  Attributes:
    indices: of the sequences in their split.
    x: [N, T, *event], dequantised as in training.
    split: they are from.
    seed: that chose them.
    lengths: of the sequences where only their beginning is in x; empty if all of them is.
  """

  indices: list[int]
  x: np.ndarray
  split: str
  seed: int
  lengths: list[int] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Run:
  """A trained model and all that the report says about it.

  Attributes:
    title: of the run, unique in the report.
    workdir: as the user wrote it.
    model: any sequence model.
    variables: its variables.
    checkpoint: they are from: 'step', 'parameters_sha256', 'validation_nats_per_dim'.
    parameters: how many numbers were trained.
    config: the whole config.
    dataset: label of the data set, as in likelihood contracts.
    data_config: 'NAME/CONFIG' of the prepared data.
    num_frames: steps that sequences of the data have.
    event: what one of their steps is.
    records: see `Records`.
    sequences: held-out ones to show, or None.
    no_sequences: why there are none.
  """

  title: str
  workdir: str
  model: SequenceModel
  variables: PyTree
  checkpoint: dict[str, Any]
  parameters: int
  config: dict[str, Any]
  dataset: str
  data_config: str
  num_frames: int
  event: Event
  records: Records
  sequences: Sequences | None = None
  no_sequences: str = ''

  @property
  def shows_frames(self) -> bool:
    """Whether an observation is a picture."""
    return self.event.kind == FRAMES

  @property
  def unit_dims(self) -> int:
    """Dimensions that the unit of its likelihoods, `event.unit`, is the sum of."""
    return math.prod(self.model.event_shape) if self.event.unit == 'nats/step' else 1


def read(workdir: pathlib.Path) -> Records:
  """Reads what there is."""
  lines = _json_lines(workdir / 'metrics.jsonl')
  return Records(
    train=_curve(lines, 'nats_per_dim'),
    validation=_curve(lines, 'validation_nats_per_dim'),
    receipt=_json_object(workdir / 'receipt.json'),
    evaluations=_evaluations(workdir),
    health=_health(lines),
  )


def _json_object(path: pathlib.Path) -> dict[str, Any]:
  try:
    return files.read_json(path)
  except (OSError, ValueError):
    return {}


def _json_lines(path: pathlib.Path) -> list[dict[str, Any]]:
  """Every readable line; a run that was killed leaves half of one."""
  try:
    lines = path.read_text(errors='replace').splitlines()
  except OSError:
    return []
  values = []
  for line in lines:
    try:
      values.append(json.loads(line))
    except (ValueError, RecursionError):
      continue
  return [value for value in values if isinstance(value, dict)]


def _curve(lines: list[dict[str, Any]], key: str) -> Curve:
  points = [(line.get('step'), line.get(key)) for line in lines]
  return [(s, float(v)) for s, v in points if isinstance(s, int) and is_number(v)]


def _health(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
  """The numbers of every validation; whatever else is in a line is left out."""
  found = []
  for line in lines:
    if 'validation_nats_per_dim' not in line or not isinstance(line.get('step'), int):
      continue
    found.append({'step': line['step'], **diagnostics.recorded(line)})
  return found


def _evaluations(workdir: pathlib.Path) -> list[Evaluated]:
  found = []
  for report in store.read_all(workdir):
    try:
      results = [LikelihoodResult.from_json(values) for values in report['results']]
      identity = report['identity']
      evaluated = Evaluated(
        results,
        {k: dict(v) for k, v in report.get('decorrelation', {}).items()},
        str(identity['data_fingerprint']),
        dict(identity['checkpoint']),
        identity.get('settings', {}).get('inference_iterations'),
      )
    except (AfslvmError, KeyError, TypeError, ValueError, AttributeError):
      continue  # written by something else
    if results:
      found.append(evaluated)
  return found
