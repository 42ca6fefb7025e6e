"""The likelihood contract: a reported likelihood is never a bare float.

Two numbers may stand in one column only if they answer the same question: the same data, the same
noise, the same scored steps. `table` refuses anything else unless told to.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from afslvm.errors import ConfigError, NumericsError

KINDS = ('exact', 'elbo')  # and 'iwae-K', 'fivo-K'
# The least nats/dim that any model can report: the entropy of the noise, log 256 included.
GAUSS256_FLOOR = 0.5 * math.log(2 * math.pi * math.e)
FLOORS = {'gauss256': GAUSS256_FLOOR, 'uniform': 0.0, 'none': None}


class ContractError(ConfigError):
  """Numbers that can't be compared were put in one column."""


@dataclasses.dataclass(frozen=True)
class LikelihoodContract:
  """What a likelihood answers; two numbers are comparable exactly when these are equal.

  Attributes:
    protocol: the name of the bundle.
    dataset: name of the data set, with its variant.
    split: 'test', 'validation' or 'train'.
    data_space: '8bit' or 'continuous'.
    dequantisation: one of `preprocessing.DEQUANTISATIONS`.
    context_frames: given and not scored.
    scored_frames: (first, last) scored step, from 0, both included.
    mask_policy: what padding does.
    average: how steps and sequences are weighted in `nats_per_dim`.
  """

  protocol: str
  dataset: str
  split: str
  data_space: str
  dequantisation: str
  context_frames: int
  scored_frames: tuple[int, int]
  mask_policy: str = 'padding is not scored'
  average: str = 'total nats over total scored dimensions'

  @property
  def floor_nats_per_dim(self) -> float | None:
    """No model can be below it; None for continuous data, where there is no bound."""
    return FLOORS[self.dequantisation]


@dataclasses.dataclass(frozen=True)
class LikelihoodResult:
  """One number and everything needed to believe it; lower is better.

  Attributes:
    name: of the model.
    kind: 'exact', or the bound ('elbo', 'iwae-K', 'fivo-K') that `nats_per_dim` is an upper limit
      by. After a context it bounds the predictive density of the model that filters the context
      with its own posterior, as in the papers: draws of the context are not weighed.
    contract: what was asked.
    nats_per_dim: negative log-likelihood, log 256 included for 8-bit data.
    standard_error: of it, over sequences.
    nats_per_sequence: the mean over sequences.
    sequence_mean_nats_per_dim: the mean of each sequence's own nats/dim.
    num_sequences: scored.
    num_samples: draws of noise and latent variables per sequence.
    seed: of those draws.
    kl_nats_per_step: KL(posterior || prior) in the value, None without latent variables.
  """

  name: str
  kind: str
  contract: LikelihoodContract
  nats_per_dim: float
  standard_error: float
  nats_per_sequence: float
  sequence_mean_nats_per_dim: float
  num_sequences: int
  num_samples: int
  seed: int
  kl_nats_per_step: float | None = None

  def __post_init__(self):
    if self.kind not in KINDS and not self.kind.startswith(('iwae-', 'fivo-')):
      raise ContractError(f'kind={self.kind!r} is none of {", ".join(KINDS)}, iwae-K, fivo-K')

  @property
  def bits_per_dim(self) -> float:
    """nats / log 2."""
    return self.nats_per_dim / math.log(2)

  def to_json(self) -> dict[str, Any]:
    """Plain values; the contract's fields stand beside the result's."""
    values = dataclasses.asdict(self)
    contract = values.pop('contract')
    contract['scored_frames'] = list(contract['scored_frames'])
    floor = self.contract.floor_nats_per_dim
    if math.isnan(self.standard_error):
      values['standard_error'] = None  # of one sequence; JSON has no NaN
    return {**values, 'bits_per_dim': self.bits_per_dim, **contract, 'floor_nats_per_dim': floor}

  @classmethod
  def from_json(cls, values: dict[str, Any]) -> 'LikelihoodResult':
    """The inverse of `to_json`."""
    keys = {field.name for field in dataclasses.fields(LikelihoodContract)}
    contract = {key: value for key, value in values.items() if key in keys}
    contract['scored_frames'] = tuple(contract['scored_frames'])
    names = {field.name for field in dataclasses.fields(cls)} - {'contract'}
    own = {key: value for key, value in values.items() if key in names}
    if own['standard_error'] is None:
      own['standard_error'] = math.nan
    return cls(contract=LikelihoodContract(**contract), **own)


def result(
  name: str,
  kind: str,
  contract: LikelihoodContract,
  log_likelihoods: np.ndarray,
  dims: np.ndarray,
  num_samples: int,
  seed: int,
) -> LikelihoodResult:
  """Summarises sequences.

  Args:
    name: of the model.
    kind: see `LikelihoodResult`.
    contract: what was asked.
    log_likelihoods: [N] nats per sequence, of the density (log 256 not included).
    dims: [N] scored dimensions per sequence.
    num_samples: draws per sequence.
    seed: of the draws.

  Raises:
    ContractError: a value below the floor, which would be a bug and not a result.
    NumericsError: a value that isn't finite.
  """
  levels = 0.0 if contract.dequantisation == 'none' else math.log(256.0)
  nats = -np.asarray(log_likelihoods, np.float64) + levels * dims
  each = nats / dims
  total = float(nats.sum() / dims.sum())
  error = float(each.std(ddof=1) / math.sqrt(len(each))) if len(each) > 1 else float('nan')
  if not math.isfinite(total):
    raise NumericsError(f'{name} scores {total} nats/dim under {contract.protocol}: not a number')
  floor = contract.floor_nats_per_dim
  # The noise drawn is a sample too: allow its own spread, 1/sqrt(2 dims), five times over.
  if floor is not None and total < floor - 5.0 / math.sqrt(2.0 * dims.sum()):
    raise ContractError(f'{name}: {total:.4f} nats/dim is below the floor {floor:.4f} of the noise')
  return LikelihoodResult(
    name=name,
    kind=kind,
    contract=contract,
    nats_per_dim=total,
    standard_error=error,
    nats_per_sequence=float(nats.mean()),
    sequence_mean_nats_per_dim=float(each.mean()),
    num_sequences=len(each),
    num_samples=num_samples,
    seed=seed,
  )


def check_comparable(results: Sequence[LikelihoodResult]):
  """Raises ContractError if the results don't answer the same question; names the difference."""
  for other in results[1:]:
    for field in dataclasses.fields(LikelihoodContract):
      a, b = getattr(results[0].contract, field.name), getattr(other.contract, field.name)
      if a != b:
        raise ContractError(
          f'{results[0].name} and {other.name} can not share a column: {field.name} is {a} and '
          f'{b}; '
          'score them alike (--num_context, --protocol), or say allow_mixed=True'
        )


KL = 'KL/step'  # nats per step, of bounds
HEADER = ('model', 'kind', 'nats/dim', '± s.e.', 'bits/dim', KL, 'scored', 'sequences', 'samples')


def rows(results: Sequence[LikelihoodResult], allow_mixed: bool = False) -> list[tuple[str, ...]]:
  """The cells of a table under `HEADER`, bounds marked with ≤.

  Raises:
    ContractError: the results aren't comparable and `allow_mixed` is False.
  """
  if not allow_mixed:
    check_comparable(results)
  return [
    (
      r.name,
      r.kind,
      f'{"" if r.kind == "exact" else "≤ "}{r.nats_per_dim:.3f}',
      f'{r.standard_error:.3f}',
      f'{r.bits_per_dim:.3f}',
      '–' if r.kl_nats_per_step is None else f'{r.kl_nats_per_step:.2f}',
      '{}..{}'.format(*r.contract.scored_frames),
      str(r.num_sequences),
      str(r.num_samples),
    )
    for r in results
  ]


def table(results: Sequence[LikelihoodResult], allow_mixed: bool = False) -> str:
  """A plain-text table with the contract stated above it; `KL` is there if any result has one."""
  cells = [HEADER, *rows(results, allow_mixed)]
  if all(r.kl_nats_per_step is None for r in results):
    place = HEADER.index(KL)
    cells = [(*row[:place], *row[place + 1 :]) for row in cells]
  widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
  lines = [
    '  '.join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells
  ]
  return '\n'.join([describe(results[0].contract), *lines])


def describe(contract: LikelihoodContract) -> str:
  """One line that says what the numbers are."""
  floor = contract.floor_nats_per_dim
  limit = '' if floor is None else f'; floor {floor:.3f} nats/dim'
  unit = 'log 256 included' if contract.data_space == '8bit' else 'continuous density'
  return (
    f'protocol {contract.protocol}: {contract.dataset} {contract.split}, '
    f'{contract.dequantisation} noise, {unit}{limit}; lower is better'
  )
