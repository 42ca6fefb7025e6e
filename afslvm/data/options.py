"""Checked options of a data set: their valid values, and how a directory name spells them."""

import dataclasses
import math
import numbers
import re
import types
from collections.abc import Mapping
from typing import Any

from afslvm.errors import ConfigError, nearest


@dataclasses.dataclass(frozen=True)
class Option:
  """One keyword argument of a builder.

  Attributes:
    default: the value used where none is given.
    tag: precedes the value in the directory name, as in `px16`.
  """

  default: Any
  tag: str = ''

  def check(self, value: Any) -> Any:
    """Returns `value` in its canonical type; raises ValueError saying what is valid."""
    raise NotImplementedError

  def parse(self, text: str) -> Any:
    """Returns the value that `text`, given on a command line, stands for."""
    return self.check(text)


@dataclasses.dataclass(frozen=True)
class Integer(Option):
  """A whole number in low..high."""

  low: int = 0
  high: int = 2**32 - 1

  def check(self, value: Any) -> int:
    """See base class."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or not self.low <= value <= self.high:
      raise ValueError(f'an integer in {self.low}..{self.high}')
    return int(value)

  def parse(self, text: str) -> int:
    """See base class."""
    try:
      return self.check(int(text))
    except ValueError:
      return self.check(None)


@dataclasses.dataclass(frozen=True)
class Real(Option):
  """A finite number in (low, high]."""

  low: float = 0.0
  high: float = math.inf

  def check(self, value: Any) -> float:
    """See base class."""
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not self.low < value <= self.high:
      upper = '' if self.high == math.inf else f' and at most {self.high:g}'
      raise ValueError(f'a number above {self.low:g}{upper}')
    return float(value)

  def parse(self, text: str) -> float:
    """See base class."""
    try:
      return self.check(float(text))
    except ValueError:
      return self.check(None)


@dataclasses.dataclass(frozen=True)
class Choice(Option):
  """One of a few values."""

  choices: tuple = ()

  def check(self, value: Any) -> Any:
    """See base class."""
    # The type counts as well: True is no valid 1.
    for choice in self.choices:
      if type(choice) is type(value) and choice == value:
        return choice
    hint = nearest(str(value), [str(choice) for choice in self.choices])
    raise ValueError(' or '.join(map(str, self.choices)) + hint)

  def parse(self, text: str) -> Any:
    """See base class."""
    return self.check(
      {str(choice).lower(): choice for choice in self.choices}.get(text.lower(), text)
    )


@dataclasses.dataclass(frozen=True)
class Word(Option):
  """A name of the user's choice, which directories can have."""

  def check(self, value: Any) -> str:
    """See base class."""
    if not isinstance(value, str) or not re.fullmatch(r'[A-Za-z0-9_]{1,40}', value):
      raise ValueError('up to 40 letters, digits and underscores')
    return value


def check(dataset: str, table: Mapping[str, Option], given: Mapping[str, Any]):
  """Returns a namespace with every option of `table`, `given` values over the defaults.

  Raises:
    ConfigError: an unknown name, or a value out of range.
  """
  for name in given:
    if name not in table:
      valid = ', '.join(table)
      raise ConfigError(
        f'data.{name}: {dataset} has no option "{name}"{nearest(name, table)}; it takes {valid}'
      )
  values = {}
  for name, option in table.items():
    try:
      value = given.get(name, option.default)
      values[name] = value if value is option.default else option.check(value)
    except ValueError as valid:
      raise ConfigError(f'data.{name}={given[name]!r}: {dataset} needs {valid}') from None
  return types.SimpleNamespace(**values)


def parse(dataset: str, table: Mapping[str, Option], pairs) -> dict[str, Any]:
  """Returns the options that 'name=value' strings give, checked against `table`.

  Raises:
    ConfigError: a string that isn't name=value, an unknown name, or a value out of range.
  """
  given = {}
  for pair in pairs:
    name, equals, text = pair.partition('=')
    if not equals:
      raise ConfigError(f'--options={pair}: write each option as name=value, separated by commas')
    try:
      given[name] = table[name].parse(text) if name in table else text
    except ValueError as valid:
      raise ConfigError(f'--options={pair}: {dataset} needs {name} to be {valid}') from None
  check(dataset, table, given)
  return given


def spell(table: Mapping[str, Option], values) -> str:
  """Returns a directory name such as 'px16-digits1-frames20', one part per option."""
  return '-'.join(f'{option.tag}{getattr(values, name)}' for name, option in table.items())
