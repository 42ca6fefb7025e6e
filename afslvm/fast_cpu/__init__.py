"""Which form convolutions are computed in: the forms here are the same sums, faster on CPU.

Networks ask `is_used` and `is_in_loop` while they are traced. On other backends than CPU the plain
operators are the fast ones, and they are used.
"""

import contextlib
import contextvars
from collections.abc import Iterator

import jax

_PLAIN = contextvars.ContextVar('plain', default=False)
_LOOP = contextvars.ContextVar('loop', default=False)


def is_used() -> bool:
  """Returns whether convolutions are computed in the forms that are fast on CPU."""
  return jax.default_backend() == 'cpu' and not _PLAIN.get()


def is_in_loop() -> bool:
  """Returns whether the body of a loop is being traced."""
  return _LOOP.get()


@contextlib.contextmanager
def plain_operators() -> Iterator[None]:
  """Has the plain operators traced on CPU too, for some of the fast forms multiply with zeros."""
  with _set(_PLAIN):
    yield


@contextlib.contextmanager
def in_loop() -> Iterator[None]:
  """Says that what is traced inside is the body of a loop, as of `lax.scan`.

  XLA computes convolutions in loops on CPU ten to thirty times slower than elsewhere, and their
  gradients too; in here they become matrix products.
  """
  with _set(_LOOP):
    yield


@contextlib.contextmanager
def _set(variable: contextvars.ContextVar[bool]) -> Iterator[None]:
  token = variable.set(True)
  try:
    yield
  finally:
    variable.reset(token)
