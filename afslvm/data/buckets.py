"""Which whole sequences share a batch, so that little is padding and few shapes are compiled."""

import dataclasses
from collections.abc import Sequence

import numpy as np

MAX_PADDING = 0.25  # padded steps per step of the data, fillers included
MAX_BUCKETS = 8
MAX_DISTINCT = 512  # lengths told apart when buckets are chosen


@dataclasses.dataclass(frozen=True)
class Batch:
  """Positions of sequences that are padded to `length`; the batch has `rows` of them at most."""

  length: int
  rows: int
  indices: tuple[int, ...]


def batches(
  lengths: np.ndarray, batch_size: int, max_steps: int, max_buckets: int = MAX_BUCKETS
) -> list[Batch]:
  """Divides sequences among batches, the short ones first.

  The fewest buckets are taken, up to `max_buckets`, whose padding is `MAX_PADDING` or less; all
  batches of a bucket have the same shape.

  Args:
    lengths: steps of every sequence [N].
    batch_size: the most sequences in a batch.
    max_steps: the most steps of a batch, padding included, unless it is of one sequence.
    max_buckets: the most shapes that batches may have.
  """
  best: list[Batch] = []
  for ends in _bounds(lengths, max_buckets):
    found = _batches(lengths, ends, batch_size, max_steps)
    if not best or _steps(found) < _steps(best):
      best = found
    if _steps(best) <= (1 + MAX_PADDING) * lengths.sum():
      break
  return best


def _steps(found: Sequence[Batch]) -> int:
  return sum(batch.rows * batch.length for batch in found)


def _batches(lengths: np.ndarray, ends: Sequence[int], batch_size: int, max_steps: int):
  found, order, begin = [], np.argsort(lengths, kind='stable'), 0
  for end in np.searchsorted(lengths[order], ends, side='right'):
    bucket, begin = order[begin:end], int(end)
    longest = int(lengths[bucket[-1]])
    most = max(1, min(batch_size, max_steps // max(longest, 1)))
    rows = -(-len(bucket) // -(-len(bucket) // most))  # as even as can be: few fillers
    for first in range(0, len(bucket), rows):
      found.append(Batch(longest, rows, tuple(map(int, bucket[first : first + rows]))))
  return found


def _bounds(lengths: np.ndarray, max_buckets: int):
  """Yields for 1, 2, .. buckets the longest length of each, such that padding is least."""
  grain = -(-int(lengths.max()) // MAX_DISTINCT)
  values, counts = np.unique(-(-lengths // grain) * grain, return_counts=True)
  below = np.concatenate([[0], np.cumsum(counts)])
  # steps[i, j]: of a bucket of distinct lengths i..j-1; cost[j]: of the best buckets of 0..j-1
  steps = np.full((len(values) + 1, len(values) + 1), np.inf)
  for end in range(1, len(values) + 1):
    steps[:end, end] = values[end - 1] * (below[end] - below[:end])
  cost, choices = steps[0], []
  for _ in range(min(max_buckets, len(values))):
    ends, end = [], len(values)
    for choice in reversed(choices):
      ends.append(end)
      end = int(choice[end])
    yield [int(values[end - 1]) for end in reversed([*ends, end])]
    total = np.where(np.arange(len(cost))[:, None] > 0, cost[:, None], np.inf) + steps
    choices.append(total.argmin(axis=0))
    cost = total.min(axis=0)
