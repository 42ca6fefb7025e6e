"""Configs by name: files with `get_config()`, of the user or of `afslvm.configs`.

`afslvm/configs` is a link to the folder `configs/` of the source tree; an installation holds its
files there. So configs import one another as `afslvm.configs.…` wherever they lie.
"""

import copy
import importlib.util
import pathlib
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from afslvm.errors import AfslvmError, ConfigError, nearest

FOLDER = pathlib.Path(__file__).resolve().parent / 'configs'


def names() -> list[str]:
  """Returns the names of the configs that come with the package, such as 'moving_digits/af1'."""
  files = [file.relative_to(FOLDER) for file in FOLDER.glob('*/*.py') if file.stem != '__init__']
  return sorted(['smoke', *(file.with_suffix('').as_posix() for file in files)])


def locate(name: str) -> str:
  """Returns the file that a name means, as 'FILE.py' or 'FILE.py:ARGUMENT'.

  Args:
    name: the path of a file, or the name of a config that comes with the package
      ('moving_digits/slvm_af1', also 'configs/moving_digits/slvm_af1.py'); either may be followed
      by ':ARGUMENT' for `get_config`.

  Raises:
    ConfigError: there is no such file and no such config.
  """
  file_name, colon, argument = name.partition(':')
  inside = pathlib.PurePosixPath(file_name.removeprefix('configs/'))
  for file in (pathlib.Path(file_name), FOLDER / inside, FOLDER / f'{inside}.py'):
    if file.suffix == '.py' and file.is_file():
      return f'{file}{colon}{argument}'
  folder = pathlib.Path(file_name).parent
  siblings = [path.as_posix() for path in folder.rglob('*.py')] if file_name.endswith('.py') else []
  raise ConfigError(
    f'--config={file_name}: no such file or config{nearest(file_name, [*siblings, *names()])}'
  )


def load_config(name: str) -> ConfigDict:
  """Returns what `get_config` of the file `name` gives; see `locate`.

  Raises:
    ConfigError: no such file, no such argument, or a file that fails.
  """
  file_name, _, argument = locate(name).partition(':')
  spec = importlib.util.spec_from_file_location('afslvm_config', file_name)
  assert spec is not None
  assert spec.loader is not None
  module = importlib.util.module_from_spec(spec)
  try:
    spec.loader.exec_module(module)
    return module.get_config(*([argument] if argument else []))
  except AfslvmError:
    raise
  except Exception as error:
    raise ConfigError(f'--config={name}: {type(error).__name__}: {error}') from error


def check_key(config: ConfigDict, dotted: str) -> Any:
  """Returns the value of a key 'section.key'.

  Raises:
    ConfigError: the config has no such key; the message names the nearest.
  """
  section: Any = config
  keys = dotted.split('.')
  for depth, key in enumerate(keys):
    if not isinstance(section, ConfigDict) or key not in section:
      valid = list(section) if isinstance(section, ConfigDict) else []
      place = '.'.join(['config', *keys[:depth]])
      hint = nearest(key, valid) or (f'; valid: {", ".join(sorted(valid))}' if valid else '')
      raise ConfigError(f'--config.{dotted}: {place} has no key {key!r}{hint}')
    section = section[key]
  return section


def overridden(config: ConfigDict, overrides: Mapping[str, Any]) -> ConfigDict:
  """Returns a copy of a config with other values, {'train.num_steps': 100}.

  Values that follow others, as a warm-up does the number of steps, still do.

  Raises:
    ConfigError: an unknown key, or a value of another type.
  """
  changed = copy.deepcopy(config)
  for dotted, value in overrides.items():
    found = check_key(changed, dotted)
    try:
      changed.update_from_flattened_dict({dotted: value})
    except TypeError:
      raise ConfigError(
        f'config.{dotted}={value!r} must be of type {type(found).__name__}'
      ) from None
  return changed
