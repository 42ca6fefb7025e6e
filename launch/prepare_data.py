r"""Prepares a data set, verifies it, and prints what is in it.

    python launch/prepare_data.py --dataset=moving_digits
    python launch/prepare_data.py --dataset=stochastic_moving_mnist --source=MNIST_DIRECTORY \
        --options=frame_size=32,num_digits=2
    python launch/prepare_data.py --dataset=kth --source=KTH_DIRECTORY --options=persons=svg
    python launch/prepare_data.py --dataset=jsb --source='JSB Chorales.pickle'
    python launch/prepare_data.py --dataset=timit --source=TIMIT_DIRECTORY

A data set that is there already is verified only; one that is damaged, or was made from other files
than --source holds, is replaced. Exit codes: 2 for a mistake in a flag, 3 for source files that are
missing or damaged, 6 for a directory that can't be written or a package that isn't installed.
"""

import os

from absl import flags

from afslvm import building, cli, schema

_DATASET = flags.DEFINE_string('dataset', None, 'Name of the data set.', required=True)
_SOURCE = flags.DEFINE_string('source', None, 'Files that the data set is made from, if any.')
_DATA_DIR = flags.DEFINE_string(
  'data_dir', None, "Root of all data sets; default $TFDS_DATA_DIR, or else TFDS' own default."
)
_OPTIONS = flags.DEFINE_list('options', [], "The data set's options: name=value,name=value.")


def table(builder, manifest) -> str:
  """Returns one line per split: sequences, frames and shape of each, value range, size."""
  unit = 'levels' if builder.data_space == '8bit' else 'values'
  header = ('split', 'sequences', 'frames', 'shape', f'range ({unit})', 'on disk (MB)')
  rows = [header]
  for split, entry in manifest['splits'].items():
    size = sum(file['bytes'] for name, file in manifest['files'].items() if f'-{split}.' in name)
    shape = 'x'.join(map(str, entry['event_shape']))
    value_range = f'{entry["minimum"]:.4g} to {entry["maximum"]:.4g}'
    frames = str(entry['frames'])
    shortest = min(entry.get('lengths', []), default=entry['frames'])
    if shortest < entry['frames']:  # ragged
      frames = f'{shortest}..{frames}'
    counts = (f'{entry["sequences"]:,}', frames)
    rows.append((split, *counts, shape, value_range, f'{size / 1e6:.1f}'))
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  lines = ('  '.join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in rows)
  return '\n'.join(lines)


def main(argv):
  """Prepares, verifies, reports."""
  del argv
  schema.lookup(building.DATASETS, _DATASET.value, '--dataset')
  from afslvm.data import manifest as manifest_lib
  from afslvm.data import options, prepare

  cls = building.dataset_class(_DATASET.value)
  given = options.parse(_DATASET.value, cls.OPTIONS, _OPTIONS.value)
  builder = cls(data_dir=_DATA_DIR.value, source=_SOURCE.value, **given)
  manifest = prepare.prepare(builder)
  print(f'{builder.name} at {os.path.abspath(builder.data_dir)}')
  print(table(builder, manifest))
  for note in manifest.get('notes', []):
    print(note)
  print(f'verified; fingerprint {manifest_lib.fingerprint(manifest)}')


if __name__ == '__main__':
  cli.run(main)
