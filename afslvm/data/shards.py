"""A split as numbered files of records, written one after the other in bounded memory."""

import contextlib
import os
from collections.abc import Iterable

import tensorflow_datasets as tfds
from array_record.python import array_record_module

# TFDS' own writer keeps a whole split in memory, and beyond 1 GB asks for TensorFlow.
SHARD_BYTES = 512 * 2**20


def write_split(split: str, examples: Iterable[dict], features, template) -> tfds.core.SplitInfo:
  """Writes the examples of one split in order; a new file begins after `SHARD_BYTES`.

  How many files there will be is known at the end alone, so they get their names then.

  Args:
    split: its name.
    examples: dictionaries that fit `features`.
    features: TFDS' feature connector, which serialises them.
    template: TFDS' template of file names.

  Returns:
    What TFDS notes down about the split.
  """
  counts, sizes, writer = [], [], None
  try:
    for example in examples:
      record = features.serialize_example(example)
      if writer is None or sizes[-1] + len(record) > SHARD_BYTES:
        if writer is not None:
          writer.close()
        # One record a group: any of them can be read alone.
        writer = array_record_module.ArrayRecordWriter(
          _partial(template, len(counts)), 'group_size:1'
        )
        counts.append(0)
        sizes.append(0)
      writer.write(record)
      counts[-1] += 1
      sizes[-1] += len(record)
    if writer is not None:
      writer.close()
  except BaseException:
    with contextlib.suppress(Exception):
      if writer is not None:
        writer.close()
    raise
  for index in range(len(counts)):
    final = template.sharded_filepath(shard_index=index, num_shards=len(counts))
    os.rename(_partial(template, index), final)
  return tfds.core.SplitInfo(
    name=split, shard_lengths=counts, num_bytes=sum(sizes), filename_template=template
  )


def _partial(template, index: int) -> str:
  return f'{template.filepath_prefix()}.partial-{index:05d}'
