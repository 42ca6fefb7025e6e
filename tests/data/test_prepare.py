import json
import pathlib

import numpy as np
import pytest

from afslvm.data import manifest, pipeline, prepare
from afslvm.data.base import SPLITS
from afslvm.data.moving_digits import MovingDigits
from afslvm.data.moving_mnist import MovingMnist
from afslvm.errors import ConfigError, DataError

SMALL = {'num_train': 70, 'num_validation': 9, 'num_test': 11}


def one_line(caught, *words):
  message = str(caught.value)
  assert '\n' not in message
  assert all(word in message for word in words), message


def folder(builder):
  return pathlib.Path(builder.data_dir)


def shard(builder, split):
  (path,) = folder(builder).glob(f'*-{split}.array_record-*')
  return path


def flip(path, where=0.5):
  content = bytearray(path.read_bytes())
  content[int(where * len(content))] ^= 16
  path.write_bytes(content)


# ---- intact data ---------------------------------------------------------------------------------


def test_manifest_states_counts_shapes_ranges_and_checksums(digits):
  content = prepare.verify(digits)
  for split, count in zip(SPLITS, (70, 9, 11), strict=True):
    entry = content['splits'][split]
    assert entry['sequences'] == count
    assert entry['frames'] == 20
    assert entry['event_shape'] == [16, 16, 1]
    assert entry['dtype'] == 'uint8'
    assert (entry['minimum'], entry['maximum']) == (0, 255)
  assert set(content['files']) == {p.name for p in folder(digits).iterdir()} - {manifest.NAME}
  assert len(content['files']) == 5


def test_records_are_what_was_drawn(digits):
  for split in SPLITS:
    source = prepare.open_split(digits, split)
    expected = list(digits.sequences(split))
    assert len(source) == len(expected)
    np.testing.assert_array_equal(source[-1], expected[-1])
    np.testing.assert_array_equal(list(source), expected)
    with pytest.raises(IndexError):
      source[len(source)]


def test_preparing_again_changes_nothing(digits):
  before = {p: p.stat().st_mtime_ns for p in folder(digits).iterdir()}
  prepare.prepare(digits)
  assert {p: p.stat().st_mtime_ns for p in folder(digits).iterdir()} == before


def test_fingerprint_is_of_the_content(digits):
  assert len(prepare.fingerprint(digits)) == 16
  assert prepare.fingerprint(digits) == manifest.fingerprint(prepare.verify(digits))


def test_unknown_split_names_the_nearest(digits):
  with pytest.raises(ConfigError) as caught:
    prepare.open_split(digits, 'valid')
  one_line(caught, 'split=valid', 'train, validation, test', 'did you mean "validation"')


# ---- missing data --------------------------------------------------------------------------------


def test_embedded_data_prepare_themselves_and_say_so(tmp_path, monkeypatch):
  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path))
  builder = MovingDigits(**SMALL)
  said = []
  builder.report = said.append
  assert len(prepare.open_split(builder, 'test')) == 11
  assert said == [f'moving_digits: preparing {builder.data_dir}']
  assert str(tmp_path) in builder.data_dir


def test_missing_data_say_path_layout_and_command(tmp_path):
  builder = MovingMnist(str(tmp_path / 'my data'), frame_size=32)
  for attempt in (
    lambda: prepare.open_split(builder, 'train'),
    lambda: prepare.verify(builder),
    lambda: prepare.fingerprint(builder),
  ):
    with pytest.raises(DataError) as caught:
      attempt()
    one_line(
      caught,
      f'there is no {builder.data_dir}',
      'moving_mnist-{train,validation,test}.array_record-*',
      f"python launch/prepare_data.py --dataset=moving_mnist '--data_dir={tmp_path}/my data'",
      '--options=frame_size=32',
      '--source=PATH',
    )
  assert list(tmp_path.iterdir()) == []


def test_no_network_and_no_source_says_how_to_pass_one(tmp_path, monkeypatch):
  def offline(*args, **kwargs):
    raise OSError('no network')

  monkeypatch.setattr('urllib.request.urlopen', offline)
  with pytest.raises(DataError) as caught:
    prepare.prepare(MovingMnist(str(tmp_path)))
  one_line(caught, 'could not download', 'no network', '--source=PATH', '.npz')
  with pytest.raises(DataError) as caught:
    prepare.prepare(MovingMnist(str(tmp_path), published=True))
  one_line(caught, 'mnist_test_seq.npy', '--source=PATH')


# ---- damaged data --------------------------------------------------------------------------------


def truncate(path):
  path.write_bytes(path.read_bytes()[:-1])


FILES = [
  'moving_digits-train.array_record-00000-of-00001',
  'moving_digits-test.array_record-00000-of-00001',
  'dataset_info.json',
  'features.json',
  manifest.NAME,
]
DAMAGES = {'truncated': truncate, 'flipped': flip, 'deleted': pathlib.Path.unlink}


@pytest.mark.parametrize('damage', DAMAGES)
@pytest.mark.parametrize('name', FILES)
def test_any_damage_fails_verification_and_is_repaired(digits, name, damage):
  sound = prepare.fingerprint(digits)
  DAMAGES[damage](folder(digits) / name)
  # A new builder must be constructible in front of damaged files as well.
  builder = MovingDigits(str(digits.given_data_dir), **SMALL)
  with pytest.raises(DataError) as caught:
    prepare.verify(builder)
  one_line(caught, name, builder.data_dir, 'run: python launch/prepare_data.py')
  # Opening finds all of it but a flip inside a large file, which is found when it is read.
  if not (damage == 'flipped' and 'array_record' in name):
    with pytest.raises(DataError, match='run: python'):
      prepare.open_split(builder, 'train')
  said = []
  builder.report = said.append
  prepare.prepare(builder)
  assert len(said) == 1
  assert 'it will be replaced' in said[0]
  assert manifest.fingerprint(prepare.verify(builder)) == sound
  np.testing.assert_array_equal(
    prepare.open_split(builder, 'test')[3], list(builder.sequences('test'))[3]
  )


@pytest.mark.parametrize(
  'edit',
  [
    lambda content: '[]',
    lambda content: '{}',
    lambda content: json.dumps({**content, 'dataset': 'other'}),
    lambda content: json.dumps({**content, 'version': '0.0.1'}),
    lambda content: json.dumps({**content, 'files': {'../../x': {'bytes': 1, 'sha256': ''}}}),
    lambda content: json.dumps({**content, 'files': [1]}),
    lambda content: json.dumps({**content, 'splits': {**content['splits'], 'test': []}}),
  ],
)
def test_untrue_manifest_is_refused(digits, edit):
  path = folder(digits) / manifest.NAME
  path.write_text(edit(json.loads(path.read_text())))
  with pytest.raises(DataError) as caught:
    prepare.open_split(digits, 'train')
  one_line(caught, manifest.NAME, 'run: python')


def test_wrong_counts_in_the_manifest_fail_verification(digits):
  path = folder(digits) / manifest.NAME
  content = json.loads(path.read_text())
  content['splits']['test']['sequences'] = 12
  path.write_text(json.dumps(content))
  with pytest.raises(DataError) as caught:
    prepare.verify(digits)
  one_line(caught, 'test has sequences 11, not 12')


def test_flip_in_a_record_is_reported_with_its_index(digits):
  flip(shard(digits, 'train'), 3000 / 131_072)  # the records fill the file's first 14 kB
  source = prepare.open_split(digits, 'train')
  bad = [index for index in range(len(source)) if is_damaged(source, index)]
  assert len(bad) == 1
  with pytest.raises(DataError) as caught:
    list(pipeline.evaluation_batches(source, batch_size=8, length=20))
  place = f'moving_digits, split train, record {bad[0]} in {digits.data_dir} is damaged'
  one_line(caught, place, 'run: python')
  batches = pipeline.training_batches(source, batch_size=8, length=13, seed=0)
  with pytest.raises(DataError, match=f'split train, record {bad[0]} '):
    [next(batches) for _ in range(10)]


def is_damaged(source, index):
  try:
    source[index]
  except DataError:
    return True
  return False
