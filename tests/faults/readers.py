"""Every reader of files that users bring or keep, with an intact input and what else may be read.

Formats with checksums have no `valid`: what is damaged in them is refused, or doesn't matter. In
the others a damage can make another valid file, whose result keeps all that the reader promises.
The content of prepared data is in their fingerprint, which checkpoints and results carry.
"""

import tarfile
import zipfile

import numpy as np

from afslvm import reference_weights
from afslvm.data import (
  audio,
  bair,
  kth_files,
  midi_files,
  music_files,
  sources,
  speech,
  tfrecords,
  video,
)
from tests.data import oracles_video, sounds, test_bair, test_music, test_sources
from tests.faults import run_readers
from tests.faults.run_readers import Reader
from tests.oracles_torch import synthetic_weights

MNIST_COUNTS = (3, 2)
PUBLISHED = (3, 2, 5, 5)


def numbers(*shape, high=256):
  return np.random.default_rng(0).integers(0, high, shape)


def pixels(*shape):
  return numbers(*shape).astype(np.uint8)


def written(name, content):
  """A reader's `make`: one file of given bytes, or that a function of its path writes."""

  def make(folder):
    folder.mkdir(parents=True, exist_ok=True)
    if callable(content):
      content(folder / name)
    else:
      (folder / name).write_bytes(content)
    return [name]

  return make


# ---- music ---------------------------------------------------------------------------------------


def is_music(rolls):
  """Of every split, or of one song and a number."""
  songs = [x for part in rolls.values() for x in part] if isinstance(rolls, dict) else rolls[:1]
  return all(
    x.dtype == np.uint8 and x.ndim == 2 and x.shape[1] == 88 and len(x) and x.max() <= 1
    for x in songs
  )


def songs_in(suffix, valid=is_music):
  name = f'songs.{suffix}'
  return Reader(
    written(name, test_music.WRITERS[name]),
    lambda folder: music_files.read(str(folder / name), (), 1)[0],
    valid,
  )


def write_song(path):
  test_music.write_midi(path.parent, {'train': [[(60, 64), (50,)]]}, names=('train',))
  (path.parent / 'train' / '00.mid').rename(path)
  (path.parent / 'train').rmdir()


# ---- sound ---------------------------------------------------------------------------------------


def sound(name, write):
  return Reader(
    written(name, lambda path: write(path, sounds.noise(700))),
    lambda folder: (audio.rate_of(str(folder / name)), audio.read(str(folder / name))),
    lambda found: found[0] > 0 and found[1].dtype == np.int16 and found[1].ndim == 1,
  )


def write_digits(path):
  np.savez(
    path,
    wave=sounds.noise(300),
    lengths=np.array([100, 120, 80], np.int32),
    digit=np.array([0, 1, 2], np.uint8),
    speaker=np.array([0, 1, 0], np.uint8),
    index=np.array([0, 5, 9], np.uint8),
    speaker_names=np.array(['anna', 'theo']),
    rate=np.array(8000, np.int32),
  )


def read_digits(folder):
  found = speech._digits_of_npz(str(folder / 'digits.npz'))
  return [[d.digit, d.speaker, d.number, d.content, d.wave] for d in found]


# ---- video ---------------------------------------------------------------------------------------


def clip(name, codec, channels):
  return Reader(
    written(name, lambda path: oracles_video.write_video(path, 9 * np.arange(5), codec, (32, 32))),
    lambda folder: list(video.frames(str(folder / name), name, channels)),
    lambda found: all(x.dtype == np.uint8 and x.shape[2:] == (channels,) for x in found),
  )


def are_ranges(found):
  """In order, without overlap, of two frames or more."""
  listed, _ = found
  return all(
    0 <= begin <= end - 2 and (not i or begin >= pairs[i - 1][1])
    for pairs in listed.values()
    for i, (begin, end) in enumerate(pairs)
  )


RANGES = b"""Ranges of frames

person01_boxing_d1\t\tframes\t1-9, 10-24
person12_handclapping_d4\tframes\t1-77, 78-133, 134-238, 237-344
person13_handclapping_d3\t*missing*
"""


VIDEO = pixels(900).tobytes()


def make_kth_zip(folder):
  (folder / '00sequences.txt').write_bytes(b'person01_boxing_d1 frames 1-9\n')
  with zipfile.ZipFile(folder / 'boxing.zip', 'w', zipfile.ZIP_DEFLATED) as archive:
    archive.writestr('person01_boxing_d1_uncomp.avi', VIDEO)
    archive.writestr('readme.txt', 'Boxing.')
  return ['boxing.zip']


def read_kth_zip(folder):
  contents = {}
  for found in kth_files.clips(str(folder)):
    with kth_files.opened(found) as file:
      contents[found.name] = file.read()
  return contents


# ---- robots --------------------------------------------------------------------------------------

EXAMPLES = [test_bair.example(number, num_frames=0) + bytes([10, 0]) for number in range(3)]
RECORDS = b''.join(map(test_bair.framed, EXAMPLES))


def records_of(path, begin, size):
  with open(path, 'rb') as file:
    places = tfrecords.index(file, begin, size, 'records')
    for place in places:
      tfrecords.read(file, *place, 'records')
    return [bytes(path.read_bytes()[at : at + length]) for at, length in places]


def write_tar(path):
  source = path.parent / 'records'
  source.write_bytes(RECORDS)
  with tarfile.open(path, 'w') as archive:
    for name in ('train/traj_0_to_2', 'train/traj_3_to_5', 'test/traj_0_to_2'):
      archive.add(source, f'softmotion30_44k/{name}.tfrecords')
  source.unlink()


def read_tar(folder):
  path = folder / 'bair.tar'
  files = bair._in_tar(str(path))
  return {file.name: records_of(path, file.begin, file.size) for file in files}


# ---- digits --------------------------------------------------------------------------------------


def make_idx(compress):
  def make(folder):
    images = [pixels(count, 28, 28) for count in MNIST_COUNTS]
    test_sources.write_idx(folder, images, compress)
    return sorted(path.name for path in folder.iterdir())

  return make


def are_digits(found):
  return [x.shape for x in found] == [(n, 28, 28) for n in MNIST_COUNTS]


def write_mnist(path):
  np.savez_compressed(path, x_train=pixels(3, 28, 28), x_test=pixels(2, 28, 28))


def read_mnist(folder):
  return sources.load_mnist(str(folder), MNIST_COUNTS)


def read_published(folder):
  return np.array(sources.open_published(str(folder / 'x.npy'), PUBLISHED))


# ---- all -----------------------------------------------------------------------------------------

ALL: dict[str, Reader] = {
  'music_npz': songs_in('npz', valid=None),
  'music_mat': songs_in('mat'),
  'music_pickle': songs_in('pickle'),
  'music_json': songs_in('json'),
  'midi': Reader(
    written('song.mid', write_song), lambda f: midi_files.song(str(f / 'song.mid'), 1), is_music
  ),
  'wav': sound('x.wav', sounds.riff),
  'sphere': sound('x.wav', sounds.sphere),
  'flac': sound('x.flac', sounds.riff),
  'digits_npz': Reader(written('digits.npz', write_digits), read_digits),
  'kth_ranges': Reader(
    written('00sequences.txt', RANGES), lambda f: kth_files.ranges(str(f)), are_ranges
  ),
  # A video whose name is damaged is no video of the set, and listed as missing.
  'kth_zip': Reader(make_kth_zip, read_kth_zip, lambda found: set(found.values()) <= {VIDEO}),
  'avi': clip('x.avi', 'mpeg4', 1),
  'gif': clip('x.gif', 'gif', 3),
  'video_npz': Reader(
    written('x.npz', lambda path: np.savez(path, a=pixels(3, 8, 8), b=pixels(2, 8, 8, 3))),
    lambda f: [list(frames) for frames in video.npz_videos(str(f / 'x.npz'), 3)],
  ),
  'tfrecords': Reader(
    written('x.tfrecords', RECORDS),
    lambda f: records_of(f / 'x.tfrecords', 0, (f / 'x.tfrecords').stat().st_size),
    lambda found: set(found) <= set(EXAMPLES),  # whole records may be missing, and are counted
  ),
  'bair_tar': Reader(
    written('bair.tar', write_tar),
    read_tar,
    lambda found: {x for part in found.values() for x in part} <= set(EXAMPLES),
  ),
  'mnist_idx': Reader(make_idx(compress=False), read_mnist, are_digits),
  'mnist_idx_gz': Reader(make_idx(compress=True), read_mnist),
  'mnist_npz': Reader(written('mnist.npz', write_mnist), read_mnist),
  'published_npy': Reader(
    written('x.npy', lambda path: np.save(path, pixels(*PUBLISHED))),
    read_published,
    lambda found: (found.shape, found.dtype) == (PUBLISHED, np.uint8),
  ),
  'reference_weights': Reader(
    written('w.npz', lambda path: np.savez(path, **synthetic_weights(num_flows=1))),
    lambda f: reference_weights.load(f / 'w.npz', frame_size=(8, 8))[1],
  ),
  **run_readers.ALL,
}
