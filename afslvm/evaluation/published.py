"""What the papers report in their tables, and when our numbers may stand beside it.

The AF paper gives log-likelihoods in nats per pixel and channel; here, as everywhere in this
library, they are negative, so lower is better. Those of its latent variable models are bounds.
"""

import dataclasses
import math
from typing import NamedTuple

from afslvm.evaluation.contract import LikelihoodContract

PAPER, VIDEOFLOW_PAPER = 'AF paper', 'VideoFlow paper'
PROTOCOL, NUM_SCORED = 'af_paper', 10  # of the AF paper
MODELS = ('1-AF', '2-AF', 'SLVM', 'SLVM + 1-AF')


@dataclasses.dataclass(frozen=True)
class PublishedResult:
  """One number of the paper.

  Attributes:
    model: named as in our tables.
    dataset: as in the paper.
    split: 'test' (Table 1) or 'train' (Table 2).
    nats_per_dim: negative log-likelihood.
    kind: 'exact', or 'elbo' for an upper limit.
    paper: that reports it.
    protocol: of ours, which asks what the paper asked.
  """

  model: str
  dataset: str
  split: str
  nats_per_dim: float
  kind: str
  paper: str = PAPER
  protocol: str = PROTOCOL


_TABLES = {
  'test': {  # Table 1
    'Moving MNIST': (2.15, 2.13, 1.92, 1.86),
    'BAIR': (3.05, 2.90, 3.57, 2.35),
    'KTH': (3.34, 3.35, 4.63, 2.39),
  },
  'train': {  # Table 2
    'Moving MNIST': (2.06, 2.04, 1.93, 1.85),
    'BAIR': (2.98, 2.76, 3.46, 2.31),
    'KTH': (2.95, 2.95, 3.05, 2.21),
  },
}
RESULTS = tuple(
  PublishedResult(model, dataset, split, value, 'elbo' if 'SLVM' in model else 'exact')
  for split, columns in _TABLES.items()
  for dataset, values in columns.items()
  for model, value in zip(MODELS, values, strict=True)
) + (
  # Kumar et al. 2020: 1.87 bits/dim, 10 frames given 3, uniform noise.
  PublishedResult(
    'VideoFlow', 'BAIR', 'test', 1.87 * math.log(2), 'elbo', VIDEOFLOW_PAPER, 'discrete'
  ),
)
DATASETS = tuple(_TABLES['test'])

# Frames that each was scored after.
CONTEXT = {'1-AF': 3, '2-AF': 6, 'SLVM': 3, 'SLVM + 1-AF': 3, 'VideoFlow': 3}

# Table 3, in thousands.
PARAMETERS = {
  'Moving MNIST': (343, 686, 11302, 10592),
  'BAIR': (363, 726, 11325, 10643),
  'KTH': (343, 686, 11302, 10592),
}


class Benchmark(NamedTuple):
  """The sequences that the paper scored, as this library prepares them."""

  dataset: str
  data_config: str  # 'NAME/CONFIG' of our data set
  event_shape: tuple[int, ...]
  words: str
  split: str = 'test'  # as this library calls it


BENCHMARKS = (
  Benchmark(
    'Moving MNIST',
    'moving_mnist/published',
    (64, 64, 1),
    'the last 1,000 sequences of the published mnist_test_seq at 64 x 64',
  ),
  Benchmark(
    'BAIR',
    'bair/image_aux1-val1280',
    (64, 64, 3),
    'the 256 test videos of softmotion30_44k, camera image_aux1',
  ),
  # The paper's code never used its test persons.
  Benchmark('KTH', 'kth/avf-px64', (64, 64, 1), '768 clips of eight persons', 'validation'),
)
# Our names of the data sets, and how far a model of the same size may be from the paper's count.
DATASET_NAMES = {'moving_mnist': 'Moving MNIST', 'bair': 'BAIR', 'kth': 'KTH'}
FRAME_SIDE, SIZE_TOLERANCE = 64, 0.1


class PublishedSize(NamedTuple):
  """An entry of Table 3 beside a model of ours, and why they differ."""

  thousands: int
  dataset: str
  why_different: str


def size_of(
  model: str, dataset: str, event_shape: tuple[int, ...], parameters: int
) -> PublishedSize | None:
  """The paper's count for a model of its size, None for any other.

  Args:
    model: its label, as in `MODELS`.
    dataset: our name of the data set.
    event_shape: of one frame.
    parameters: of our model.
  """
  name = DATASET_NAMES.get(dataset)
  if name is None or model not in MODELS or tuple(event_shape[:2]) != (FRAME_SIDE,) * 2:
    return None
  thousands = PARAMETERS[name][MODELS.index(model)]
  if abs(parameters / (1000 * thousands) - 1) > SIZE_TOLERANCE:
    return None
  return PublishedSize(thousands, name, _why_different(model, name, thousands, parameters))


def _why_different(model: str, dataset: str, thousands: int, parameters: int) -> str:
  if round(parameters / 1000) == thousands:
    return ''
  unused = 'the paper’s code also counts initial values that it never uses'
  if 'SLVM' not in model:
    return f'{unused}; with :learned, which does, the counts agree'
  reasons = ['PyTorch’s LSTM cell has a second vector of biases, 1,024 more a cell', unused]
  if (model, dataset) == ('SLVM + 1-AF', 'BAIR'):
    reasons.append('its code has 10634k, of which 10643k is a transposition')
  return '; '.join(reasons)


def find(dataset: str, split: str, protocol: str = PROTOCOL) -> tuple[PublishedResult, ...]:
  """Returns the numbers for one of the data sets that answer a protocol, in order of `MODELS`."""
  asked = (dataset, split, protocol)
  return tuple(r for r in RESULTS if (r.dataset, r.split, r.protocol) == asked)


def benchmark_of(data_config: str, event_shape: tuple[int, ...]) -> Benchmark | None:
  """The benchmark that our data are, if they are one."""
  for benchmark in BENCHMARKS:
    if (data_config, tuple(event_shape)) == (benchmark.data_config, benchmark.event_shape):
      return benchmark
  return None


def why_not_comparable(
  contract: LikelihoodContract, data_config: str, event_shape: tuple[int, ...]
) -> str:
  """The first reason why the paper's numbers don't belong beside ours, or '' if they do.

  Args:
    contract: of our numbers.
    data_config: 'NAME/CONFIG' of the prepared data.
    event_shape: of one observation.
  """
  benchmark = benchmark_of(data_config, event_shape)
  if benchmark is None:
    shape = ' x '.join(map(str, event_shape))
    return f'{contract.dataset} ({shape}) is none of the paper’s data sets'
  if not find(benchmark.dataset, 'test', contract.protocol):
    return f'scored under the protocol {contract.protocol}; the paper’s convention is {PROTOCOL}'
  if contract.split != benchmark.split:
    return (
      f'scored on the {contract.split} split; the paper’s test figures are of {benchmark.words}, '
      f'the {benchmark.split} split here'
    )
  asked = {CONTEXT[result.model] for result in find(benchmark.dataset, 'test', contract.protocol)}
  if contract.context_frames not in asked:
    return f'{contract.context_frames} frames are given; the paper gives {min(asked)}'
  first, last = contract.scored_frames
  if last - first + 1 != NUM_SCORED:
    return f'{last - first + 1} frames are scored; the paper scores {NUM_SCORED}'
  return ''


# ---- the AVF paper -------------------------------------------------------------------------------

AVF_PAPER = 'AVF paper'
AVF_MEASURES = {'pcm16': 'bins of the AVF paper', '8bit': 'bins of the AVF paper'}


@dataclasses.dataclass(frozen=True)
class AVFBenchmark:
  """Test sequences of the AVF paper, and its nats per step on them (its Tables 1-3).

  Attributes:
    table: ours, of which its values are rows.
    data_config: 'NAME/CONFIG' of our data set.
    words: of the data.
    num_sequences: in the test split.
    num_steps: in all of these; 0 is not known.
    values: {row of our table: nats per step}.
  """

  table: str
  data_config: str
  words: str
  num_sequences: int
  num_steps: int
  values: dict[str, float]


AVF_BENCHMARKS = (
  AVFBenchmark(
    *('avf_1', 'timit/samples200', 'the 1,680 test sentences of TIMIT', 1680, 0),
    {'vrnn': 1082, 'vrnn_avf1': 1105, 'vrnn_avf2': 1071, 'srnn': 1026, 'srnn_avf1': 1024},
  ),
  AVFBenchmark(
    *('avf_2', 'kth/avf-px64', 'the 863 clips of nine persons of KTH Actions', 863, 0),
    {'svg': 15_097, 'svg_avf1': 11_714},
  ),
  AVFBenchmark(
    *('avf_3', 'piano_midi/perbeat2', 'the 25 test pieces of Piano-midi.de', 25, 19_036),
    {'direct': 8.19, 'avf1': 8.12},
  ),
  AVFBenchmark(
    *('avf_3', 'muse_data/perbeat1', 'the 124 test pieces of MuseData', 124, 64_339),
    {'direct': 6.27, 'avf1': 5.99},
  ),
  AVFBenchmark(
    *('avf_3', 'jsb/perbeat1', 'the 77 test chorales of JSB', 77, 4_725),
    {'direct': 6.92, 'avf1': 6.97, 'avf5': 6.77},
  ),
  AVFBenchmark(
    *('avf_3', 'nottingham/perbeat2', 'the 170 test tunes of Nottingham', 170, 44_463),
    {'direct': 3.19, 'avf1': 3.13},
  ),
)


def avf_benchmark_of(table: str, data_config: str) -> AVFBenchmark | None:
  """The benchmark of one of our tables on our data, if they are one."""
  of = ((b, (b.table, b.data_config)) for b in AVF_BENCHMARKS)
  return next((b for b, key in of if key == (table, data_config)), None)


def why_not_avf(
  table: str, contract: LikelihoodContract, data_config: str, lengths: tuple[int, ...]
) -> str:
  """The first reason why the AVF paper's numbers don't belong beside ours, or '' if they do.

  Args:
    table: ours.
    contract: of our numbers.
    data_config: 'NAME/CONFIG' of the prepared data.
    lengths: steps of each sequence that was scored.
  """
  benchmark = avf_benchmark_of(table, data_config)
  if benchmark is None:
    return f'{contract.dataset} is none of the paper’s data sets as it prepared them'
  if (contract.protocol, contract.split) != ('avf_paper', 'test'):
    return (
      f'scored under {contract.protocol} on the {contract.split} split; the paper’s is avf_paper'
    )
  measure = AVF_MEASURES.get(contract.data_space, 'probability')
  if contract.measure != measure:
    return f'{contract.measure} is given here, the paper’s is {measure}'
  steps = benchmark.num_steps or sum(lengths)
  if (len(lengths), sum(lengths)) != (benchmark.num_sequences, steps):
    return (
      f'{len(lengths):,} sequences of {sum(lengths):,} steps were scored; the paper’s are '
      f'{benchmark.words}' + (f', {steps:,} steps' if benchmark.num_steps else '')
    )
  return ''


def corrected_by(lengths: tuple[int, ...]) -> float:
  """Returns the mean of T / (T - 1), which makes the AVF paper's numbers those of a scored step.

  Its code divides the sum over T - 1 scored steps of each test sequence by T.
  """
  return sum(t / (t - 1) for t in lengths if t > 1) / max(sum(t > 1 for t in lengths), 1)
