import json

import numpy as np
import pytest

from afslvm.data import pipeline, prepare
from afslvm.errors import ConfigError, DataError


class Numbered:
  """Sequences whose values name the sequence and the frame: x[t] = 1000 * index + t + 1."""

  dataset, split = 'numbered', 'train'

  def __init__(self, size=23, num_frames=10, broken=None):
    self.size, self.num_frames, self.broken = size, num_frames, broken

  def __len__(self):
    return self.size

  def __getitem__(self, index):
    if index == self.broken:
      raise DataError(f'numbered, split train, record {index} is damaged')
    return np.int64(1000 * index + 1) + np.arange(self.num_frames)[:, None]


def take(iterator, count):
  return [next(iterator) for _ in range(count)]


def train(source=None, **options):
  return pipeline.training_batches(
    source or Numbered(), **{'batch_size': 4, 'length': 6, 'seed': 3, **options}
  )


def sequences(batches):
  return [int(x[0, 0] // 1000) for batch in batches for x in batch['x']]


def same(a, b):
  return len(a) == len(b) and all(np.array_equal(p[k], q[k]) for p, q in zip(a, b) for k in p)  # noqa: B905


# ---- training ------------------------------------------------------------------------------------


def test_batches_are_writable_arrays_in_the_native_type():
  batch = next(train())
  assert set(batch) == {'x', 'mask'}
  assert batch['x'].shape == (4, 6, 1)
  assert batch['x'].dtype == np.int64
  assert batch['mask'].shape == (4, 6)
  assert batch['mask'].dtype == bool
  assert batch['mask'].all()
  assert all(a.flags.writeable and a.flags.c_contiguous for a in batch.values())


def test_crops_are_consecutive_frames_and_use_every_start():
  batches = take(train(batch_size=32), 50)
  frames = np.concatenate([batch['x'] for batch in batches])[..., 0] % 1000 - 1
  assert (np.diff(frames, axis=1) == 1).all()
  starts = frames[:, 0]
  share = np.bincount(starts, minlength=5) / len(starts)
  assert len(share) == 5  # frames 0..4 can begin a crop of 6 out of 10
  assert abs(share - 1 / 5).max() < 0.06


def test_whole_sequences_need_no_choice():
  assert (next(train(length=10))['x'][:, 0, 0] % 1000 == 1).all()


def test_every_epoch_shows_all_sequences_in_a_new_order():
  # 23 sequences in batches of 4: epochs end inside batches.
  order = sequences(take(train(), 23))
  epochs = [order[i : i + 23] for i in (0, 23, 46, 69)]
  assert all(sorted(epoch) == list(range(23)) for epoch in epochs)
  assert len({tuple(epoch) for epoch in epochs}) == 4
  assert epochs[0] != list(range(23))


def test_seed_decides_order_and_crops():
  a, b, c = (take(train(seed=seed), 20) for seed in (3, 3, 4))
  assert same(a, b)
  assert sequences(a) != sequences(c)


@pytest.mark.parametrize('done', [0, 1, 5, 6, 40])
def test_resumes_exactly_in_and_across_epochs(done):
  reference = take(train(), done + 12)
  first = train()
  take(first, done)
  state = json.loads(json.dumps(first.get_state()))
  take(first, 3)  # what was read ahead or consumed after the state was taken does not matter
  fresh = train()
  fresh.set_state(state)
  assert same(take(fresh, 12), reference[done:])
  first.set_state(state)
  assert same(take(first, 12), reference[done:])
  assert fresh.get_state() == first.get_state()


@pytest.mark.parametrize('count', [2, 3, 4])
def test_processes_share_each_step_and_change_nothing(count):
  whole = take(train(batch_size=12), 10)
  parts = [
    take(train(batch_size=12, process_index=p, process_count=count), 10) for p in range(count)
  ]
  joined = [
    {key: np.concatenate([part[step][key] for part in parts]) for key in ('x', 'mask')}
    for step in range(10)
  ]
  assert same(joined, whole)


def test_shards_of_one_epoch_are_disjoint():
  shards = [
    set(sequences(take(train(Numbered(24), process_index=p, process_count=2), 6))) for p in (0, 1)
  ]
  assert not shards[0] & shards[1]
  assert shards[0] | shards[1] == set(range(24))


@pytest.mark.parametrize(
  ('options', 'words'),
  [
    ({'length': 11}, ['length=11', '10 frames', 'numbered']),
    ({'length': 0}, ['length=0']),
    ({'batch_size': 0}, ['batch_size=0']),
    ({'batch_size': 5, 'process_count': 2}, ['batch_size=5', '2 processes']),
    ({'process_index': 2, 'process_count': 2}, ['process_index=2', '0..1']),
    ({'seed': -1}, ['seed=-1']),
  ],
)
def test_mistakes_are_one_line(options, words):
  with pytest.raises(ConfigError) as caught:
    train(**options)
  message = str(caught.value)
  assert '\n' not in message
  assert all(word in message for word in words), message


def test_damaged_record_is_named():
  with pytest.raises(DataError, match='numbered, split train, record 7 '):
    take(train(Numbered(broken=7)), 6)


# ---- evaluation ----------------------------------------------------------------------------------


def evaluate(source=None, **options):
  return pipeline.evaluation_batches(
    source or Numbered(), **{'batch_size': 4, 'length': 6, **options}
  )


def test_evaluation_shows_everything_once_in_order_and_pads_the_last_batch():
  batches = list(evaluate(start=2))
  assert len(batches) == 6
  assert {batch['x'].shape for batch in batches} == {(4, 6, 1)}
  x = np.concatenate([batch['x'] for batch in batches])[..., 0]
  mask = np.concatenate([batch['mask'] for batch in batches])
  assert mask.sum() == 23 * 6
  assert mask[:23].all()
  np.testing.assert_array_equal(x[:23], 1000 * np.arange(23)[:, None] + 3 + np.arange(6))
  assert not x[23:].any()
  assert not mask[23:].any()
  assert all(a.flags.writeable and a.flags.c_contiguous for a in batches[-1].values())


def test_evaluation_can_be_repeated():
  batches = evaluate()
  assert same(list(batches), list(batches))


@pytest.mark.parametrize('size', [1, 4, 8, 9, 23])
def test_every_process_gets_equally_many_batches(size):
  source = Numbered(size)
  parts = [list(evaluate(source, process_index=p, process_count=2)) for p in (0, 1)]
  assert len(parts[0]) == len(parts[1])
  steps = zip(*parts, strict=True)
  rows = [(x[0, 0], m.all()) for step in steps for part in step for x, m in zip(part['x'], part['mask'], strict=True)]  # fmt: skip  # noqa: E501
  assert [int(x // 1000) for x, scored in rows if scored] == list(range(size))


@pytest.mark.parametrize('options', [{'length': 11}, {'length': 6, 'start': 5}, {'start': -1}])
def test_evaluation_crops_must_fit(options):
  with pytest.raises(ConfigError, match='10 frames of numbered'):
    evaluate(**options)


def test_crop_pads_a_short_sequence():
  short = pipeline.crop(np.ones((3, 2), np.float32), 1, 4)
  np.testing.assert_array_equal(short['mask'], [True, True, False, False])
  np.testing.assert_array_equal(short['x'], [[1, 1], [1, 1], [0, 0], [0, 0]])
  assert short['x'].dtype == np.float32


def test_arrays_are_writable_even_alone(digits):
  source = prepare.open_split(digits, 'test')
  options = {'batch_size': 1, 'length': 20}
  for batch in (
    next(pipeline.training_batches(source, seed=0, **options)),
    next(iter(pipeline.evaluation_batches(source, **options))),
  ):
    assert all(a.flags.writeable and a.flags.c_contiguous for a in batch.values())


# ---- on real records -----------------------------------------------------------------------------


def test_prepared_data_flow_through_unchanged(digits):
  source = prepare.open_split(digits, 'train')
  batch = next(pipeline.training_batches(source, batch_size=8, length=13, seed=0))
  assert batch['x'].shape == (8, 13, 16, 16, 1)
  assert batch['x'].dtype == np.uint8
  everything = list(pipeline.evaluation_batches(source, batch_size=16, length=20))
  x = np.concatenate([part['x'] for part in everything])[: len(source)]
  np.testing.assert_array_equal(x, list(digits.sequences('train')))
