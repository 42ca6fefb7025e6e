"""Weights of the AF paper's own PyTorch code, read into the models of this library.

Whoever has weights of that code, as arrays under their PyTorch names, gets the model that computes
the same numbers here: flows of any number, width, depth and channel count, with the paper's clamp
of the scale, BatchNorm, and the first frames given as context. Frames are [H, W, C] here, [C, H, W]
there; kernels are HWIO here, OIHW there.

In that code `cond_like.transforms.{M-1}` touches the data and `transforms.0` the base, so wrapping
in the order of the numbers builds the model from the inside. What has another prefix belongs to the
base model (`_base`).
"""

import os
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from afslvm.errors import ConfigError, DataError, nearest
from afslvm.flows.conditioners import ConvConditioner
from afslvm.flows.temporal import AutoregressiveAffine
from afslvm.models.base import SequenceModel
from afslvm.models.standard_normal import StandardNormal
from afslvm.models.temporal_flow import TemporalFlow
from afslvm.types import PyTree

Arrays = Mapping[str, np.ndarray]
PREFIX = 'weight/'  # of weights in a file that holds other arrays too
FLOWS = 'cond_like.transforms.'
# Parameters that the paper's code creates and never uses, and a counter of BatchNorm.
DEAD = frozenset({'initial_shift', 'initial_scale', 'initial_params', 'num_batches_tracked'})

OIHW_TO_HWIO = (2, 3, 1, 0)
BLOCK = {  # a convolution and its BatchNorm; paths within a `ConvBlock`
  'main.0.weight': 'params/conv/kernel',
  'main.0.bias': 'params/conv/bias',
  'main.1.weight': 'params/normalization/norm/scale',
  'main.1.bias': 'params/normalization/norm/bias',
  'main.1.running_mean': 'batch_stats/normalization/norm/mean',
  'main.1.running_var': 'batch_stats/normalization/norm/var',
}
HEAD = {'weight': 'params/kernel', 'bias': 'params/bias'}


class Place(NamedTuple):
  """Where one PyTorch array lies here, for instance `params` and ('flow', 'shift_head', 'bias')."""

  collection: str
  path: tuple[str, ...]

  def convert(self, value: np.ndarray) -> np.ndarray:
    """To this library's layout, float32."""
    value = np.asarray(value, np.float32)
    is_kernel = self.path[-1] == 'kernel' and value.ndim == 4
    return np.transpose(value, OIHW_TO_HWIO) if is_kernel else value


# ---- reading -------------------------------------------------------------------------------------


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
  flows, base = _split(_weights(arrays))
  channels = _shape(flows.get(0, {}), 'network.shift_net.weight', 0)[0] if flows else None
  model, variables = _base(base, frame_size, channels)
  for index in range(len(flows)):
    model, variables = _wrap(model, variables, flows.get(index, {}), index)
  return model, variables


def _read(path: str | os.PathLike) -> Arrays:
  try:
    with np.load(path, allow_pickle=False) as file:
      return {name: file[name] for name in file}
  except FileNotFoundError:
    raise ConfigError(f'{path} does not exist; give an npz file of named weights') from None
  except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
    reason = ' '.join(str(error).split())
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
  flows: dict[int, dict[str, np.ndarray]] = {}
  base: dict[str, np.ndarray] = {}
  for name, value in weights.items():
    number, _, rest = name.removeprefix(FLOWS).partition('.')
    if name.startswith(FLOWS) and number.isdigit():
      flows.setdefault(int(number), {})[rest] = value
    else:
      base[name] = value
  return flows, base


# ---- base models ---------------------------------------------------------------------------------


def _base(
  weights: Arrays, frame_size: tuple[int, int], channels: int | None
) -> tuple[SequenceModel, PyTree]:
  """The model inside the flows; without weights of its own it is N(0, I)."""
  for name in weights:
    raise ConfigError(
      f'{name} is no weight of a temporal flow{nearest(name, [FLOWS + "0"])}; only flows on a '
      f'standard normal base can be read, and their names start with {FLOWS}'
    )
  if channels is None:
    raise ConfigError(f'there are no weights, no name starts with {FLOWS}')
  return StandardNormal((*frame_size, channels)), {}


# ---- flows ---------------------------------------------------------------------------------------


def flow_names(encoder_depth: int, decoder_depth: int) -> dict[str, Place]:
  """PyTorch name within `cond_like.transforms.{m}.` -> place within a `TemporalFlow`."""
  names = {}
  for half, depth in (('encoder', encoder_depth), ('decoder', decoder_depth)):
    for k in range(depth):
      torch = f'network.{half}.{k - 1}' if k else f'network.init_{half}'
      names.update(_within(torch, BLOCK, f'{half}_{k}'))
  names.update(_within('network.shift_net', HEAD, 'shift_head'))
  names.update(_within('network.log_scale_net', HEAD, 'log_scale_head'))
  return names


def _within(torch: str, names: dict[str, str], module: str) -> dict[str, Place]:
  places = {}
  for name, path in names.items():
    collection, *rest = path.split('/')
    places[f'{torch}.{name}'] = Place(collection, ('flow', 'conditioner', module, *rest))
  return places


def _shape(weights: Arrays, name: str, index: int) -> tuple[int, ...]:
  """The shape of a kernel OIHW."""
  if name not in weights:
    raise ConfigError(f'{FLOWS}{index}.{name} is missing')
  shape = np.shape(weights[name])
  if len(shape) != 4:
    raise ConfigError(f'{FLOWS}{index}.{name} has shape {shape}, not that of a convolution')
  return shape


def _depth(weights: Arrays, half: str) -> int:
  """Convolutions of the encoder or decoder: the first, and the numbered ones."""
  prefix = f'network.{half}.'
  numbers = {name.removeprefix(prefix).split('.')[0] for name in weights if name.startswith(prefix)}
  return 1 + len(numbers)


def _wrap(
  base: SequenceModel, base_variables: PyTree, weights: Arrays, index: int
) -> tuple[SequenceModel, PyTree]:
  """A flow around `base`; its widths and depths are those of the arrays."""
  first = _shape(weights, 'network.init_encoder.main.0.weight', index)
  joined = _shape(weights, 'network.init_decoder.main.0.weight', index)
  depths = _depth(weights, 'encoder'), _depth(weights, 'decoder')
  names = flow_names(*depths)
  _check_names(weights, names, index)
  conditioner = ConvConditioner(
    base.event_shape,
    window=max(joined[1] // first[0], 1),
    channels=first[0],
    encoder_depth=depths[0],
    decoder_depth=depths[1],
    normalization='batch',
    initialization='pytorch',
    head_initialization='pytorch',
  )
  flow = AutoregressiveAffine(conditioner, boundary='context', log_scale_bound='paper')
  model = TemporalFlow(base.event_shape, base=base, flow=flow)
  expected = _expected_shapes(flow)
  variables: dict[str, Any] = {name: {'base': tree} for name, tree in base_variables.items()}
  for name, place in names.items():
    value = place.convert(weights[name])
    shape = _at(expected[place.collection], place.path[1:]).shape
    if value.shape != shape:
      raise ConfigError(
        f'{FLOWS}{index}.{name} has shape {np.shape(weights[name])}, which does not fit the flow '
        f'that the first convolutions describe ({shape} in the layout of Flax)'
      )
    _put(variables.setdefault(place.collection, {}), place.path, value)
  return model, variables


def _check_names(weights: Arrays, names: dict[str, Place], index: int):
  for name in names:
    if name not in weights:
      raise ConfigError(f'{FLOWS}{index}.{name} is missing')
  for name in weights:
    if name not in names:
      raise ConfigError(f'{FLOWS}{index}.{name} is no weight of a flow{nearest(name, names)}')


def _expected_shapes(flow: AutoregressiveAffine) -> PyTree:
  """Shapes of a flow's variables on the smallest frames that have them."""
  small = (1, 1, flow.conditioner.event_shape[-1])
  flow = flow.copy(conditioner=flow.conditioner.copy(event_shape=small))
  x = jax.ShapeDtypeStruct((1, flow.window + 1, *small), np.float32)
  mask = jax.ShapeDtypeStruct((1, flow.window + 1), bool)

  def create(x, mask):
    return flow.init(jax.random.key(0), x, mask, method='sequence_parameters')

  return jax.eval_shape(create, x, mask)


def _at(tree: PyTree, path: tuple[str, ...]) -> Any:
  for name in path:
    tree = tree[name]
  return tree


def _put(tree: dict[str, Any], path: tuple[str, ...], value: np.ndarray):
  for name in path[:-1]:
    tree = tree.setdefault(name, {})
  tree[path[-1]] = value


# ---- writing -------------------------------------------------------------------------------------


def to_reference(model: SequenceModel, variables: PyTree) -> dict[str, np.ndarray]:
  """The inverse of `load`: PyTorch name -> array, without the prefix 'weight/'.

  Raises:
    ConfigError: the model has parts that the paper's code hasn't.
  """
  weights: dict[str, np.ndarray] = {}
  flows: list[tuple[AutoregressiveAffine, PyTree]] = []
  while isinstance(model, TemporalFlow):
    flows.append((model.flow, variables))
    variables = {name: tree.get('base', {}) for name, tree in variables.items()}
    model = model.base
  if not isinstance(model, StandardNormal):
    raise ConfigError(f'{type(model).__name__} has no counterpart in the paper’s code')
  for index, (flow, tree) in enumerate(reversed(flows)):
    _check_counterpart(flow)
    depths = flow.conditioner.encoder_depth, flow.conditioner.decoder_depth
    for name, place in flow_names(*depths).items():
      value = np.asarray(_at(tree[place.collection], place.path))
      if value.ndim == 4:
        value = np.transpose(value, np.argsort(OIHW_TO_HWIO))
      weights[f'{FLOWS}{index}.{name}'] = value
  return weights


def _check_counterpart(flow: AutoregressiveAffine):
  conditioner = flow.conditioner
  same = (
    isinstance(conditioner, ConvConditioner)
    and conditioner.normalization == 'batch'
    and conditioner.patch == 1
    and min(conditioner.encoder_depth, conditioner.decoder_depth) > 0
    and (flow.boundary, flow.shift_activation, flow.log_scale_bound)
    == ('context', 'linear', 'paper')
  )
  if not same:
    raise ConfigError('only convolutional flows as in configs/moving_mnist have a counterpart')
