"""Checks config sections against the fields of the classes they describe."""

import dataclasses
import importlib
import math
from typing import Any

from afslvm.errors import ConfigError, nearest


def lookup(table: dict[str, Any], name: Any, place: str) -> Any:
  """Returns the entry called `name`, or the class that a path 'my_package.my_module:MyClass' names.

  A path is possible where the table holds classes; its class must derive from what all of them
  derive from. Its module is imported, which runs it: use configs of people you trust.

  Raises:
    ConfigError: there is none; the message names the nearest. Or the path leads to no such class.
  """
  if name in table:
    return table[name]
  if isinstance(name, str) and ':' in name and _are_classes(table.values()):
    return _imported(name, _common_base(list(table.values())), place)
  hint = nearest(str(name), table) or f'; it is one of {", ".join(sorted(table))}'
  raise ConfigError(f'{place}={name!r} is unknown{hint}')


def of_class(table: dict[type, Any], cls: type, place: str) -> Any:
  """Returns the entry of `cls`, or of the nearest class that it derives from.

  Raises:
    ConfigError: there is none.
  """
  for ancestor in cls.__mro__:
    if ancestor in table:
      return table[ancestor]
  known = ', '.join(sorted(entry.__name__ for entry in table))
  raise ConfigError(
    f'{place}={cls.__name__!r} can not be built from a config; derive it from {known}'
  )


def _are_classes(values: Any) -> bool:
  return all(isinstance(value, type) for value in values)


def _common_base(classes: list[type]) -> type:
  """Returns the nearest class that all derive from."""
  return next(base for base in classes[0].__mro__ if all(issubclass(c, base) for c in classes))


def _imported(path: str, base: type, place: str) -> type:
  """Returns the class that 'module:Class' names."""
  module_name, _, class_name = path.partition(':')
  try:
    module = importlib.import_module(module_name)
  except Exception as error:  # whatever the user's module raises
    reason = f'{type(error).__name__}: {error}'.splitlines()[0]
    raise ConfigError(
      f'{place}={path!r}: {module_name or "the module"} can not be imported ({reason}); install it '
      'or put its folder on PYTHONPATH'
    ) from error
  cls = getattr(module, class_name, None)
  if not isinstance(cls, type):
    classes = [name for name, value in vars(module).items() if isinstance(value, type)]
    hint = nearest(class_name, classes)
    raise ConfigError(f'{place}={path!r}: {module_name} has no class {class_name!r}{hint}')
  if not issubclass(cls, base):
    raise ConfigError(
      f'{place}={path!r}: {class_name} must derive from {base.__module__}.{base.__qualname__}'
    )
  return cls


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
  _check_order(values, place)
  return cls(**values, **given)


def _check_order(values: dict[str, Any], place: str):
  """Raises ConfigError for a lower bound `NAME_low` that is not below `NAME_high`."""
  for key, low in values.items():
    high = values.get(f'{key.removesuffix("_low")}_high') if key.endswith('_low') else None
    if high is not None and low >= high:
      raise ConfigError(f'{place}.{key}={low!r} must be below {key[:-4]}_high={high!r}')


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
