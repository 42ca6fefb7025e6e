"""Which form of a convolution is traced: the fast one or the plain one, in a loop or outside."""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any

import jax

# `auto` is the fast forms on CPU and the plain operators elsewhere, where they are the fast ones.
CHOICES = ('auto', 'plain', 'products')

_CHOICE = contextvars.ContextVar('choice', default='auto')
_IN_LOOP = contextvars.ContextVar('in_loop', default=False)


def is_used() -> bool:
  """Returns whether convolutions are computed in the forms of this package."""
  choice = _CHOICE.get()
  return jax.default_backend() == 'cpu' if choice == 'auto' else choice == 'products'


def is_in_loop() -> bool:
  """Returns whether the body of a loop is being traced."""
  return _IN_LOOP.get()


@contextlib.contextmanager
def choose(choice: str) -> Iterator[None]:
  """Has everything that is traced inside computed in one of `CHOICES`.

  It is a decorator, too. A function that `jax.jit` has traced before keeps the forms of that time.
  """
  with _set(_CHOICE, choice):
    yield


@contextlib.contextmanager
def in_loop() -> Iterator[None]:
  """Says that what is traced inside is the body of a loop, such as that of `lax.scan`.

  There XLA computes convolutions and their gradients on CPU ten to a hundred times slower than
  elsewhere; `convolve` makes them matrix products.
  """
  with _set(_IN_LOOP, True):
    yield


@contextlib.contextmanager
def _set(variable: contextvars.ContextVar, value: Any) -> Iterator[None]:
  token = variable.set(value)
  try:
    yield
  finally:
    variable.reset(token)
