import gzip
import hashlib
import io
import struct
import urllib.error
import zipfile

import numpy as np
import pytest

from afslvm.data import sources
from afslvm.errors import DataError

COUNTS = (120, 20)
STEMS = ('train-images-idx3-ubyte', 't10k-images-idx3-ubyte')


def idx(images):
  return struct.pack('>IIII', 0x803, *images.shape) + images.tobytes()


def write_idx(folder, images, compress, dots=False):
  folder.mkdir(exist_ok=True)
  for stem, part in zip(STEMS, images, strict=True):
    name = stem.replace('-idx3', '.idx3') if dots else stem
    if compress:
      (folder / f'{name}.gz').write_bytes(gzip.compress(idx(part)))
    else:
      (folder / name).write_bytes(idx(part))
  return str(folder)


def refused(source, *words):
  with pytest.raises(DataError) as caught:
    sources.load_mnist(str(source), COUNTS)
  message = str(caught.value)
  assert '\n' not in message
  assert str(source) in message
  assert all(word in message for word in words), message


# ---- what is read --------------------------------------------------------------------------------


@pytest.mark.parametrize(('compress', 'dots'), [(True, False), (False, False), (False, True)])
def test_idx_files(tmp_path, tiny_mnist, compress, dots):
  folder = write_idx(tmp_path / 'mnist', tiny_mnist, compress, dots)
  for found, expected in zip(sources.load_mnist(folder, COUNTS), tiny_mnist, strict=True):
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize('save', [np.savez, np.savez_compressed])
@pytest.mark.parametrize('by_folder', [True, False])
def test_npz_file(tmp_path, tiny_mnist, save, by_folder):
  path = tmp_path / 'mnist.npz'
  save(path, x_train=tiny_mnist[0], y_train=np.arange(120), x_test=tiny_mnist[1])
  found = sources.load_mnist(str(tmp_path if by_folder else path), COUNTS)
  for a, b in zip(found, tiny_mnist, strict=True):
    np.testing.assert_array_equal(a, b)


def test_real_mnist_has_the_expected_counts(real_mnist):
  train, test = sources.load_mnist(real_mnist)
  assert train.shape == (60_000, 28, 28)
  assert test.shape == (10_000, 28, 28)
  # Mean intensities of MNIST, known from the literature: 0.1307 and 0.1325 of full scale.
  assert abs(train.mean() / 255 - 0.1307) < 1e-4
  assert abs(test.mean() / 255 - 0.1325) < 1e-4


# ---- what is refused: idx ------------------------------------------------------------------------


def test_missing_source_says_what_is_expected(tmp_path):
  refused(tmp_path / 'nowhere', 'no such file', 'train-images-idx3-ubyte')
  refused(tmp_path, 'no train-images-idx3-ubyte', '.npz')


@pytest.mark.parametrize('compress', [True, False])
@pytest.mark.parametrize('keep', [0, 10, 16, 2000])
def test_truncated_idx(tmp_path, tiny_mnist, compress, keep):
  folder = write_idx(tmp_path / 'mnist', tiny_mnist, compress)
  path = tmp_path / 'mnist' / (STEMS[0] + ('.gz' if compress else ''))
  path.write_bytes(path.read_bytes()[:keep])
  refused(folder, STEMS[0], '120 images of 28x28')


@pytest.mark.parametrize(
  'content',
  [
    struct.pack('>IIII', 0x801, 120, 28, 28) + bytes(120 * 784),
    struct.pack('>IIII', 0x803, 119, 28, 28) + bytes(119 * 784),
    struct.pack('>IIII', 0x803, 120, 28, 28) + bytes(120 * 784 + 1),
    struct.pack('>IIII', 0x803, 2**31, 28, 28),
    b'<html>not found</html>',
  ],
)
def test_wrong_idx(tmp_path, tiny_mnist, content):
  folder = write_idx(tmp_path / 'mnist', tiny_mnist, compress=False)
  (tmp_path / 'mnist' / STEMS[0]).write_bytes(content)
  refused(folder, STEMS[0], '120 images of 28x28')


def test_damaged_gzip(tmp_path, tiny_mnist):
  folder = write_idx(tmp_path / 'mnist', tiny_mnist, compress=True)
  path = tmp_path / 'mnist' / f'{STEMS[1]}.gz'
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 4
  path.write_bytes(content)
  refused(folder, STEMS[1], 'reading failed')


# ---- what is refused: npz ------------------------------------------------------------------------


class Bomb:
  """An object whose unpickling would be noticed."""

  def __reduce__(self):
    return (pytest.fail, ('the pickle was executed',))


@pytest.mark.parametrize(
  ('arrays', 'words'),
  [
    ({'x_train': np.zeros((120, 28, 28), np.uint8)}, ['no array x_test', 'x_train.npy']),
    ({'a': np.zeros(3)}, ['no array x_train']),
    ({'x_train': np.zeros((119, 28, 28), np.uint8)}, ['(120, 28, 28)', '(119, 28, 28)']),
    ({'x_train': np.zeros((120, 28, 28))}, ['uint8', 'float64']),
    ({'x_train': np.array([Bomb()], dtype=object)}, ['uint8', 'object']),
  ],
)
def test_wrong_npz(tmp_path, arrays, words):
  path = tmp_path / 'mnist.npz'
  if 'no array' not in words[0]:
    arrays = {**arrays, 'x_test': np.zeros((20, 28, 28), np.uint8)}
  np.savez(path, **arrays)
  refused(path, *words)


def test_npz_that_promises_more_than_it_holds(tmp_path):
  """A header may claim any size: nothing is allocated for it."""
  path = tmp_path / 'mnist.npz'
  for claimed, words in [((10**9, 28, 28), '(1000000000, 28, 28)'), ((120, 28, 28), 'found')]:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
      header, {'descr': '|u1', 'fortran_order': False, 'shape': claimed}
    )
    with zipfile.ZipFile(path, 'w') as archive:
      archive.writestr('x_train.npy', header.getvalue() + bytes(100))
      archive.writestr('x_test.npy', b'')
    refused(path, words)


@pytest.mark.parametrize('keep', [0, 100, 50_000])
def test_truncated_npz(tmp_path, tiny_mnist, keep):
  path = tmp_path / 'mnist.npz'
  np.savez(path, x_train=tiny_mnist[0], x_test=tiny_mnist[1])
  path.write_bytes(path.read_bytes()[:keep])
  refused(path, 'reading failed')


def test_bit_flip_in_npz(tmp_path, tiny_mnist):
  path = tmp_path / 'mnist.npz'
  np.savez(path, x_train=tiny_mnist[0], x_test=tiny_mnist[1])
  content = bytearray(path.read_bytes())
  content[50_000] ^= 1
  path.write_bytes(content)
  refused(path, 'reading failed', 'CRC')


# ---- the published npy ---------------------------------------------------------------------------


def test_published_npy(tmp_path):
  videos = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 5)).astype(np.uint8)
  path = tmp_path / 'videos.npy'
  np.save(path, videos)
  np.testing.assert_array_equal(sources.open_published(str(path), (3, 4, 5, 5)), videos)


@pytest.mark.parametrize(
  'damage', ['shape', 'dtype', 'object', 'truncated', 'empty', 'missing', 'npz']
)
def test_wrong_published_npy(tmp_path, damage):
  path = tmp_path / 'videos.npy'
  good = np.zeros((3, 4, 5, 5), np.uint8)
  content = {
    'shape': good[:2], 'dtype': good.astype(np.int16), 'object': np.array([Bomb()], dtype=object)
  }.get(damage, good)  # fmt: skip
  np.save(path, content)
  if damage == 'truncated':
    path.write_bytes(path.read_bytes()[:200])
  if damage == 'empty':
    path.write_bytes(b'')
  if damage == 'missing':
    path.unlink()
  if damage == 'npz':
    with open(path, 'wb') as file:
      np.savez(file, good)
  with pytest.raises(DataError) as caught:
    sources.open_published(str(path), (3, 4, 5, 5))
  message = str(caught.value)
  assert message.startswith(f'{path}: expected the published mnist_test_seq.npy')
  assert '\n' not in message


# ---- downloads -----------------------------------------------------------------------------------

URL = 'https://example.org/file'


@pytest.fixture
def web(monkeypatch):
  """Answers every request with `web.content`, or raises it."""

  class Web:
    content: object = b'some bytes'

    def open(self, url, timeout):
      assert timeout
      if isinstance(self.content, Exception):
        raise self.content
      return io.BytesIO(self.content)

  instance = Web()
  monkeypatch.setattr('urllib.request.urlopen', instance.open)
  return instance


def test_download_keeps_what_has_the_right_checksum(tmp_path, web):
  path = tmp_path / 'new' / 'file'
  sources.download(URL, str(path), hashlib.sha256(web.content).hexdigest())
  assert path.read_bytes() == web.content
  assert [p.name for p in path.parent.iterdir()] == ['file']


@pytest.mark.parametrize(
  ('content', 'words'),
  [
    (b'<html>', 'SHA-256'),
    (urllib.error.URLError('Name or service not known'), 'Name or service not known'),
    (urllib.error.HTTPError(URL, 404, 'Not Found', {}, None), '404'),
    (TimeoutError('timed out'), 'timed out'),
    (b'x' * 100, 'longer than 50 bytes'),
  ],
)
def test_failed_download_leaves_nothing(tmp_path, web, content, words):
  web.content = content
  with pytest.raises(DataError, match=words) as caught:
    sources.download(URL, str(tmp_path / 'file'), 'a' * 64, max_bytes=50)
  assert '\n' not in str(caught.value)
  assert URL in str(caught.value)
  assert list(tmp_path.iterdir()) == []


def test_only_https_is_downloaded(tmp_path, web):
  with pytest.raises(DataError, match='only https'):
    sources.download('http://example.org/file', str(tmp_path / 'file'), 'a' * 64)
  assert all(url.startswith('https://') for url, _ in sources.DOWNLOADS.values())


def test_fetch_downloads_once_and_replaces_damage(tmp_path, web, monkeypatch):
  digest = hashlib.sha256(b'some bytes').hexdigest()
  monkeypatch.setitem(sources.DOWNLOADS, 'file', ('https://example.org/', digest))
  said = []
  for _ in range(2):
    assert sources.fetch('file', str(tmp_path), said.append) == str(tmp_path / 'file')
  assert said == ['downloading https://example.org/file']
  (tmp_path / 'file').write_bytes(b'damaged')
  sources.fetch('file', str(tmp_path), said.append)
  assert (tmp_path / 'file').read_bytes() == b'some bytes'
  assert len(said) == 2
