"""The likelihood contract: a reported likelihood is never a bare float.

Two numbers may stand in one column only if they answer the same question: the same data, the same
noise, the same scored steps. `table` refuses anything else unless told to.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from afslvm.errors import ConfigError, NumericsError
from afslvm.models.base import PRIOR_CHAIN_ELBO
from afslvm.transforms import preprocessing

KINDS = ('exact', 'elbo', PRIOR_CHAIN_ELBO)  # and 'iwae-K', 'fivo-K'
# The least nats/dim that any model can report: the entropy of the noise, log 256 included.
GAUSS256_FLOOR = 0.5 * math.log(2 * math.pi * math.e)
FLOORS = {'gauss256': GAUSS256_FLOOR, 'uniform': 0.0, 'none': None, 'discretised': 0.0}
# The nats/dim that a normal has on uniform noise at best. A model whose last conditional is normal
# has them where it knows every level.
NORMAL_ON_UNIFORM = 0.5 * math.log(2 * math.pi * math.e / 12)
MEASURES = ('density', 'probability', 'bins of the AVF paper')
# Of `scored_frames`: all steps to the end of each sequence.
TO_THE_END = -1
# What a table puts first where sequences differ in length; see `LikelihoodContract.average`.
OVER_STEPS = 'over all scored steps; beside it over sequences of each one’s own mean'
OVER_SEQUENCES = 'over sequences of each one’s mean over its scored steps; beside it over all steps'
# A floor that comes from no noise holds to rounding.
ROUNDING = 1e-5
OF_PRIOR_CHAIN = (
  'prior-chain-elbo: a bound on the likelihood of another model, whose prior is conditioned on its '
  'own draws; not the elbo of the stated model'
)


class ContractError(ConfigError):
  """Numbers that can't be compared were put in one column."""


@dataclasses.dataclass(frozen=True)
class LikelihoodContract:
  """What a likelihood answers; two numbers are comparable exactly when these are equal.

  Attributes:
    protocol: the name of the bundle.
    dataset: name of the data set, with its variant.
    split: 'test', 'validation' or 'train'.
    data_space: '8bit', 'continuous', 'binary' or 'pcm16'.
    dequantisation: one of `preprocessing.DEQUANTISATIONS`.
    context_frames: given and not scored.
    scored_frames: (first, last) scored step, from 0, both included; `TO_THE_END` as last scores
      whole sequences, of whatever length.
    mask_policy: what padding does.
    average: how steps and sequences are weighted in the leading number.
    measure: 'probability' of values that are discrete, or 'density' of values that are not, or are
      no longer once noise is added.
    resolution: the spacing of the values of 'pcm16' in units of their standard deviation: the width
      of a bin, where probabilities are given; None for other data.
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
  measure: str = 'density'
  resolution: float | None = None

  @property
  def floor_nats_per_dim(self) -> float | None:
    """No model can be below it; None for densities of continuous values: they have no bound."""
    return 0.0 if self.measure == 'probability' else FLOORS[self.dequantisation]

  @property
  def whole_sequences(self) -> bool:
    """Whether every sequence is scored to its end; results are in nats per step then."""
    return self.scored_frames[1] == TO_THE_END

  @property
  def scored(self) -> str:
    """'3..12', or 'all from 0'."""
    first, last = self.scored_frames
    return f'all from {first}' if self.whole_sequences else f'{first}..{last}'

  def to_dict(self) -> dict[str, Any]:
    """Plain values, less those of later fields that say nothing new."""
    values = dataclasses.asdict(self)
    for name in ('measure', 'resolution'):
      if values[name] == getattr(type(self), name):
        del values[name]
    return values


class Leading(NamedTuple):
  """The number of a result that a table is sorted by."""

  value: float
  standard_error: float
  unit: str


@dataclasses.dataclass(frozen=True)
class LikelihoodResult:
  """One number and everything needed to believe it; lower is better.

  Attributes:
    name: of the model.
    kind: 'exact', or the bound ('elbo', 'iwae-K', 'fivo-K') that `nats_per_dim` is an upper limit
      by; 'prior-chain-elbo' is a bound of another model than the stated one (`OF_PRIOR_CHAIN`).
      After a context it bounds the predictive density of the model that filters the context with
      its own posterior, as in the papers: draws of the context are not weighed.
    contract: what was asked.
    nats_per_dim: negative log-likelihood, log 256 included for 8-bit data.
    standard_error: of it, over sequences.
    nats_per_sequence: the mean over sequences.
    sequence_mean_nats_per_dim: the mean of each sequence's own nats/dim.
    num_sequences: scored.
    num_samples: draws of noise and latent variables per sequence.
    seed: of those draws.
    kl_nats_per_step: KL(posterior || prior) in the value, None without latent variables.
    normal_on_data: whether the last conditional of the model is normal; see `NORMAL_ON_UNIFORM`.
    nats_per_step: of whole sequences, None otherwise, as all that follows: over all scored steps.
    nats_per_step_error: its standard error over sequences, as a ratio of two sums.
    sequence_mean_nats_per_step: the mean of each sequence's own nats per step.
    sequence_mean_error: its standard error.
    uncorrected_sequence_mean: the same with each sum divided by the sequence's length, which counts
      the steps that were given: as the AVF paper's code reports it.
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
  normal_on_data: bool = False
  nats_per_step: float | None = None
  nats_per_step_error: float | None = None
  sequence_mean_nats_per_step: float | None = None
  sequence_mean_error: float | None = None
  uncorrected_sequence_mean: float | None = None

  def __post_init__(self):
    if self.kind not in KINDS and not self.kind.startswith(('iwae-', 'fivo-')):
      raise ContractError(f'kind={self.kind!r} is none of {", ".join(KINDS)}, iwae-K, fivo-K')

  @property
  def bits_per_dim(self) -> float:
    """nats / log 2."""
    return self.nats_per_dim / math.log(2)

  @property
  def leading(self) -> Leading:
    """Nats per dimension of scored frames; of whole sequences nats per step, averaged as asked."""
    if self.nats_per_step is None:
      return Leading(self.nats_per_dim, self.standard_error, 'nats/dim')
    names = ('nats_per_step', 'nats_per_step_error')
    if self.contract.average == OVER_SEQUENCES:
      names = ('sequence_mean_nats_per_step', 'sequence_mean_error')
    value, error = (getattr(self, name) for name in names)
    return Leading(value, error, 'nats/step')

  def to_json(self) -> dict[str, Any]:
    """Plain values; the contract's fields stand beside the result's."""
    values = {**vars(self)}
    del values['contract']
    contract = self.contract.to_dict()
    contract['scored_frames'] = list(contract['scored_frames'])
    floor = self.contract.floor_nats_per_dim
    for name in _STEP_FIELDS:
      if values[name] is None:
        del values[name]
    if not values['normal_on_data']:
      del values['normal_on_data']
    for name in _ERRORS:
      if math.isnan(values.get(name, 0.0)):
        values[name] = None  # of one sequence; JSON has no NaN
    return {**values, 'bits_per_dim': self.bits_per_dim, **contract, 'floor_nats_per_dim': floor}

  @classmethod
  def from_json(cls, values: dict[str, Any]) -> 'LikelihoodResult':
    """The inverse of `to_json`."""
    keys = {field.name for field in dataclasses.fields(LikelihoodContract)}
    contract = {key: value for key, value in values.items() if key in keys}
    contract['scored_frames'] = tuple(contract['scored_frames'])
    names = {field.name for field in dataclasses.fields(cls)} - {'contract'}
    own = {key: value for key, value in values.items() if key in names}
    for name in _ERRORS:
      if name in own and own[name] is None:
        own[name] = math.nan
    return cls(contract=LikelihoodContract(**contract), **own)


_STEP_FIELDS = (
  *('nats_per_step', 'nats_per_step_error', 'sequence_mean_nats_per_step'),
  *('sequence_mean_error', 'uncorrected_sequence_mean'),
)
_ERRORS = ('standard_error', 'nats_per_step_error', 'sequence_mean_error')


def log_mean_exp(log_weights: np.ndarray, axis: int) -> np.ndarray:
  """Returns the logarithm of the mean of `exp(log_weights)` over an axis."""
  # NumPy's types ask for arguments that have defaults.
  total = np.logaddexp.reduce(log_weights, axis=axis)  # type: ignore[call-overload]
  return total - math.log(log_weights.shape[axis])


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
    log_likelihoods: [N] nats per sequence, of a density without log 256, or of a probability.
    dims: [N] scored dimensions per sequence.
    num_samples: draws per sequence.
    seed: of the draws.

  Raises:
    ContractError: a value below the floor, which would be a bug and not a result.
    NumericsError: a value that isn't finite.
  """
  levels = preprocessing.log_levels(contract.dequantisation)
  nats = -np.asarray(log_likelihoods, np.float64) + levels * dims
  each = nats / dims
  total = float(nats.sum() / dims.sum())
  error = float(each.std(ddof=1) / math.sqrt(len(each))) if len(each) > 1 else float('nan')
  if not math.isfinite(total):
    raise NumericsError(f'{name} scores {total} nats/dim under {contract.protocol}: not a number')
  floor = contract.floor_nats_per_dim
  if floor is not None and total < floor - _slack(contract, dims):
    what = 'of probabilities' if contract.measure == 'probability' else 'of the noise'
    raise ContractError(f'{name}: {total:.4f} nats/dim is below the floor {floor:.4f} {what}')
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


def _slack(contract: LikelihoodContract, dims: np.ndarray) -> float:
  """How far below the floor a total may be."""
  if contract.measure == 'probability':
    return ROUNDING
  # The noise drawn is a sample too: allow its own spread, 1/sqrt(2 dims), five times over.
  return 5.0 / math.sqrt(2.0 * dims.sum())


def with_steps(
  found: LikelihoodResult, log_likelihoods: np.ndarray, steps: np.ndarray, dims_per_step: int
) -> LikelihoodResult:
  """A result with what whole sequences of different lengths have beside it.

  Args:
    found: of the same sequences.
    log_likelihoods: [N] nats per sequence; no noise was added, so that there are no levels to add.
    steps: [N] scored steps of each, 1 or more.
    dims_per_step: the size of an observation.
  """
  nats = -np.asarray(log_likelihoods, np.float64)
  counts = np.asarray(steps, np.float64)
  each, pooled = nats / counts, float(nats.sum()) / float(counts.sum())
  count, error, pooled_error = len(each), math.nan, math.nan
  if count > 1:
    error = float(each.std(ddof=1) / math.sqrt(count))
    # Of a ratio of sums, linearised; equal to the other where all sequences are of one length.
    residuals = (nats - pooled * counts) / counts.mean()
    pooled_error = math.sqrt(float((residuals**2).sum()) / (count - 1) / count)
  uncorrected = None
  if found.contract.average == OVER_SEQUENCES:
    uncorrected = float((nats / (counts + found.contract.context_frames)).mean())
  return dataclasses.replace(
    found,
    standard_error=pooled_error / dims_per_step,
    nats_per_step=pooled,
    nats_per_step_error=pooled_error,
    sequence_mean_nats_per_step=float(each.mean()),
    sequence_mean_error=error,
    uncorrected_sequence_mean=uncorrected,
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
ERROR = '± s.e.'


def rows(
  results: Sequence[LikelihoodResult], allow_mixed: bool = False
) -> list[tuple[tuple[str, str], ...]]:
  """The (heading, cell) pairs of each result, bounds marked with ≤.

  Raises:
    ContractError: the results aren't comparable and `allow_mixed` is False.
  """
  if not allow_mixed:
    check_comparable(results)
  return [
    (
      ('model', r.name),
      ('kind', r.kind),
      *_values(r),
      (KL, '–' if r.kl_nats_per_step is None else f'{r.kl_nats_per_step:.2f}'),
      ('scored', r.contract.scored),
      ('sequences', str(r.num_sequences)),
      ('samples', str(r.num_samples)),
    )
    for r in results
  ]


def _values(r: LikelihoodResult) -> list[tuple[str, str]]:
  limit = '' if r.kind == 'exact' else '≤ '
  per_dim = ('nats/dim', f'{limit}{r.nats_per_dim:.3f}')
  if r.nats_per_step is None:
    return [per_dim, (ERROR, f'{r.standard_error:.3f}'), ('bits/dim', f'{r.bits_per_dim:.3f}')]
  own = [
    ('nats/step', f'{limit}{r.nats_per_step:.3f}'),
    (ERROR, f'{r.nats_per_step_error:.3f}'),
    ('sequence mean', f'{limit}{r.sequence_mean_nats_per_step:.3f}'),
    (ERROR, f'{r.sequence_mean_error:.3f}'),
  ]
  if r.contract.average == OVER_SEQUENCES:
    own = [*own[2:], ('uncorrected', f'{limit}{r.uncorrected_sequence_mean:.3f}'), *own[:2]]
  if r.contract.data_space == 'pcm16':
    own.append(('nats/sample', per_dim[1]))
  if r.contract.data_space == '8bit':
    own += [per_dim, ('bits/dim', f'{r.bits_per_dim:.3f}')]
  return own


def table(results: Sequence[LikelihoodResult], allow_mixed: bool = False) -> str:
  """A plain-text table with the contract stated above it; `KL` is there if any result has one.

  Below it stands which models fit a normal to uniform noise, and what that costs. Results that are
  mixed on purpose stand under one another in the columns of the first.
  """
  found = rows(results, allow_mixed)
  hidden = {KL} if all(r.kl_nats_per_step is None for r in results) else set()
  shown = [[pair for pair in row if pair[0] not in hidden] for row in found]
  cells = [[heading for heading, _ in shown[0]], *([cell for _, cell in row] for row in shown)]
  widths = [max(map(len, column)) for column in itertools.zip_longest(*cells, fillvalue='')]
  lines = [
    '  '.join(c.ljust(w) for c, w in zip(row, widths, strict=False)).rstrip() for row in cells
  ]
  below = [*_normal_on_uniform(results), *footnotes(r.kind for r in results)]
  return '\n'.join([describe(results[0].contract), *lines, *below])


def footnotes(kinds: Iterable[str]) -> list[str]:
  """Returns the lines that must stand below numbers of these kinds."""
  return [OF_PRIOR_CHAIN] if PRIOR_CHAIN_ELBO in set(kinds) else []


def _normal_on_uniform(results: Sequence[LikelihoodResult]) -> list[str]:
  """One line about the models whose last conditional is normal, under uniform noise."""
  names = [r.name for r in results if r.normal_on_data and r.contract.dequantisation == 'uniform']
  if not names:
    return []
  bits = NORMAL_ON_UNIFORM / math.log(2)
  return [
    f'a normal fitted to the uniform noise alone has {bits:.4f} bits/dim; normal are '
    f'{", ".join(dict.fromkeys(names))}'
  ]


def describe(contract: LikelihoodContract) -> str:
  """One line that says what the numbers are."""
  floor = contract.floor_nats_per_dim
  limit = '' if floor is None else f'; floor {floor:.3f} nats/dim'
  what = f'protocol {contract.protocol}: {contract.dataset} {contract.split}'
  if contract.whole_sequences:
    told = ''
    if contract.average == OVER_SEQUENCES:
      told = '; uncorrected: sums divided by all steps, given ones too, as the paper’s code does'
    return (
      f'{what}, whole sequences, {contract.scored}, {_unit(contract)}{limit}{told}; lower is better'
    )
  unit = 'log 256 included' if contract.data_space == '8bit' else 'continuous density'
  return f'{what}, {contract.dequantisation} noise, {unit}{limit}; lower is better'


def _unit(contract: LikelihoodContract) -> str:
  """What is given a probability, or a density, without noise."""
  values = {'binary': 'binary values', '8bit': '8-bit levels', 'pcm16': 'standardised samples'}
  if contract.measure == 'density' or contract.data_space != 'pcm16':
    return f'{contract.measure} of {values.get(contract.data_space, contract.data_space)}'
  width = '' if contract.resolution is None else f' {contract.resolution:.3g} standard deviations'
  return f'probability of the int16 bin{width and f" of{width}"} around each sample'
