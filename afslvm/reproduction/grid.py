"""A grid of settings of one config: its points, and what they are called. Loads nothing heavy."""

import itertools
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from afslvm.errors import ConfigError


class Axis(NamedTuple):
  """A key of the config, and the values that it takes, as they were written."""

  key: str
  values: list[str]


def axis(given: str, flag: str = '--grid') -> Axis:
  """'section.key=1,2' of a flag as an axis; commas inside brackets belong to a value.

  Raises:
    ConfigError: not of that form, or a value that stands there twice.
  """
  key, _, text = given.removeprefix('config.').partition('=')
  values = re.split(r',(?![^(\[]*[)\]])', text)
  if not re.fullmatch(r'\w+(\.\w+)+', key) or not all(values):
    raise ConfigError(f'{flag}={given} is not of the form section.key=VALUE,VALUE,...')
  if len(set(values)) < len(values):
    raise ConfigError(f'{flag}={given} has a value twice')
  return Axis(key, values)


def points(axes: Sequence[Axis]) -> list[dict[str, str]]:
  """Every combination, the last key changing fastest.

  Raises:
    ConfigError: a key that stands there twice.
  """
  keys = [axis.key for axis in axes]
  for key in keys:
    if keys.count(key) > 1:
      raise ConfigError(f'--grid={key}=... is given twice; name all its values in one')
  combinations = itertools.product(*(axis.values for axis in axes))
  return [dict(zip(keys, values, strict=True)) for values in combinations]


def short_names(keys: Iterable[str]) -> dict[str, str]:
  """The last part of each dotted key, and as much before it as tells it from the others."""
  split = {key: key.split('.') for key in keys}

  def shortest(key: str) -> str:
    for count in range(1, len(split[key])):
      if [parts[-count:] for parts in split.values()].count(split[key][-count:]) == 1:
        return '.'.join(split[key][-count:])
    return key

  return {key: shortest(key) for key in split}


def folder_name(settings: dict[str, str], seed: str) -> str:
  """'learning_rate=1e-3_latent_shape=8_seed=0'; it stays when a grid gets more values."""
  names = short_names(settings)
  words = []
  for key, value in settings.items():
    plain = re.sub(r'[()\[\]\s\'"]', '', value).strip(',')
    words.append(f'{names[key]}={re.sub("[^A-Za-z0-9_.+-]+", "x", plain)}')
  return '_'.join([*words, f'seed={seed}'])
