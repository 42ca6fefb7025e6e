"""Checks config sections against the fields of the classes they describe."""

import dataclasses
import math
from typing import Any

from afslvm.errors import ConfigError, nearest


def lookup(table: dict[str, Any], name: Any, place: str) -> Any:
  """The entry called `name`.

  Raises:
    ConfigError: there is none; the message names the nearest.
  """
  if name not in table:
    hint = nearest(str(name), table) or f'; it is one of {", ".join(sorted(table))}'
    raise ConfigError(f'{place}={name!r} is unknown{hint}')
  return table[name]


def construct(cls: type, spec: dict[str, Any], place: str, **given: Any) -> Any:
  """`cls(**spec, **given)` for a dataclass or Linen module, with every key and value checked.

  Args:
    cls: may have class variables `choices` {field: allowed values} and `limits` {field: (low,
      high)}, both ends allowed, None for no limit.
    spec: keyword arguments from a config.
    place: the section's name in messages.
    **given: arguments that don't come from the config.

  Raises:
    ConfigError: an unknown key, a value of another type, or one out of range.
  """
  fields = {f.name: f for f in dataclasses.fields(cls) if f.name not in ('parent', 'name')}
  for key in fields.keys() & given.keys():
    del fields[key]
  check_keys(spec, fields, place)
  values = {
    key: _checked(value, key, fields[key], cls, f'{place}.{key}') for key, value in spec.items()
  }
  return cls(**values, **given)


def check_keys(spec: dict[str, Any], valid: Any, place: str):
  """Raises ConfigError for the first key of `spec` that isn't valid."""
  for key in spec:
    if key not in valid:
      hint = nearest(key, valid) or f'; valid: {", ".join(sorted(valid))}'
      raise ConfigError(f'{place}.{key} is not a key of this config{hint}')


def _checked(value: Any, key: str, field: dataclasses.Field, cls: type, place: str) -> Any:
  kind = field.type if isinstance(field.type, type) else None
  if kind is float and isinstance(value, int) and not isinstance(value, bool):
    value = float(value)
  if kind in (int, float, str, bool) and type(value) is not kind:
    raise ConfigError(f'{place}={value!r} must be of type {kind.__name__}')
  if kind is float and not math.isfinite(value):
    raise ConfigError(f'{place}={value!r} must be finite')
  if isinstance(field.default, tuple):
    return _checked_tuple(value, getattr(cls, 'limits', {}).get(key, (None, None)), place)
  choices = getattr(cls, 'choices', {}).get(key)
  if choices and value not in choices:
    hint = nearest(str(value), choices) or f'; it is one of {", ".join(choices)}'
    raise ConfigError(f'{place}={value!r} is unknown{hint}')
  _check_limits(value, getattr(cls, 'limits', {}).get(key, (None, None)), place)
  return value


def _checked_tuple(value: Any, limits: tuple[Any, Any], place: str) -> tuple[int, ...]:
  """Integers; JSON gives a tuple back as a list."""
  if not isinstance(value, tuple | list) or not value or any(type(v) is not int for v in value):
    raise ConfigError(f'{place}={value!r} must be integers in parentheses, such as (16, 32)')
  for element in value:
    _check_limits(element, limits, place)
  return tuple(value)


def _check_limits(value: Any, limits: tuple[Any, Any], place: str):
  low, high = limits
  if (low is not None and value < low) or (high is not None and value > high):
    above = f'at least {low}' if low is not None else ''
    below = f'at most {high}' if high is not None else ''
    raise ConfigError(f'{place}={value!r} must be {" and ".join(filter(None, (above, below)))}')
