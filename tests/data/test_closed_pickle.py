"""Pickles are read as plain values, and refused where they hold anything else."""

import copyreg
import os
import pickle
import random
import subprocess
import sys

import numpy as np
import pytest

from afslvm.data import closed_pickle

SONGS = {
  'train': [[(60, 64), (), (67,)], [(21, 108)]],
  'valid': [[[30]]],
  'test': [],
}


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_come_back(protocol):
  values = {'a': [1, -2, 2**40, 1.5, None, True, False, 'ü', ()], 'b': (1, 2, 3, [4]), 'c': SONGS}
  assert closed_pickle.loads(pickle.dumps(values, protocol)) == values


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize('kind', ['i1', 'u1', 'i2', '>i2', 'u4', 'i8', '<i8', '>i8', 'u8'])
def test_numpy_integers_become_integers(protocol, kind):
  values = [np.dtype(kind).type(value) for value in (0, 60, 108, 127)]
  scalars = [np.array(value, kind)[()] for value in values]
  found = closed_pickle.loads(pickle.dumps(scalars, protocol))
  assert found == [0, 60, 108, 127]
  assert all(type(value) is int for value in found)


def test_bytes_in_the_other_order():
  # NumPy writes numbers in the order of its machine, so such a pickle is spelled out.
  def spelled(order):
    return (
      b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(S'i2'\nI0\nI1\ntR(I3\nS'%s'\nNNNI-1\n"
      b"I-1\nI0\ntbS'\\x01\\x02'\ntR." % order
    )

  assert closed_pickle.loads(spelled(b'<')) == 0x0201
  assert closed_pickle.loads(spelled(b'>')) == 0x0102


def test_shared_parts_stay_shared():
  part = [1]
  a, b = closed_pickle.loads(pickle.dumps([part, part]))
  assert a is b


class Calls:
  def __init__(self, *result):
    self.result = result

  def __reduce__(self):
    return self.result


class Plain:
  pass


MARK = 'afslvm_pickle_ran'
MALICIOUS = {
  'os.system': pickle.dumps(Calls(os.system, (f'touch {MARK}',))),
  'os.system, protocol 0': b"cos\nsystem\n(S'touch %s'\ntR." % MARK.encode(),
  'builtins.eval': pickle.dumps(Calls(eval, (f"open('{MARK}', 'w')",))),
  'builtins.getattr': b"c__builtin__\ngetattr\n(c__builtin__\n__import__\n(S'os'\ntRS'system'\ntR.",
  'getattr through dots': b'\x80\x04\x8c\x05numpy\x8c\x0edtype.__init__\x93.',
  'another name of numpy': b"cnumpy\nload\n(S'x'\ntR.",
  'numpy.core.multiarray._reconstruct': pickle.dumps(np.arange(3)),
  'subprocess': pickle.dumps(Calls(subprocess.Popen, (['touch', MARK],))),
  'nested in a song': pickle.dumps({'train': [[(Calls(os.system, (f'touch {MARK}',)),)]]}),
  'an object': pickle.dumps(Plain()),
  'INST': b"(S'touch %s'\nios\nsystem\n." % MARK.encode(),
  'OBJ': b"(cos\nsystem\nS'touch %s'\no." % MARK.encode(),
  'NEWOBJ': b'\x80\x02c__builtin__\nlist\n)\x81.',
  'extension registry': b'\x80\x02\x82\x01)R.',
  'persistent id': b'Pfile\n.',
  'persistent id on the stack': b"S'file'\nQ.",
  'state of a list': b'](dS"a"\nI1\nsb.',
  'a call of a word': b"S'os'\n)R.",
  'scalar of an object': b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(S'O8'\nI0\nI1\ntR.",
  'out-of-band buffer': b'\x80\x05\x97.',
  'set': pickle.dumps({1, 2}),
  'bytearray': pickle.dumps(bytearray(b'x'), 5),
  'huge number': pickle.dumps(2**80),
  'huge list of a number': b'\x80\x02\x8b\xff\xff\xff\x7f\x01.',
  'huge word': b'\x80\x02X\xff\xff\xff\xff.',
  'huge bytes': b'\x80\x04\x8e' + (2**62).to_bytes(8, 'little') + b'.',
  'key that is no word': pickle.dumps({1: 2}),
  'empty': b'',
  'no end': b'\x80\x02]',
  'two values': b'I1\nI2\n.',
  'empty stack': b'.',
  'mark that is not there': b't.',
  'memo that is not there': b'h\x05.',
  'text': b'hello world',
}


@pytest.mark.parametrize('name', MALICIOUS)
def test_all_else_is_refused_in_one_line(name, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(closed_pickle.Refused) as caught:
    closed_pickle.loads(MALICIOUS[name])
  assert '\n' not in str(caught.value)
  assert len(str(caught.value)) < 300
  assert not list(tmp_path.iterdir())


def test_registered_extensions_are_not_used():
  copyreg.add_extension('posix', 'getcwd', 200)
  try:
    with pytest.raises(closed_pickle.Refused, match='EXT1'):
      closed_pickle.loads(pickle.dumps(os.getcwd, 2))
  finally:
    copyreg.remove_extension('posix', 'getcwd', 200)


def test_nothing_is_imported():
  code = (
    'import sys; from afslvm.data import closed_pickle\n'
    'try: closed_pickle.loads(b"cthis\\nd\\n.")\n'
    'except closed_pickle.Refused: print("this" in sys.modules)'
  )
  result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
  assert result.stdout == 'False\n'


def bomb():
  """Opcodes of lists that hold the one below ten times, 12 levels of them: 10**12 items."""
  levels = b''.join(b']q%c(' % (i + 1) + b'h%c' % i * 10 + b'e' for i in range(12))
  return b'\x80\x02]q\x00' + levels


BOMBS = {
  'index of 4 GB': b'\x80\x02r\xff\xff\xff\xff.',
  'type': bomb() + b'cnumpy\ndtype\nh\x0c\x85R.',
  'name': bomb() + b"h\x0cS'x'\n\x93.",
  'state': bomb() + b"cnumpy\ndtype\n(S'i8'\nI0\nI1\ntR(I3\nh\x0ctb.",
  'rest': bomb() + b'.',
}


@pytest.mark.parametrize('name', BOMBS)
def test_bombs_take_neither_time_nor_memory(name):
  with pytest.raises(closed_pickle.Refused) as caught:
    closed_pickle.loads(BOMBS[name])  # otherwise it would not end
  assert len(str(caught.value)) < 300


def test_an_index_of_the_memo_costs_nothing():
  # Python's unpickler takes gigabytes for this one.
  assert closed_pickle.loads(b'\x80\x02]r\xff\xff\xff\xff.') == []


def test_a_list_within_itself_is_no_problem():
  content = b'\x80\x02]q\x00h\x00a.'
  found = closed_pickle.loads(content)
  assert found[0] is found


@pytest.mark.parametrize('protocol', [0, 2, 4])
def test_damaged_files_are_refused_or_read(protocol):
  rng = random.Random(protocol)
  scalars = {'train': [[(np.int64(60), 64), ()]], 'valid': [], 'test': [[[np.uint8(3)]]]}
  intact = pickle.dumps(scalars, protocol)
  outcomes = set()
  for _ in range(3000):
    content = bytearray(intact)
    for _ in range(rng.randint(1, 3)):
      content[rng.randrange(len(content))] = rng.randrange(256)
    content = content[: rng.randint(1, len(content))] if rng.random() < 0.2 else content
    try:
      closed_pickle.loads(bytes(content))
      outcomes.add('read')
    except closed_pickle.Refused:  # and nothing else
      outcomes.add('refused')
  assert outcomes == {'read', 'refused'}
