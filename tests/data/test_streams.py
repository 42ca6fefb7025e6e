"""Rows that run through one sequence after another, for training that keeps its state."""

import json

import numpy as np
import pytest

from afslvm.data import music, pipeline
from afslvm.errors import ConfigError

LENGTHS = [3, 9, 5, 12, 1, 20, 7]


class Songs:
  """x[t] = 100 * index + t + 1."""

  dataset, split, num_frames = 'songs', 'train', 20
  lengths = np.array(LENGTHS)

  def __len__(self):
    return len(LENGTHS)

  def __getitem__(self, index):
    return (100 * index + 1 + np.arange(LENGTHS[index]))[:, None]


def stream(source=None, **options):
  return pipeline.stream_batches(
    source or Songs(), **{'batch_size': 4, 'length': 6, 'seed': 3, **options}
  )


def take(iterator, count):
  return [next(iterator) for _ in range(count)]


def rows(batches):
  """Of each row the songs, one after the other; the last may be incomplete."""
  found = [[] for _ in batches[0]['x']]
  for batch in batches:
    for row, (x, mask, reset) in enumerate(
      zip(batch['x'], batch['mask'], batch['reset'], strict=True)
    ):
      if reset:
        found[row].append([])
      assert not np.any(x[~mask])
      found[row][-1].extend(x[mask][:, 0])
  return found


def same(a, b):
  return len(a) == len(b) and all(
    np.array_equal(p[k], q[k]) for p, q in zip(a, b, strict=True) for k in p
  )


@pytest.mark.parametrize('length', [1, 6, 50])
def test_rows_are_whole_sequences_that_begin_with_a_batch(length):
  batches = take(stream(length=length), max(600 // length, 40))
  assert all(batch['x'].shape == (4, length, 1) for batch in batches)
  assert all(batch['mask'][:, 0].all() for batch in batches)
  for songs in rows(batches):
    for song in songs[:-1]:
      np.testing.assert_array_equal(song, Songs()[song[0] // 100][:, 0])


def test_every_row_has_every_sequence_once_per_epoch_in_a_new_order():
  orders = []
  for songs in rows(take(stream(), 150)):
    order = [int(song[0] // 100) for song in songs]
    epochs = [order[i : i + 7] for i in range(0, 63, 7)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len(set(map(tuple, epochs))) > 5
    orders.append(tuple(order[:21]))
  assert len(set(orders)) == 4


def test_the_length_of_a_batch_changes_nothing_about_the_order():
  short, long = (rows(take(stream(length=length), 60)) for length in (5, 8))
  for a, b in zip(short, long, strict=True):
    count = min(len(a), len(b)) - 1
    assert a[:count] == b[:count]


def test_seed_decides():
  assert same(take(stream(), 20), take(stream(), 20))
  assert not same(take(stream(), 20), take(stream(seed=4), 20))


@pytest.mark.parametrize('done', [0, 1, 9, 40])
def test_resumes_exactly(done):
  reference = take(stream(), done + 9)
  first = stream()
  take(first, done)
  state = json.loads(json.dumps(first.get_state()))
  take(first, 3)
  fresh = stream()
  fresh.set_state(state)
  assert same(take(fresh, 9), reference[done:])
  first.set_state(state)
  assert same(take(first, 9), reference[done:])


def test_processes_share_each_step_and_change_nothing():
  whole = take(stream(), 8)
  parts = [take(stream(process_index=p, process_count=2), 8) for p in (0, 1)]
  joined = [{k: np.concatenate([part[i][k] for part in parts]) for k in whole[0]} for i in range(8)]
  assert same(joined, whole)


class Chords(Songs):
  """Song k is a chord of columns 40 and 41 + k."""

  data_space, event_shape = 'binary', (88,)
  constants = {'note_range': [30, 60]}  # noqa: RUF012

  def __getitem__(self, index):
    x = np.zeros((LENGTHS[index], 88), np.uint8)
    x[:, [40, 41 + index]] = 1
    return x


def test_a_sequence_has_one_transposition_from_its_begin_to_its_end():
  batches = take(stream(music.transposed(Chords(), 6), length=4), 200)
  before, lowest = [None] * 4, set()
  for batch in batches:
    for row in range(4):
      notes = batch['x'][row][batch['mask'][row]]
      assert (notes == notes[0]).all()
      if not batch['reset'][row]:
        assert (notes[0] == before[row]).all()
      before[row] = notes[0]
      low, high = np.flatnonzero(notes[0])
      assert high - low in range(1, 8)
      lowest.add(int(low))
  assert lowest == set(range(34, 47))


@pytest.mark.parametrize(
  ('options', 'words'),
  [
    ({'length': 0}, 'length=0'),
    ({'batch_size': 5, 'process_count': 2}, 'batch_size=5'),
    ({'process_index': 2, 'process_count': 2}, 'process_index=2'),
    ({'seed': -1}, 'seed=-1'),
  ],
)
def test_mistakes_are_one_line(options, words):
  with pytest.raises(ConfigError) as caught:
    stream(**options)
  assert words in str(caught.value)
  assert '\n' not in str(caught.value)
