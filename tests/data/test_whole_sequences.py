"""Whole sequences in buckets: every one once, little padding, few shapes."""

import itertools

import numpy as np
import pytest

from afslvm.data import buckets, pipeline
from afslvm.errors import ConfigError


class Songs:
  """x[t] = 10000 * index + t + 1."""

  dataset, split = 'songs', 'test'

  def __init__(self, lengths, ragged=True):
    self._lengths = np.asarray(lengths)
    self.lengths = self._lengths if ragged else None
    self.num_frames = int(self._lengths.max())

  def __len__(self):
    return len(self._lengths)

  def __getitem__(self, index):
    return (10_000 * index + 1 + np.arange(self._lengths[index]))[:, None]


def log_uniform(count, low=100, high=4000, seed=0):
  rng = np.random.default_rng(seed)
  return np.exp(rng.uniform(np.log(low), np.log(high), count)).astype(int)


SETS = {
  'like Piano': log_uniform(87),
  'a few': log_uniform(5, seed=1),
  'many': log_uniform(2000, 20, 900, seed=2),
  'alike': np.full(33, 50),
  'one': np.array([7]),
  'two kinds': np.array([3] * 50 + [4000]),
}


@pytest.mark.parametrize('batch_size', [1, 7, 16])
@pytest.mark.parametrize('name', SETS)
def test_every_sequence_comes_once_and_whole(name, batch_size):
  source = Songs(SETS[name])
  seen = []
  for batch in pipeline.whole_sequences(source, batch_size=batch_size):
    assert batch['x'].shape[:2] == batch['mask'].shape
    assert batch['index'].dtype == np.int64
    for x, mask, index in zip(batch['x'], batch['mask'], batch['index'], strict=True):
      if index < 0:
        assert not x.any()
        assert not mask.any()
        continue
      length = source.lengths[index]
      np.testing.assert_array_equal(x[:length], source[index])
      assert mask.tolist() == [True] * length + [False] * (len(mask) - length)
      assert not x[length:].any()
      seen.append(int(index))
  assert sorted(seen) == list(range(len(source)))


@pytest.mark.parametrize('batch_size', [1, 4, 16, 64])
@pytest.mark.parametrize('name', ['like Piano', 'many', 'alike', 'two kinds'])
def test_padding_is_bounded_and_shapes_are_few(name, batch_size):
  lengths = SETS[name]
  found = buckets.batches(lengths, batch_size, 2**14)
  shapes = {(batch.rows, batch.length) for batch in found}
  assert len(shapes) <= buckets.MAX_BUCKETS
  assert len({length for _, length in shapes}) == len(shapes)
  assert sum(b.rows * b.length for b in found) <= 1.25 * lengths.sum()
  assert max(rows for rows, _ in shapes) <= batch_size
  assert all(rows * length <= 2**14 for rows, length in shapes)
  assert [b.length for b in found] == sorted(b.length for b in found)


def test_long_sequences_have_smaller_batches():
  lengths = np.array([10] * 64 + [1000] * 8)
  shapes = {b.length: b.rows for b in buckets.batches(lengths, 32, 2000)}
  assert shapes == {10: 32, 1000: 2}


def test_a_sequence_longer_than_a_batch_may_be_is_alone():
  found = buckets.batches(np.array([5000, 5000, 10]), 8, 2000)
  assert [(b.rows, b.length) for b in found] == [(1, 10), (1, 5000), (1, 5000)]


def test_one_bucket_is_enough_for_sequences_of_about_one_length():
  assert len({b.length for b in buckets.batches(np.arange(90, 110), 4, 2**14)}) == 1


def steps(lengths, ends):
  return sum(min(end for end in ends if end >= length) for length in lengths)


@pytest.mark.parametrize('seed', range(8))
def test_buckets_are_the_fewest_and_the_best_of_their_number(seed):
  """Against all ways to divide a few lengths."""
  lengths = np.sort(np.random.default_rng(seed).choice(np.arange(1, 60), 8, replace=False))
  found = [batch.length for batch in buckets.batches(lengths, 1, 2**14)]
  number = len(set(found))

  def best(number):
    chosen = itertools.combinations(lengths[:-1], number - 1)
    return min(steps(lengths, (*ends, lengths[-1])) for ends in chosen)

  assert sum(found) == best(number) <= 1.25 * lengths.sum()
  assert number == 1 or best(number - 1) > 1.25 * lengths.sum()


def test_it_can_be_gone_through_again_and_is_the_same():
  batches = pipeline.whole_sequences(Songs(SETS['a few']), batch_size=2)
  first, second = list(batches), list(batches)
  for a, b in zip(first, second, strict=True):
    assert all(np.array_equal(a[key], b[key]) for key in a)


def test_sequences_of_one_length_are_one_bucket():
  found = list(pipeline.whole_sequences(Songs([6] * 10, ragged=False), batch_size=4))
  assert [batch['x'].shape for batch in found] == [(4, 6, 1)] * 3
  assert [batch['index'].tolist() for batch in found] == [
    [0, 1, 2, 3],
    [4, 5, 6, 7],
    [8, 9, -1, -1],
  ]


@pytest.mark.parametrize('options', [{'batch_size': 0}, {'batch_size': 4, 'max_steps': 0}])
def test_mistakes_are_one_line(options):
  with pytest.raises(ConfigError) as caught:
    pipeline.whole_sequences(Songs([3]), **options)
  assert '\n' not in str(caught.value)
