"""Sequences of different lengths, from records to batches; splits of several files."""

import json
import logging

import numpy as np
import pytest

from afslvm.data import base, manifest, pipeline, prepare, shards
from afslvm.data.moving_digits import MovingDigits
from afslvm.errors import ConfigError, DataError

LENGTHS = [3, 9, 5, 12, 6, 20, 5]


class Ragged(base.SequenceBuilder):
  """x[t] = 100 * index + t + 1, with an extra that is its negative."""

  ragged = True
  num_frames = 20
  event_shape = (1,)
  data_space = 'continuous'
  lengths = LENGTHS
  EXTRAS = {'action': (2,)}

  def split_size(self, split):
    return len(self.lengths)

  def sequences(self, split):
    for index, length in enumerate(self.lengths):
      x = (100 * index + 1 + np.arange(length, dtype=np.float32))[:, None]
      yield {'x': x, 'action': np.repeat(-x, 2, axis=1)}


@pytest.fixture
def ragged(tmp_path):
  builder = Ragged(str(tmp_path))
  prepare.prepare(builder)
  return builder


@pytest.fixture
def source(ragged):
  return prepare.open_split(ragged, 'train')


def train(source, **options):
  return pipeline.training_batches(source, **{'batch_size': 4, 'length': 6, 'seed': 3, **options})


def take(iterator, count):
  return [next(iterator) for _ in range(count)]


def same(a, b):
  return len(a) == len(b) and all(
    np.array_equal(p[k], q[k]) for p, q in zip(a, b, strict=True) for k in p
  )


# ---- records -------------------------------------------------------------------------------------


def test_records_keep_their_lengths_and_extras(source):
  assert len(source) == 7
  assert source.num_frames == 20
  assert source.lengths.tolist() == LENGTHS
  for index, length in enumerate(LENGTHS):
    record = source.record(index)
    np.testing.assert_array_equal(source[index][:, 0], 100 * index + 1 + np.arange(length))
    np.testing.assert_array_equal(record['action'], -np.repeat(record['x'], 2, axis=1))
  np.testing.assert_array_equal(source.record(-1)['x'], source[6])


def test_fingerprint_covers_values_extras_and_lengths(tmp_path):
  class Others(Ragged):
    name = 'ragged'
    lengths = LENGTHS[::-1]

  class Negative(Ragged):
    name = 'ragged'

    def sequences(self, split):
      yield from ({**r, 'action': r['action'] + 1} for r in super().sequences(split))

  class Regrouped(Ragged):
    name = 'ragged'

    def sequences(self, split):
      """The same values in the same order, with the first two sequences divided elsewhere."""
      a, b, *others = super().sequences(split)
      both = {name: np.concatenate([a[name], b[name]]) for name in a}
      yield {name: values[:8] for name, values in both.items()}
      yield {name: values[8:] for name, values in both.items()}
      yield from others

  found = []
  for index, cls in enumerate((Ragged, Others, Negative, Regrouped)):
    builder = cls(str(tmp_path / str(index)))
    found.append(manifest.fingerprint(prepare.prepare(builder)))
  assert len(set(found)) == 4
  again = Ragged(str(tmp_path / 'again'))
  assert manifest.fingerprint(prepare.prepare(again)) == found[0]


@pytest.mark.parametrize('lengths', [None, 'x', [1, 2], [3, 9, 5, 12, 6, 20, 6]])
def test_untrue_lengths_are_found(ragged, lengths):
  path = f'{ragged.data_dir}/{manifest.NAME}'
  with open(path) as file:
    content = json.load(file)
  content['splits']['train']['lengths'] = lengths
  with open(path, 'w') as file:
    json.dump(content, file)
  with pytest.raises(DataError) as caught:
    prepare.verify(ragged)
  assert '\n' not in str(caught.value)
  assert 'run: python' in str(caught.value)


# ---- training ------------------------------------------------------------------------------------


def test_crops_begin_anywhere_in_their_own_sequence(source):
  batches = take(train(source), 200)
  x = np.concatenate([batch['x'] for batch in batches])[..., 0]
  assert all(batch['mask'].all() for batch in batches)
  assert (np.diff(x, axis=1) == 1).all()
  index, start = np.divmod(x[:, 0].astype(int) - 1, 100)
  share = np.bincount(index, minlength=7) / len(index)
  np.testing.assert_allclose(share, [0, 0.25, 0, 0.25, 0.25, 0.25, 0], atol=0.01)
  for sequence in (1, 3, 4, 5):
    starts = np.bincount(start[index == sequence])
    assert len(starts) == LENGTHS[sequence] - 6 + 1
    np.testing.assert_allclose(starts / starts.sum(), 1 / len(starts), atol=0.1)


def test_left_out_sequences_are_counted(source, caplog):
  with caplog.at_level(logging.INFO, 'afslvm'):
    train(source)
    train(source, length=3)
  assert [r.getMessage() for r in caplog.records] == [
    'ragged: train, 3 of 7 sequences have fewer than 6 frames and are left out'
  ]


def test_short_sequences_are_padded_where_they_are_allowed(source):
  batches = take(train(source, length=8, min_frames=5), 30)
  seen = set()
  for x, mask in ((x, m) for b in batches for x, m in zip(b['x'][..., 0], b['mask'], strict=True)):
    index = int(x[0] // 100)
    length = min(LENGTHS[index], 8)
    assert mask.tolist() == [True] * length + [False] * (8 - length)
    assert not x[length:].any()
    seen.add(index)
  assert seen == {1, 2, 3, 4, 5, 6}


@pytest.mark.parametrize('done', [0, 3, 11])
def test_resumes_exactly(source, done):
  reference = take(train(source), done + 9)
  first = train(source)
  take(first, done)
  state = json.loads(json.dumps(first.get_state()))
  fresh = train(source)
  fresh.set_state(state)
  assert same(take(fresh, 9), reference[done:])


def test_processes_share_each_step_and_change_nothing(source):
  whole = take(train(source), 8)
  parts = [take(train(source, process_index=p, process_count=2), 8) for p in (0, 1)]
  joined = [{k: np.concatenate([part[i][k] for part in parts]) for k in whole[0]} for i in range(8)]
  assert same(joined, whole)


@pytest.mark.parametrize(
  ('options', 'words'),
  [
    ({'length': 21}, ['data.length=21', '20 frames of ragged', 'longest', 'train']),
    ({'length': 2, 'min_frames': 21}, ['min_frames=21', 'has 20 frames']),
  ],
)
def test_crops_longer_than_everything_are_refused(source, options, words):
  with pytest.raises(ConfigError) as caught:
    train(source, **options)
  assert '\n' not in str(caught.value)
  assert all(word in str(caught.value) for word in words)


def test_crops_longer_than_everything_are_padded_where_short_ones_are_allowed(source):
  (x,) = take(train(source, batch_size=7, length=25, min_frames=1), 1)
  assert sorted(x['mask'].sum(axis=1)) == sorted(LENGTHS)
  batch = next(iter(pipeline.evaluation_batches(source, batch_size=7, length=25, min_frames=1)))
  assert batch['x'].shape == (7, 25, 1)
  assert batch['mask'].sum(axis=1).tolist() == LENGTHS


# ---- evaluation ----------------------------------------------------------------------------------


def evaluate(source, **options):
  return list(pipeline.evaluation_batches(source, **{'batch_size': 3, 'length': 6, **options}))


def test_evaluation_takes_the_first_frames_of_all_that_are_long_enough(source):
  batches = evaluate(source)
  assert same(batches, evaluate(source))
  rows = [x[:, 0] for batch in batches for x, m in zip(batch['x'], batch['mask'], strict=True) if m.all()]  # fmt: skip  # noqa: E501
  assert [int(x[0] // 100) for x in rows] == [1, 3, 4, 5]
  assert all((x == x[0] + np.arange(6)).all() and x[0] % 100 == 1 for x in rows)
  later = evaluate(source, start=4, length=3)
  assert [int(x[0, 0]) for b in later for x, m in zip(b['x'], b['mask'], strict=True) if m.all()] == [105, 305, 505]  # fmt: skip  # noqa: E501


def test_evaluation_of_whole_sequences_is_padded(source):
  batches = evaluate(source, length=20, min_frames=1)
  mask = np.concatenate([batch['mask'] for batch in batches])
  x = np.concatenate([batch['x'] for batch in batches])[..., 0]
  assert mask.sum(axis=1).tolist() == [*LENGTHS, 0, 0]
  assert not x[~mask].any()
  np.testing.assert_array_equal(x[2, :5], 201 + np.arange(5))


# ---- splits of several files ---------------------------------------------------------------------

SMALL = {'num_train': 70, 'num_validation': 9, 'num_test': 11}


def test_several_files_hold_the_same_as_one(tmp_path, monkeypatch, digits):
  monkeypatch.setattr(shards, 'SHARD_BYTES', 60_000)  # a sequence has 5 kB
  builder = MovingDigits(str(tmp_path / 'many'), **SMALL)
  prepare.prepare(builder)
  files = sorted(path.name for path in (tmp_path / 'many').rglob('*-train.array_record-*'))
  assert files == [f'moving_digits-train.array_record-{i:05d}-of-00007' for i in range(7)]
  many, one = (prepare.open_split(b, 'train') for b in (builder, digits))
  assert len(many) == len(one)
  np.testing.assert_array_equal(list(many), list(one))
  assert prepare.fingerprint(builder) == prepare.fingerprint(digits)


def test_a_missing_file_of_several_is_named(tmp_path, monkeypatch):
  monkeypatch.setattr(shards, 'SHARD_BYTES', 60_000)
  builder = MovingDigits(str(tmp_path), **SMALL)
  prepare.prepare(builder)
  next(tmp_path.rglob('*-train.array_record-00003-*')).unlink()
  with pytest.raises(DataError, match='train.array_record-00003-of-00007 is missing'):
    prepare.open_split(builder, 'train')


def test_progress_says_how_long_it_will_take(monkeypatch):
  now = [100.0]
  monkeypatch.setattr(base.time, 'monotonic', lambda: now[0])
  said = []
  progress = base.Progress(said.append, 'kth: train')
  for done, seconds in ((1, 1.0), (2, 4.0), (3, 5.0), (10, 8.0), (20, 1000.0)):
    now[0] = 100.0 + seconds
    progress(done, 100, 'sequences')
  assert said == [
    'kth: train, 2 of 100 sequences, 3 min left',
    'kth: train, 10 of 100 sequences, 72 s left',
    'kth: train, 20 of 100 sequences, 67 min left',
  ]


def test_a_split_without_sequences_is_refused(tmp_path):
  class Empty(Ragged):
    lengths = ()

  with pytest.raises(DataError, match='train gave no sequences'):
    prepare.prepare(Empty(str(tmp_path)))
