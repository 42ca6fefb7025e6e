"""From records to batches with Grain: reproducible order, exact state, one shard per process.

Batches are {'x': [b, length, *event], 'mask': bool [b, length]}, writable arrays in the type in
which the data are stored. `batch_size` counts the sequences of one step over all processes, and
process p yields rows p*b to (p+1)*b of that step's batch, b = batch_size / process_count, so the
number of processes changes nothing about which sequences a step sees, in which order.

Of ragged data, sequences of fewer frames than a crop are left out, and how many is logged, unless
`min_frames` says how short they may be: then they are padded with zeros at the end, mask False.
`whole_sequences` and `stream_batches` leave nothing out.

A source with a method `augment(x, rng)` (such as `music.transposed` returns) has it applied to what
training sees.
"""

import functools
import logging

import grain
import numpy as np

from afslvm.data import buckets
from afslvm.errors import ConfigError

# One thread is fastest (measured), and a few batches ahead hide the reading.
_READ_AHEAD = grain.ReadOptions(num_threads=1, prefetch_buffer_size=4)


def training_batches(
  source,
  *,
  batch_size: int,
  length: int,
  seed: int,
  min_frames: int | None = None,
  process_index: int = 0,
  process_count: int = 1,
) -> grain.DatasetIterator:
  """Endless batches of random crops in a new order every epoch.

  The order and the crops are functions of (seed, position) alone, so an iterator that is put back
  into an earlier state repeats itself exactly.

  Args:
    source: random access to sequences [T, *event], such as `prepare.open_split` returns.
    batch_size: sequences per step, over all processes.
    length: frames per crop; it begins anywhere where it fits into the sequence.
    seed: of order and crops, 0..2**32-1.
    min_frames: of ragged data, the fewest frames a sequence needs; by default `length`.
    process_index: this process, 0..process_count-1.
    process_count: number of processes that share each step.

  Returns:
    An iterator with `get_state()` and `set_state(state)`; a state is a JSON object.

  Raises:
    ConfigError: a value out of range. Iterating raises DataError at a damaged record.
  """
  _check_crops(source, length, 0, padded=min_frames is not None)
  _check_shares(batch_size, process_index, process_count)
  _check_seed(seed)
  augment = getattr(source, 'augment', None)
  source = _long_enough(source, length if min_frames is None else min_frames)

  def random_crop(x, rng):
    begin = rng.integers(max(len(x) - length, 0) + 1)
    part = x[begin : begin + length]
    return crop(augment(part, rng) if augment else part, 0, length)

  epochs = 2**48 // len(source)  # endless in practice; beyond 2**53 Grain's lengths overflow
  records = grain.MapDataset.source(source).seed(seed).shuffle().repeat(epochs)
  dataset = records.random_map(random_crop)
  return iter(_share(dataset, batch_size, process_index, process_count))


def evaluation_batches(
  source,
  *,
  batch_size: int,
  length: int,
  start: int = 0,
  min_frames: int | None = None,
  process_index: int = 0,
  process_count: int = 1,
) -> grain.IterDataset:
  """All sequences once, in order, as fixed crops of frames start..start+length-1.

  The last batch is filled up with sequences of zeros whose mask is False, so that all batches have
  one shape and every process gets equally many.

  Args:
    source: random access to sequences [T, *event], such as `prepare.open_split` returns.
    batch_size: sequences per step, over all processes.
    length: frames per crop.
    start: first frame of every crop.
    min_frames: of ragged data, the fewest frames a sequence needs; by default start + length.
    process_index: this process, 0..process_count-1.
    process_count: number of processes that share each step.

  Returns:
    An iterable over dictionaries that can be gone through again and again.

  Raises:
    ConfigError: a value out of range. Iterating raises DataError at a damaged record.
  """
  _check_crops(source, length, start, padded=min_frames is not None)
  _check_shares(batch_size, process_index, process_count)
  source = _long_enough(source, start + length if min_frames is None else min_frames)
  filler = {key: np.zeros_like(value) for key, value in crop(source[0], start, length).items()}

  def fixed_crop(index):
    return crop(source[index], start, length) if index < len(source) else filler

  padded = -(-len(source) // batch_size) * batch_size
  dataset = grain.MapDataset.range(padded).map(fixed_crop)
  return _share(dataset, batch_size, process_index, process_count)


def whole_sequences(
  source, *, batch_size: int, max_steps: int = 2**14, max_buckets: int = buckets.MAX_BUCKETS
) -> grain.IterDataset:
  """All sequences once and whole, those of similar length together.

  Batches have few shapes, [b, T] of one of at most `max_buckets` pairs, and at most a
  quarter is added to the data's steps by padding, wherever so many buckets can do it. The short
  sequences come first. b is at most `batch_size`, and less where b * T would exceed `max_steps`.

  Args:
    source: random access to sequences [T, *event], such as `prepare.open_split` returns.
    batch_size: the most sequences in a batch.
    max_steps: the most steps in a batch, all sequences together; one sequence may have more.
    max_buckets: the most shapes; fewer compile faster and pad more.

  Returns:
    An iterable, again and again, over {'x': [b, T, *event], 'mask': bool [b, T], 'index': int64
    [b]}: the sequences' positions in the split, or -1 for a filler of zeros, mask False everywhere.

  Raises:
    ConfigError: a value below 1. Iterating raises DataError at a damaged record.
  """
  if batch_size < 1 or max_steps < 1:
    raise ConfigError(f'batch_size={batch_size}, max_steps={max_steps}: both need 1 or more')

  def padded(batch: buckets.Batch) -> dict[str, np.ndarray]:
    rows = [crop(source[index], 0, batch.length) for index in batch.indices]
    fillers = batch.rows - len(rows)
    rows += [{key: np.zeros_like(value) for key, value in rows[0].items()}] * fillers
    index = np.array([*batch.indices, *[-1] * fillers], np.int64)
    return {**_stack(rows), 'index': index}

  plan = buckets.batches(_lengths(source), batch_size, max_steps, max_buckets)
  return grain.MapDataset.source(plan).map(padded).to_iter_dataset(_READ_AHEAD)


def stream_batches(
  source,
  *,
  batch_size: int,
  length: int,
  seed: int,
  process_index: int = 0,
  process_count: int = 1,
) -> grain.DatasetIterator:
  """Endless batches whose rows go on where those of the batch before ended.

  Every row goes through all sequences, one following the other, in an order of its own that is new
  in each of its epochs. Every sequence begins at the begin of a batch, so its last part is padded.
  All is a function of (seed, position). An augmentation is drawn for each sequence of each row and
  epoch, the same for all parts of it.

  Args:
    source: random access to sequences [T, *event], such as `prepare.open_split` returns.
    batch_size: rows, over all processes.
    length: steps of every row per batch.
    seed: of orders and augmentations, 0..2**32-1.
    process_index: this process, 0..process_count-1.
    process_count: number of processes that share each step.

  Returns:
    An iterator with `get_state()` and `set_state(state)` over {'x': [b, length, *event], 'mask':
    bool [b, length], 'reset': bool [b], True where a sequence begins}.

  Raises:
    ConfigError: a value out of range. Iterating raises DataError at a damaged record.
  """
  if length < 1:
    raise ConfigError(f'data.length={length}: needs 1 step or more')
  _check_shares(batch_size, process_index, process_count)
  _check_seed(seed)
  share = batch_size // process_count
  rows = range(process_index * share, (process_index + 1) * share)
  streams = _Streams(source, seed, length, cached=2 * share)

  def chunks(index):
    return _stack([streams.part(row, index) for row in rows])

  return iter(grain.MapDataset.range(2**40).map(chunks).to_iter_dataset(_READ_AHEAD))


class _Streams:
  """Endless rows of sequences in parts of `length` steps, readable anywhere."""

  def __init__(self, source, seed: int, length: int, cached: int):
    self._source, self._seed, self._length = source, seed, length
    self._parts = -(-_lengths(source) // length)  # of every sequence
    self._total = int(self._parts.sum())
    self._augment = getattr(source, 'augment', None)
    self._order = functools.lru_cache(cached)(self._order)
    self._sequence = functools.lru_cache(cached)(self._sequence)

  def part(self, row: int, number: int) -> dict[str, np.ndarray]:
    """One part of a row, numbered from its begin."""
    epoch, place = divmod(number, self._total)
    order, ends = self._order(row, epoch)
    position = int(np.searchsorted(ends, place, side='right'))
    index = int(order[position])
    done = place - int(ends[position] - self._parts[index])  # parts of the sequence
    cut = crop(self._sequence(row, epoch, index), done * self._length, self._length)
    return {**cut, 'reset': np.array(done == 0)}

  def _order(self, row: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """The sequences of an epoch [N], and after how many parts each of them ends."""
    order = np.random.default_rng([self._seed, row, epoch]).permutation(len(self._parts))
    return order, np.cumsum(self._parts[order])

  def _sequence(self, row: int, epoch: int, index: int) -> np.ndarray:
    x = self._source[index]
    if self._augment is None:
      return x
    return self._augment(x, np.random.default_rng([self._seed, row, epoch, index + 1]))


def _lengths(source) -> np.ndarray:
  """Steps of every sequence [N], of ragged data or not."""
  lengths = getattr(source, 'lengths', None)
  return np.full(len(source), source.num_frames) if lengths is None else lengths


def crop(x: np.ndarray, start: int, length: int) -> dict[str, np.ndarray]:
  """Returns frames start..start+length-1 of x [T, *event] as {'x', 'mask'}.

  Frames beyond the end of x are zeros with mask False.
  """
  part = x[start : start + length]
  missing = length - len(part)
  if missing:
    part = np.concatenate([part, np.zeros((missing, *x.shape[1:]), x.dtype)])
  return {'x': part, 'mask': np.arange(length) < length - missing}


class _Chosen:
  """Some of a source's sequences."""

  def __init__(self, source, indices: np.ndarray):
    self._source, self._indices = source, indices

  def __len__(self) -> int:
    return len(self._indices)

  def __getitem__(self, index) -> np.ndarray:
    return self._source[self._indices[index]]

  def __repr__(self) -> str:
    return f'{len(self)} of {self._source!r}'


def _long_enough(source, min_frames: int):
  """The sequences of at least `min_frames` frames; logs how many others there are."""
  lengths = getattr(source, 'lengths', None)
  if lengths is None:
    return source
  chosen = np.flatnonzero(lengths >= min_frames)
  if not len(chosen):
    raise ConfigError(
      f'min_frames={min_frames}: the longest sequence of {source.dataset}, split {source.split}, '
      f'has {source.num_frames} frames'
    )
  if len(chosen) == len(source):
    return source
  logging.getLogger('afslvm').info(
    f'{source.dataset}: {source.split}, {len(source) - len(chosen)} of {len(source)} sequences '
    f'have fewer than {min_frames} frames and are left out'
  )
  return _Chosen(source, chosen)


def _share(dataset, batch_size: int, process_index: int, process_count: int) -> grain.IterDataset:
  shares = dataset.batch(batch_size // process_count, batch_fn=_stack)
  return shares[process_index::process_count].to_iter_dataset(_READ_AHEAD)


def _stack(rows) -> dict[str, np.ndarray]:
  # Grain's own stacking gives a view of the read-only record where there is one row.
  return {key: np.stack([row[key] for row in rows]) for key in rows[0]}


def _check_crops(source, length: int, start: int, padded: bool):
  """Raises ConfigError where crops don't fit into the sequences, and aren't padded instead."""
  ragged = getattr(source, 'lengths', None) is not None
  if length < 1 or start < 0 or (start + length > source.num_frames and not (padded and ragged)):
    begin = f' from frame {start}' if start else ''
    which = f' that the longest sequence of split {source.split} has' if ragged else ''
    raise ConfigError(
      f'data.length={length}: crops{begin} must have 1 frame or more and end within the '
      f'{source.num_frames} frames of {source.dataset}{which}'
    )


def _check_shares(batch_size: int, process_index: int, process_count: int):
  """Raises ConfigError where a batch can't be divided among the processes."""
  if not 0 <= process_index < process_count:
    raise ConfigError(f'process_index={process_index}: needs 0..{process_count - 1}')
  if batch_size < 1 or batch_size % process_count:
    raise ConfigError(
      f'batch_size={batch_size}: needs a positive multiple of {process_count} processes'
    )


def _check_seed(seed: int):
  if not 0 <= seed < 2**32:
    raise ConfigError(f'seed={seed}: needs an integer in 0..{2**32 - 1}')
