"""Weights of the AF paper's own PyTorch code, read into the models of this library.

Whoever has weights of that code, as arrays under their PyTorch names, gets the model that computes
the same numbers here: flows of any number, width, depth and channel count around N(0, I) or an
SLVM, with the paper's clamps of the scales, BatchNorm, and the first frames given as context.

In that code `cond_like.transforms.{M-1}` touches the data and `transforms.0` the base, so wrapping
in the order of the numbers builds the model from the inside. What has another prefix belongs to the
SLVM.
"""

import dataclasses
import os
from collections.abc import Iterator, Mapping
from typing import Any

import flax.linen as nn
import numpy as np

from afslvm.errors import ConfigError, DataError, nearest
from afslvm.models.base import SequenceModel
from afslvm.models.slvm import SLVM
from afslvm.models.standard_normal import StandardNormal
from afslvm.models.temporal_flow import TemporalFlow
from afslvm.reference_weights import flows, slvm
from afslvm.reference_weights.layout import Arrays
from afslvm.types import PyTree

PREFIX = 'weight/'  # of weights in a file that holds other arrays too
# Parameters that the paper's code creates and never uses, and a counter of BatchNorm.
DEAD = frozenset({'initial_shift', 'initial_scale', 'initial_params', 'num_batches_tracked'})
# Attributes of models that say how weights came to be, or in what precision they are used.
_OF_NO_CONSEQUENCE = ('initialization', 'head_initialization', 'compute_dtype')
_SLVM_PARTS = ('prior.', 'approx_post.', 'cond_like.spatial_network.', 'cond_like.param_layers.')


def load(
  source: str | os.PathLike | Arrays, frame_size: tuple[int, int] | None = None
) -> tuple[SequenceModel, PyTree]:
  """Builds the model that some weights belong to.

  Args:
    source: path of an npz file, or a mapping from name to array. Names are PyTorch's; where any of
      them starts with 'weight/', the ones that don't are no weights.
    frame_size: (H, W), on which no weight depends; by default that of the array `x`
      [T, B, C, H, W] beside the weights.

  Returns:
    The model, and variables for `model.apply`, as numpy arrays.

  Raises:
    ConfigError: a name that is missing or unknown, an array of the wrong shape, or no frame size.
    DataError: the file can't be read. Pickled objects are never loaded.
  """
  arrays = source if isinstance(source, Mapping) else _read(source)
  frame_size = frame_size or _frame_size(arrays)
  transforms, base = _split(_weights(arrays))
  channels = flows.channels(transforms.get(0, {})) if transforms else None
  model, variables = _base(base, frame_size, channels)
  for index in range(len(transforms)):
    model, variables = flows.wrap(model, variables, transforms.get(index, {}), index)
  return model, variables


def _read(path: str | os.PathLike) -> Arrays:
  try:
    with np.load(path, allow_pickle=False) as file:
      return {name: file[name] for name in file}
  except FileNotFoundError:
    raise ConfigError(f'{path} does not exist; give an npz file of named weights') from None
  except Exception as error:  # numpy and zipfile have many ways to say that a file is damaged
    reason = ' '.join(str(error).split())[:200]
    raise DataError(f'{path} is no intact npz file of plain arrays ({reason})') from error


def _weights(arrays: Arrays) -> Arrays:
  """The weights by their PyTorch names, without the dead ones."""
  if any(name.startswith(PREFIX) for name in arrays):
    arrays = {k.removeprefix(PREFIX): v for k, v in arrays.items() if k.startswith(PREFIX)}
  return {name: value for name, value in arrays.items() if DEAD.isdisjoint(name.split('.'))}


def _frame_size(arrays: Arrays) -> tuple[int, int]:
  x = arrays.get('x')
  if x is None or np.ndim(x) != 5:
    raise ConfigError(
      'no array x [T, B, C, H, W] says how large frames are; pass frame_size=(H, W)'
    )
  return np.shape(x)[-2:]


def _split(weights: Arrays) -> tuple[dict[int, dict[str, np.ndarray]], dict[str, np.ndarray]]:
  """Weights of each flow by its number, with the prefix taken off, and all others."""
  transforms: dict[int, dict[str, np.ndarray]] = {}
  base: dict[str, np.ndarray] = {}
  for name, value in weights.items():
    number, _, rest = name.removeprefix(flows.PREFIX).partition('.')
    if name.startswith(flows.PREFIX) and number.isdigit():
      transforms.setdefault(int(number), {})[rest] = value
    else:
      base[name] = value
  return transforms, base


def _base(
  weights: Arrays, frame_size: tuple[int, int], channels: int | None
) -> tuple[SequenceModel, PyTree]:
  """The model inside the flows: an SLVM, or N(0, I) where there are no weights of one."""
  for name in weights:
    if not name.startswith(_SLVM_PARTS):
      prefixes = [f'{flows.PREFIX}0', *_SLVM_PARTS]
      raise ConfigError(
        f'{name} is no weight of a temporal flow or an SLVM{nearest(name, prefixes)}; their names '
        f'start with {flows.PREFIX} or {", ".join(_SLVM_PARTS)}'
      )
  if weights:
    return slvm.load(weights, frame_size, channels)
  if channels is None:
    raise ConfigError(f'there are no weights, no name starts with {flows.PREFIX}')
  return StandardNormal((*frame_size, channels)), {}


def to_reference(model: SequenceModel, variables: PyTree) -> dict[str, np.ndarray]:
  """The inverse of `load`: PyTorch name -> array, without the prefix 'weight/'.

  An LSTM here has one bias vector; of the two there the second is then zero.

  Raises:
    ConfigError: the model has parts that the paper's code hasn't.
  """
  weights, whole = dict[str, np.ndarray](), model
  outer: list[tuple[Any, PyTree]] = []
  while isinstance(model, TemporalFlow):
    own = {name: tree['flow'] for name, tree in variables.items() if 'flow' in tree}
    outer.append((model.flow, own))
    variables = {name: tree.get('base', {}) for name, tree in variables.items()}
    model = model.base
  if isinstance(model, SLVM):
    weights.update(slvm.write(model, variables))
  elif not isinstance(model, StandardNormal):
    raise ConfigError(f'{type(model).__name__} has no counterpart in the paper’s code')
  for index, (flow, own) in enumerate(reversed(outer)):
    for name, value in flows.write(flow, own).items():
      weights[f'{flows.PREFIX}{index}.{name}'] = value
  for attribute, ours, theirs in _differing(whole, load(weights, whole.event_shape[:2])[0]):
    raise ConfigError(
      f'{attribute}={ours!r} has no counterpart: in the paper’s code it is {theirs!r}'
    )
  return weights


def _differing(ours: Any, theirs: Any, place: str = '') -> Iterator[tuple[str, Any, Any]]:
  """Attributes in which two models compute something else, whatever their weights."""
  if not isinstance(ours, nn.Module) or type(ours) is not type(theirs):
    if ours != theirs:
      yield place, ours, theirs
    return
  for field in dataclasses.fields(ours):
    if field.name not in ('parent', 'name', *_OF_NO_CONSEQUENCE):
      inner = f'{place}.{field.name}'.lstrip('.')
      yield from _differing(getattr(ours, field.name), getattr(theirs, field.name), inner)
