"""Named protocols: bundles of everything that a likelihood contract fixes."""

import dataclasses

from afslvm.errors import ConfigError, nearest
from afslvm.models.base import SequenceModel


@dataclasses.dataclass(frozen=True)
class Protocol:
  """How a model is scored.

  Attributes:
    name: of the protocol.
    dequantisation: one of `preprocessing.DEQUANTISATIONS`.
    data_space: of the data it is for.
    min_context: steps that are never scored.
    num_scored: steps scored after the context; 0 scores all that the data have.
    num_samples: draws of noise (and latent variables) per sequence.
    summary: one sentence for reports.
  """

  name: str
  dequantisation: str
  data_space: str
  min_context: int
  num_scored: int
  num_samples: int
  summary: str


PROTOCOLS = {
  protocol.name: protocol
  for protocol in (
    Protocol(
      name='af_paper',
      dequantisation='gauss256',
      data_space='8bit',
      min_context=3,
      num_scored=10,
      num_samples=1,
      summary='density of x/255 + N(0, 1/256²) at ten frames after three of context per flow, log '
      '256 added: the AF paper’s convention, on fixed crops of the test split',
    ),
    Protocol(
      name='discrete',
      dequantisation='uniform',
      data_space='8bit',
      min_context=3,
      num_scored=10,
      num_samples=10,
      summary='bound on the probability of the 8-bit frames by uniform dequantisation: mean over '
      'noise draws (elbo), and the log of the mean over whole sequences (iwae-K)',
    ),
    Protocol(
      name='continuous',
      dequantisation='none',
      data_space='continuous',
      min_context=1,  # the copy-last reference needs a step before the first scored one
      num_scored=0,
      num_samples=1,
      summary='density of continuous data at every step after the context',
    ),
  )
}


def find(name: str, data_space: str) -> Protocol:
  """The protocol `name`; an empty name is the default of the data space.

  Raises:
    ConfigError: an unknown name, or one for other data.
  """
  if not name:
    name = 'continuous' if data_space == 'continuous' else 'af_paper'
  if name not in PROTOCOLS:
    hint = nearest(name, PROTOCOLS) or f'; it is one of {", ".join(PROTOCOLS)}'
    raise ConfigError(f'--protocol={name} is unknown{hint}')
  protocol = PROTOCOLS[name]
  if protocol.data_space != data_space:
    fitting = [p.name for p in PROTOCOLS.values() if p.data_space == data_space]
    raise ConfigError(
      f'--protocol={name} is for {protocol.data_space} data, these are {data_space}; '
      f'use {" or ".join(fitting)}'
    )
  return protocol


def scored_frames(
  protocol: Protocol, model: SequenceModel, num_frames: int, num_context: int = 0
) -> tuple[int, int]:
  """First and last scored step, for a model and data of `num_frames` steps.

  Args:
    protocol: how to score.
    model: its flows' windows are context, whatever their boundary.
    num_frames: steps that the data have.
    num_context: more context than the model needs, to score several models at the same steps.

  Raises:
    ConfigError: less context than the model needs, or more steps than the data have.
  """
  needed = max(protocol.min_context, model.num_context)
  if num_context and num_context < needed:
    raise ConfigError(f'--num_context={num_context} is too short: this model needs {needed}')
  first = num_context or needed
  last = first + protocol.num_scored - 1 if protocol.num_scored else num_frames - 1
  if not first <= last < num_frames:
    raise ConfigError(
      f'protocol {protocol.name} needs {max(last, first) + 1} frames with a context of {first}, '
      f'the data have {num_frames}; use longer sequences (data.num_frames)'
    )
  return first, last
