"""Training crops of piano rolls in another key."""

import numpy as np
import pytest

from afslvm.data import music, pipeline
from afslvm.errors import ConfigError


class Rolls:
  """Sources in memory, whose training notes are columns 20..70."""

  dataset, split, data_space, event_shape = 'rolls', 'train', 'binary', (88,)
  constants = {'note_range': [20, 70]}  # noqa: RUF012

  def __init__(self, *rolls):
    self.rolls = rolls
    self.lengths = np.array([len(x) for x in rolls])
    self.num_frames = int(self.lengths.max())

  def __len__(self):
    return len(self.rolls)

  def __getitem__(self, index):
    return self.rolls[index]


def chord(*columns, steps=6):
  x = np.zeros((steps, 88), np.uint8)
  x[:, columns] = 1
  return x


def shifts(source, semitones, count=400):
  """How far the lowest note of crops is shifted, and how often."""
  batches = pipeline.training_batches(
    music.transposed(source, semitones), batch_size=1, length=4, seed=0
  )
  lowest = [int(np.flatnonzero(next(batches)['x'][0, 0])[0]) for _ in range(count)]
  return np.unique(np.array(lowest), return_counts=True)


def test_crops_are_shifted_uniformly_within_the_range_of_training_notes():
  found, counts = shifts(Rolls(chord(40, 47, 52)), 3)
  assert found.tolist() == [37, 38, 39, 40, 41, 42, 43]
  assert counts.min() > 30
  assert shifts(Rolls(chord(21, 30)), 3)[0].tolist() == [20, 21, 22, 23, 24]
  assert shifts(Rolls(chord(20, 70)), 3)[0].tolist() == [20]


def test_a_chord_keeps_its_intervals_and_silence_is_silent():
  source = music.transposed(Rolls(chord(40, 47), chord()), 12)
  for batch in pipeline.training_batches(source, batch_size=8, length=4, seed=1):
    x = batch['x']
    for row in x:
      columns = np.flatnonzero(row.any(axis=0))
      assert len(columns) in (0, 2)
      assert len(columns) == 0 or columns[1] - columns[0] == 7
    break


def test_transposition_is_a_function_of_seed_and_position():
  source = music.transposed(Rolls(chord(40), chord(50), chord(60)), 5)

  def batches(seed):
    return pipeline.training_batches(source, batch_size=2, length=4, seed=seed)

  reference = [next(it)['x'] for it in [batches(3)] for _ in range(12)]
  first = batches(3)
  for _ in range(5):
    next(first)
  fresh = batches(3)
  fresh.set_state(first.get_state())
  for expected in reference[5:]:
    np.testing.assert_array_equal(next(fresh)['x'], expected)
  assert any((next(it)['x'] != x).any() for it in [batches(4)] for x in reference)


def test_records_and_crops_without_transposition_stay_as_they_are():
  source = Rolls(chord(40))
  assert music.transposed(source, 0) is source
  np.testing.assert_array_equal(music.transposed(source, 5)[0], source[0])
  assert music.transposed(source, 5).lengths.tolist() == [6]


@pytest.mark.parametrize(
  ('changes', 'semitones', 'words'),
  [
    ({'data_space': '8bit'}, 2, 'rolls is no music'),
    ({'event_shape': (87,)}, 2, 'piano rolls of 88 notes'),
    ({}, -1, 'data.transpose=-1'),
    ({}, 1.5, 'data.transpose=1.5'),
    ({}, 88, '0..87'),
  ],
)
def test_mistakes_in_transposition_are_one_line(changes, semitones, words):
  source = Rolls(chord(40))
  for name, value in changes.items():
    setattr(source, name, value)
  with pytest.raises(ConfigError) as caught:
    music.transposed(source, semitones)
  assert words in str(caught.value)
  assert '\n' not in str(caught.value)
