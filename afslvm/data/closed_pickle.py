"""Reads pickles of plain values without running them: nothing is imported, nothing called.

Python's unpickler looks up any name that the file gives and calls it. This reader knows the opcodes
of lists, tuples, dictionaries, words and numbers, and three names, for each of which it does itself
what they would do to NumPy's whole numbers: `numpy dtype`, `numpy.core.multiarray scalar` and
`_codecs encode`. All else is refused.
"""

import pickletools
from collections.abc import Callable
from typing import Any

from afslvm.data.sources import one_line

MAX_INTEGER_BYTES = 8
_SCALAR, _DTYPE, _ENCODE = 'scalar', 'dtype', 'encode'
_NAMES = {
  'numpy.core.multiarray scalar': _SCALAR,
  'numpy._core.multiarray scalar': _SCALAR,
  'numpy dtype': _DTYPE,
  '_codecs encode': _ENCODE,
}
_VALUES = {
  *('INT', 'BININT', 'BININT1', 'BININT2', 'LONG', 'LONG1', 'LONG4', 'FLOAT', 'BINFLOAT'),
  *('STRING', 'BINSTRING', 'SHORT_BINSTRING', 'UNICODE', 'BINUNICODE', 'SHORT_BINUNICODE'),
  *('BINBYTES', 'SHORT_BINBYTES'),
}
_CONSTANTS: dict[str, Callable[[], Any]] = {
  'NONE': lambda: None,
  'NEWTRUE': lambda: True,
  'NEWFALSE': lambda: False,
  'EMPTY_LIST': list,
  'EMPTY_DICT': dict,
  'EMPTY_TUPLE': tuple,
}


class Refused(ValueError):
  """The pickle holds something else than plain values."""


class _Name:
  """One of the three names that are known."""

  def __init__(self, meaning: str):
    self.meaning = meaning


class _Type:
  """The type of NumPy whole numbers: 'i8', little-endian unless BUILD says otherwise."""

  def __init__(self, arguments: Any):
    code = arguments[0] if type(arguments) is tuple and arguments else None
    if code not in ('i1', 'i2', 'i4', 'i8', 'u1', 'u2', 'u4', 'u8'):
      raise Refused(f'numbers of type {_shown(code)}')
    self.signed, self.size, self.order = code[0] == 'i', int(code[1]), 'little'

  def set_state(self, state: Any):
    """The state of a dtype begins with its version and byte order."""
    order = state[1] if type(state) is tuple and len(state) > 1 else None
    if order not in ('<', '>', '|', '='):
      raise Refused('a damaged type of numbers')
    self.order = 'big' if order == '>' else 'little'

  def number(self, content: Any) -> int:
    """The number that `content` encodes; Python 2 wrote bytes as words."""
    content = content.encode('latin-1') if type(content) is str else content
    if type(content) is not bytes or len(content) != self.size:
      raise Refused('a damaged number')
    return int.from_bytes(content, self.order, signed=self.signed)  # type: ignore[arg-type]


def loads(content: bytes) -> Any:
  """Returns the lists, tuples, dictionaries, words, bytes and numbers of a pickle.

  Memory and time are proportional to the length of `content`. A part that is used in many places
  is one object in all of them, so whoever copies parts should count first.

  Raises:
    Refused: something else, or no complete pickle.
  """
  try:
    return _Machine().run(content)
  except Refused:
    raise
  except Exception as error:  # pickletools has many ways to say that a file is damaged
    raise Refused(f'no complete pickle ({one_line(error)})') from error


class _Machine:
  """The stack, the marks in it and the memo."""

  def __init__(self):
    self.stack: list[Any] = []
    self.marks: list[int] = []
    self.memo: dict[int, Any] = {}

  def run(self, content: bytes) -> Any:
    """Goes through the opcodes and returns what is on the stack at the end."""
    for opcode, argument, _ in pickletools.genops(content):
      name = opcode.name
      if name in _VALUES:
        self.stack.append(_plain(argument))
      elif name in _CONSTANTS:
        self.stack.append(_CONSTANTS[name]())
      elif name in _ACTIONS:
        _ACTIONS[name](self, argument)
      elif name == 'STOP':
        (value,) = self.stack
        return value
      else:
        raise Refused(f'the opcode {name}, which plain values do not need')
    raise Refused('no end')

  def since_mark(self) -> list[Any]:
    """Takes all values off that were put there since the last mark."""
    begin = self.marks.pop()
    values = self.stack[begin:]
    del self.stack[begin:]
    return values

  def last(self, count: int) -> list[Any]:
    """Takes the last `count` values off."""
    if len(self.stack) < count:
      raise Refused('an empty stack')
    values = self.stack[len(self.stack) - count :]
    del self.stack[len(self.stack) - count :]
    return values

  def mark(self, _):
    """MARK."""
    self.marks.append(len(self.stack))

  def put(self, index: Any):
    """PUT and its shorter forms; MEMOIZE counts by itself."""
    self.memo[len(self.memo) if index is None else int(index)] = self.stack[-1]

  def get(self, index: Any):
    """GET and its shorter forms."""
    self.stack.append(self.memo[int(index)])

  def extend(self, values: list[Any]):
    """APPEND and APPENDS."""
    if type(self.stack[-1]) is not list:
      raise Refused('something appended to no list')
    self.stack[-1].extend(values)

  def update(self, values: list[Any]):
    """SETITEM and SETITEMS."""
    if type(self.stack[-1]) is not dict or len(values) % 2:
      raise Refused('an item of no dictionary')
    for key, value in zip(values[::2], values[1::2], strict=True):
      if type(key) is not str:
        raise Refused(f'a dictionary with a key that is a {type(key).__name__}, not a word')
      self.stack[-1][key] = value

  def new_dict(self, values: list[Any]):
    """DICT."""
    self.stack.append({})
    self.update(values)

  def name(self, name: str):
    """GLOBAL and STACK_GLOBAL: one of three names, of which nothing is imported."""
    if name not in _NAMES:
      raise Refused(f'the name {_shown(name)}, which plain values do not need')
    self.stack.append(_Name(_NAMES[name]))

  def stack_name(self, _):
    """STACK_GLOBAL."""
    module, name = self.last(2)
    if type(module) is not str or type(name) is not str:
      raise Refused('a name that is no word')
    self.name(f'{module} {name}')

  def reduce(self, _):
    """REDUCE: does what the name would have done."""
    called, arguments = self.last(2)
    if type(called) is not _Name or type(arguments) is not tuple:
      raise Refused('a call of something unknown')
    if called.meaning == _DTYPE:
      self.stack.append(_Type(arguments))
    elif called.meaning == _SCALAR and len(arguments) == 2 and type(arguments[0]) is _Type:
      self.stack.append(arguments[0].number(arguments[1]))
    elif called.meaning == _ENCODE and len(arguments) == 2 and type(arguments[0]) is str:
      self.stack.append(arguments[0].encode('latin-1'))
    else:
      raise Refused(f'a {called.meaning} of something unknown')

  def build(self, _):
    """BUILD: the byte order of a type."""
    built, state = self.last(2)
    if type(built) is not _Type:
      raise Refused('the state of something unknown')
    built.set_state(state)
    self.stack.append(built)


def _shown(value: Any) -> str:
  """For messages; a nested value is not spelled out, which may take forever."""
  return repr(value[:60]) if type(value) is str else f'a {type(value).__name__}'


def _plain(value: Any) -> Any:
  if type(value) is int and value.bit_length() > 8 * MAX_INTEGER_BYTES:
    raise Refused('a number of more than 8 bytes')
  return value


_Action = Callable[[_Machine, Any], None]
_ACTIONS: dict[str, _Action] = {
  **dict.fromkeys(('PROTO', 'FRAME'), lambda machine, _: None),
  **dict.fromkeys(('PUT', 'BINPUT', 'LONG_BINPUT', 'MEMOIZE'), _Machine.put),
  **dict.fromkeys(('GET', 'BINGET', 'LONG_BINGET'), _Machine.get),
  'MARK': _Machine.mark,
  'LIST': lambda machine, _: machine.stack.append(machine.since_mark()),
  'TUPLE': lambda machine, _: machine.stack.append(tuple(machine.since_mark())),
  'TUPLE1': lambda machine, _: machine.stack.append(tuple(machine.last(1))),
  'TUPLE2': lambda machine, _: machine.stack.append(tuple(machine.last(2))),
  'TUPLE3': lambda machine, _: machine.stack.append(tuple(machine.last(3))),
  'DICT': lambda machine, _: machine.new_dict(machine.since_mark()),
  'APPEND': lambda machine, _: machine.extend(machine.last(1)),
  'APPENDS': lambda machine, _: machine.extend(machine.since_mark()),
  'SETITEM': lambda machine, _: machine.update(machine.last(2)),
  'SETITEMS': lambda machine, _: machine.update(machine.since_mark()),
  'GLOBAL': _Machine.name,
  'STACK_GLOBAL': _Machine.stack_name,
  'REDUCE': _Machine.reduce,
  'BUILD': _Machine.build,
}
