"""Readers of what this library writes itself: prepared data, checkpoints, records, tables."""

import dataclasses
import functools
import json
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np

from afslvm import building, cli, files, runs
from afslvm.data import prepare
from afslvm.data.moving_digits import MovingDigits
from afslvm.errors import CheckpointError
from afslvm.evaluation import store
from afslvm.reproduction import documents, saved
from afslvm.training import checkpoint, replay
from afslvm.training.workdir import CHANGEABLE, Workdir, flatten
from afslvm.visualization import records

ROOT = pathlib.Path(__file__).resolve().parents[2]
SMALL = {'num_train': 2, 'num_validation': 1, 'num_test': 3, 'num_frames': 2}


@dataclasses.dataclass(frozen=True)
class Reader:
  """A reader of a folder.

  Attributes:
    make: writes intact files into an empty folder and returns the names of those to damage.
    read: what is tested.
    valid: whether a result that isn't the intact one is right all the same; None if there is no
      such result.
  """

  make: Callable[[pathlib.Path], list[str]]
  read: Callable[[pathlib.Path], Any]
  valid: Callable[[Any], bool] | None = None


# ---- prepared data -------------------------------------------------------------------------------


def make_prepared(part):
  """Prepared data, of which the files are damaged that have `part` in their names."""

  def make(folder):
    builder = MovingDigits(str(folder), **SMALL)
    builder.report = lambda line: None
    prepare.prepare(builder)
    inside = pathlib.Path(builder.data_dir)
    return [str(p.relative_to(folder)) for p in sorted(inside.iterdir()) if part in p.name]

  return make


def read_prepared(folder):
  builder = MovingDigits(str(folder), **SMALL)
  source = prepare.open_split(builder, 'test')
  return prepare.fingerprint(builder), [source[index] for index in range(len(source))]


def are_all_there(found):
  """All videos, and no others: records have checksums of their own."""
  return np.array_equal(found[1], list(MovingDigits(**SMALL).sequences('test')))


# ---- checkpoints ---------------------------------------------------------------------------------


def make_checkpoint(folder):
  inside = folder / 'checkpoints' / '3'
  (inside / 'state').mkdir(parents=True)
  for name in ('state/manifest.ocdbt', 'state/d', '_METADATA'):
    (inside / name).write_bytes(name.encode() * 99)
  manifest = {'step': 3, 'parameters_sha256': 'a' * 64, checkpoint.METRIC: 2.5, 'arrays': {}}
  manifest['files'] = checkpoint._file_hashes(inside)
  manifest['sha256'] = files.own_sha256(manifest)
  (inside / checkpoint.MANIFEST).write_text(json.dumps(manifest, indent=1))
  return [p.relative_to(folder).as_posix() for p in inside.rglob('*') if p.is_file()]


def read_checkpoint(folder):
  step = checkpoint.find_good(folder / 'checkpoints')
  if step is None:
    raise CheckpointError('none')
  inside = folder / 'checkpoints' / str(step)
  inner = (p for p in inside.rglob('*') if p.is_file() and p.name != checkpoint.MANIFEST)
  content = {p.name: p.read_bytes() for p in inner}
  return step, checkpoint.read_manifest(inside), content


# ---- config, records -----------------------------------------------------------------------------


@functools.cache
def config():
  return building.build(cli.load_config('configs/smoke.py')).config


def make_run(folder):
  make_checkpoint(folder)
  (folder / 'config.json').write_text(json.dumps(config(), indent=1))
  return ['config.json']


def read_config(folder):
  Workdir(folder).check_config(config(), trained=True)
  return decisive(json.loads((folder / 'config.json').read_text()))


def decisive(values):
  return {key: value for key, value in flatten(values).items() if key not in CHANGEABLE}


def is_same_run(found):
  """Values that decide what was computed are those of the config."""
  return all(found.get(key) == value for key, value in decisive(config()).items())


METRICS = [
  {'step': 1, 'loss': 4.5, 'nats_per_dim': 2.25, 'skipped': 0},
  {'step': 2, 'loss': None, 'nats_per_dim': None, 'skipped': 1},
  {'step': 2, 'validation_nats_per_dim': 2.5, 'kl': 1.5, 'kl_per_step': [1.0, 2.0]},
  {'step': 3, 'loss': 4.0, 'nats_per_dim': 2.0, 'skipped': 1},
]


IDENTITY = {'contract': 1}
DECORRELATION = {'x': {'temporal_correlation': 0.5, 'standard_deviation': 1.25}}


def make_records(folder):
  (folder / 'metrics.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in METRICS))
  (folder / 'receipt.json').write_text(json.dumps({'step': 3, 'total_wall_seconds': 2.5}))
  store.write(folder / 'evaluation' / 'x.json', IDENTITY, [], DECORRELATION)
  return ['metrics.jsonl', 'receipt.json', 'evaluation/x.json']


def read_records(folder):
  workdir = Workdir(folder)
  workdir.truncate_records(2)
  found = records.read(folder)
  answer = store.read_if_current(folder / 'evaluation' / 'x.json', IDENTITY)
  return found.train, found.validation, workdir.validations(), answer


def are_records(found):
  """Whole steps up to the one that is continued, and finite numbers; evaluations are intact.

  One that has lost the very name of its checksum is taken for an older one, which had none.
  """
  train, validation, lines, answer = found
  return (
    all(isinstance(step, int) and value == value for step, value in train + validation)
    and all(line['step'] <= 2 for line in lines)
    and (answer is None or 'sha256' not in answer or answer['decorrelation'] == DECORRELATION)
  )


def make_batch(folder):
  """What training leaves that non-finite steps have ended."""
  batch = {'x': np.arange(24, dtype=np.uint8).reshape(2, 3, 4), 'mask': np.ones((2, 3), bool)}
  np.savez(folder / 'step_7_process_0.npz', step=7, **batch)
  np.savez(folder / 'step_7_process_1.npz', step=7, **batch)
  return ['step_7_process_0.npz', 'step_7_process_1.npz']


# ---- tables --------------------------------------------------------------------------------------


def make_table(folder):
  source = ROOT / 'docs' / 'results' / 'kth_small.json'
  shutil.copyfile(source, folder / saved.JSON)
  return [saved.JSON]


def read_table(folder):
  saved.check(folder, {key: saved.read(folder)[key] for key in saved.SUBJECT})
  return documents.read(folder / saved.JSON)


ALL: dict[str, Reader] = {
  # Checksums of splits are in the fingerprint; what else is in the manifest decides nothing.
  'prepared_json': Reader(make_prepared('.json'), read_prepared, are_all_there),
  'prepared_records': Reader(make_prepared('test.array_record'), read_prepared),
  'checkpoint': Reader(make_checkpoint, read_checkpoint),
  'run_config': Reader(make_run, read_config, is_same_run),
  'run': Reader(make_run, lambda f: runs.load_run(f).built.config, lambda found: True),
  'records': Reader(make_records, read_records, are_records),
  'debug_batch': Reader(make_batch, lambda folder: replay.read_batch(folder, 7)),
  'table': Reader(make_table, read_table, lambda found: True),
}
