"""Named protocols: bundles of everything that a likelihood contract fixes."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from afslvm.errors import ConfigError, nearest
from afslvm.evaluation import contract as contract_lib
from afslvm.models.base import SequenceModel

# Of values that are scored as they are: what a model must give of them is a probability.
DISCRETE = (('binary', 'none'), ('8bit', 'discretised'))


@dataclasses.dataclass(frozen=True)
class Protocol:
  """How a model is scored.

  Attributes:
    name: of the protocol.
    noise: for each data space it is for, one of `preprocessing.DEQUANTISATIONS`.
    min_context: steps that are never scored.
    num_scored: steps scored after the context; 0 scores all that the data have.
    num_samples: draws of noise (and latent variables) per sequence.
    summary: one sentence for reports.
    whole_sequences: each sequence is scored to its end, whatever its length.
    average: what leads, see `LikelihoodContract.average`.
  """

  name: str
  noise: Mapping[str, str]
  min_context: int
  num_scored: int
  num_samples: int
  summary: str
  whole_sequences: bool = False
  average: str = contract_lib.LikelihoodContract.average

  @property
  def data_space(self) -> str:
    """The first that it is for."""
    return next(iter(self.noise))

  @property
  def dequantisation(self) -> str:
    """Of that data space."""
    return self.noise[self.data_space]

  def fits(self, data_space: str, dequantisation: str = '') -> bool:
    """Whether it is for such data, and for a model trained with that dequantisation.

    A model of noisy values can be scored with either noise; one of levels without, only so.
    """
    if data_space not in self.noise:
      return False
    return (self.noise[data_space] == 'discretised') == (dequantisation == 'discretised')


WITHOUT_NOISE = {'binary': 'none', 'pcm16': 'none', '8bit': 'discretised'}
PROTOCOLS = {
  protocol.name: protocol
  for protocol in (
    Protocol(
      name='af_paper',
      noise={'8bit': 'gauss256'},
      min_context=3,
      num_scored=10,
      num_samples=1,
      summary='density of x/255 + N(0, 1/256²) at ten frames after three of context per flow, log '
      '256 added: the AF paper’s convention, on fixed crops of the test split',
    ),
    Protocol(
      name='discrete',
      noise={'8bit': 'uniform'},
      min_context=3,
      num_scored=10,
      num_samples=10,
      summary='bound on the probability of the 8-bit frames by uniform dequantisation: mean over '
      'noise draws (elbo), and the log of the mean over whole sequences (iwae-K)',
    ),
    Protocol(
      name='continuous',
      noise={'continuous': 'none'},
      min_context=1,  # the copy-last reference needs a step before the first scored one
      num_scored=0,
      num_samples=1,
      summary='density of continuous data at every step after the context',
    ),
    Protocol(
      name='sequences',
      noise=WITHOUT_NOISE,
      min_context=0,
      num_scored=0,
      num_samples=1,
      summary='negative bound in nats per step of whole sequences, every step scored from the '
      'first one: the mean over all steps, and the mean over sequences of each one’s own mean',
      whole_sequences=True,
      average=contract_lib.OVER_STEPS,
    ),
    Protocol(
      name='avf_paper',
      noise=WITHOUT_NOISE,
      min_context=1,
      num_scored=0,
      num_samples=1,
      summary='free energy of one draw, whole sequences, the first step given and never scored; '
      'the mean over sequences of each one’s mean over its T - 1 scored steps, and “uncorrected” '
      'the same with sums divided by T: the AVF paper’s convention, whose code divides by T',
      whole_sequences=True,
      average=contract_lib.OVER_SEQUENCES,
    ),
  )
}


def find(name: str, data_space: str, dequantisation: str = '') -> Protocol:
  """The protocol `name`; an empty name is the default of the data.

  Args:
    name: of the protocol.
    data_space: of the data.
    dequantisation: that the model was trained with.

  Raises:
    ConfigError: an unknown name, or one for other data.
  """
  fitting = [p for p in PROTOCOLS.values() if p.fits(data_space, dequantisation)]
  if not name and fitting:
    return fitting[0]
  if name not in PROTOCOLS:
    hint = nearest(name, PROTOCOLS) or f'; it is one of {", ".join(PROTOCOLS)}'
    raise ConfigError(f'--protocol={name} is unknown{hint}')
  protocol = PROTOCOLS[name]
  if protocol not in fitting:
    instead = f'use {" or ".join(p.name for p in fitting)}'
    if data_space not in protocol.noise:
      spaces = ' or '.join(protocol.noise)
      raise ConfigError(
        f'--protocol={name} is for {spaces} data, these are {data_space}; {instead}'
      )
    raise ConfigError(
      f'--protocol={name} scores values with dequantisation {protocol.noise[data_space]}, this '
      f'model was trained with {dequantisation or "noise"}; {instead}'
    )
  return protocol


def scored_frames(
  protocol: Protocol, model: SequenceModel, num_frames: int, num_context: int = 0
) -> tuple[int, int]:
  """First and last scored step, for a model and data of `num_frames` steps.

  Of whole sequences the last is `TO_THE_END`, and flows that know what to do with first steps have
  them scored.

  Args:
    protocol: how to score.
    model: its flows' windows are context, of protocols for frames whatever their boundary.
    num_frames: steps that the data have, the longest sequence if they differ.
    num_context: more context than the model needs, to score several models at the same steps.

  Raises:
    ConfigError: less context than the model needs, or more steps than the data have.
  """
  own = model.min_context if protocol.whole_sequences else model.num_context
  needed = max(protocol.min_context, own)
  if num_context and num_context < needed:
    raise ConfigError(f'--num_context={num_context} is too short: this model needs {needed}')
  first = num_context or needed
  last = first + protocol.num_scored - 1 if protocol.num_scored else num_frames - 1
  if not first <= last < num_frames:
    raise ConfigError(
      f'protocol {protocol.name} needs {max(last, first) + 1} frames with a context of {first}, '
      f'the data have {num_frames}; use longer sequences (data.num_frames)'
    )
  if first > model.min_context and model.sees_future:
    raise ConfigError(
      f'protocol {protocol.name} scores from step {first} on, given those before, of which a '
      'posterior that sees later steps (smoothing) makes no bound; use --protocol=sequences'
    )
  return first, contract_lib.TO_THE_END if protocol.whole_sequences else last


def contract(
  protocol: Protocol,
  model: SequenceModel,
  builder: Any,
  label: str,
  split: str,
  frames: tuple[int, int],
) -> contract_lib.LikelihoodContract:
  """What is asked of a model.

  Args:
    protocol: how to score.
    model: its `measure` says what it can give.
    builder: of the data, prepared; its `data_space` and `resolution` count.
    label: of the data in tables.
    split: of the data.
    frames: see `scored_frames`.

  Raises:
    ConfigError: a density is asked of a model of probabilities, or the other way round.
  """
  noise = protocol.noise[builder.data_space]
  if (builder.data_space, noise) in DISCRETE and model.measure == 'density':
    raise ConfigError(
      f'protocol {protocol.name}: this model gives densities, which {builder.data_space} values '
      'without noise do not have; use a likelihood of probabilities'
    )
  if noise in ('gauss256', 'uniform') and model.measure != 'density':
    raise ConfigError(
      f'protocol {protocol.name} adds noise to the values, this model gives probabilities of '
      'levels; use sequences or avf_paper'
    )
  return contract_lib.LikelihoodContract(
    protocol=protocol.name,
    dataset=label,
    split=split,
    data_space=builder.data_space,
    dequantisation=noise,
    context_frames=frames[0],
    scored_frames=frames,
    average=protocol.average,
    measure=model.measure,
    resolution=builder.resolution,
  )
