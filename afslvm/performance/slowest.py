"""The slowest operations of a compiled program, from a trace of the profiler."""

import collections
import pathlib
import re
import tempfile
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from afslvm import fast_cpu

# Of an instruction in the text of a compiled program, its name and the place in the source code.
_INSTRUCTION = re.compile(r'^\s*(?:ROOT )?%?([\w.-]+) = .*metadata=\{[^}]*op_name="([^"]+)"', re.M)

# Of matrix products and convolutions.
_INSTRUCTIONS = ('dot', 'convolution')
_PRIMITIVES = ('dot_general', 'conv_general_dilated')


class Operation(NamedTuple):
  """One instruction of a program.

  Attributes:
    name: in the compiled program.
    place: of the source: the modules and the operation that it came from, '' if it isn't known.
    seconds: in all calls.
    share: of the seconds of all operations.
  """

  name: str
  place: str
  seconds: float
  share: float


def operations(compiled: Any, run: Callable[[], Any]) -> list[Operation]:
  """The operations of `run()`, slowest first.

  Args:
    compiled: the program that `run` calls.
    run: calls it, and returns what to wait for.
  """
  text = compiled.as_text()
  places = dict(_INSTRUCTION.findall(text))
  names = set(re.findall(r'^\s*(?:ROOT )?%?([\w.-]+) = ', text, re.M))
  with tempfile.TemporaryDirectory() as folder:
    with jax.profiler.trace(folder):
      jax.block_until_ready(run())
    seconds = _seconds(pathlib.Path(folder), names)
  # A loop's own time is that of its operations, which are there themselves.
  seconds = collections.Counter({n: s for n, s in seconds.items() if not n.startswith('while')})
  total = sum(seconds.values())
  return [
    Operation(name, places.get(name, ''), spent, spent / total)
    for name, spent in seconds.most_common()
  ]


def share_of_products(operations: list[Operation]) -> float:
  """Of matrix products and convolutions, with copies made for these, in all operations' seconds."""

  def is_product(operation: Operation) -> bool:
    # Those that a transposition leads to have its place.
    known = operation.name.startswith(_INSTRUCTIONS) or operation.place.endswith(_PRIMITIVES)
    return known or fast_cpu.SCOPE in operation.place

  return sum(operation.share for operation in operations if is_product(operation))


def _seconds(folder: pathlib.Path, names: set[str]) -> collections.Counter[str]:
  """Seconds by instruction: on a GPU a kernel says in its statistics whose it is."""
  found: collections.Counter[str] = collections.Counter()
  for path in folder.rglob('*.xplane.pb'):
    for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
      for line in plane.lines:
        for event in line.events:
          name = dict(event.stats).get('hlo_op', event.name)
          if name in names:
            found[name] += event.duration_ns * 1e-9
  return found
