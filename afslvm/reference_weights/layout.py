"""Where an array of the paper's PyTorch code lies in a Flax model, and how it is laid out there.

Frames are [H, W, C] here, [C, H, W] there. Kernels are HWIO here; there they are OIHW, those of
transposed convolutions IOHW with both spatial axes reversed. An LSTM's four gates (i, f, g, o) are
one array there, and its two biases, which add, are one here.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from afslvm.errors import ConfigError, nearest
from afslvm.types import PyTree

Arrays = Mapping[str, np.ndarray]

_OIHW_TO_HWIO = (2, 3, 1, 0)
_IOHW_TO_HWIO = (2, 3, 0, 1)
_GATES = ('i', 'f', 'g', 'o')


class Layout(NamedTuple):
  """How one PyTorch array becomes Flax arrays, and back."""

  read: Callable[[np.ndarray], list[np.ndarray]]
  write: Callable[[list[np.ndarray]], np.ndarray]
  ndim: int  # of the PyTorch array


def _one(
  read: Callable[[np.ndarray], np.ndarray], write: Callable[[np.ndarray], np.ndarray], ndim: int
) -> Layout:
  return Layout(lambda value: [read(value)], lambda values: write(values[0]), ndim)


LAYOUTS = {
  'vector': _one(lambda v: v, lambda v: v, 1),
  'row': _one(lambda v: v[0], lambda v: v[None], 2),
  'linear': _one(np.transpose, np.transpose, 2),
  'conv': _one(
    lambda v: np.transpose(v, _OIHW_TO_HWIO),
    lambda v: np.transpose(v, np.argsort(_OIHW_TO_HWIO)),
    4,
  ),
  'transposed': _one(
    lambda v: np.transpose(v, _IOHW_TO_HWIO)[::-1, ::-1],
    lambda v: np.transpose(v[::-1, ::-1], np.argsort(_IOHW_TO_HWIO)),
    4,
  ),
  'point': _one(  # the transposed convolution of one point: its kernel is the map
    lambda v: np.transpose(v, _IOHW_TO_HWIO),
    lambda v: np.transpose(v, np.argsort(_IOHW_TO_HWIO)),
    4,
  ),
  'gates': Layout(
    lambda v: [np.transpose(part) for part in np.split(v, 4)],
    lambda vs: np.concatenate([np.transpose(v) for v in vs]),
    2,
  ),
  'gate biases': Layout(lambda v: np.split(v, 4), lambda vs: np.concatenate(vs), 1),
  'more gate biases': Layout(
    lambda v: np.split(v, 4), lambda vs: np.zeros_like(np.concatenate(vs)), 1
  ),
}


class Place(NamedTuple):
  """Where one PyTorch array lies: one path for each array that its layout makes of it."""

  collection: str
  paths: tuple[tuple[str, ...], ...]
  layout: str


Names = dict[str, Place]


def place(path: str, layout: str = 'vector') -> Place:
  """`place('params/conv/kernel', 'conv')`."""
  collection, *rest = path.split('/')
  return Place(collection, (tuple(rest),), layout)


def within(torch: str, names: Names, module: str) -> Names:
  """The same names under a PyTorch prefix, in a module at 'a/b'."""
  prefix = tuple(module.split('/'))
  return {
    f'{torch}.{name}': p._replace(paths=tuple((*prefix, *path) for path in p.paths))
    for name, p in names.items()
  }


def block(conv: str, norm: str, layout: str = 'conv') -> Names:
  """A convolution and its BatchNorm; places within a `ConvBlock` or a layer of a DCGAN."""
  return {
    f'{conv}.weight': place('params/conv/kernel', layout),
    f'{conv}.bias': place('params/conv/bias'),
    f'{norm}.weight': place('params/normalization/norm/scale'),
    f'{norm}.bias': place('params/normalization/norm/bias'),
    f'{norm}.running_mean': place('batch_stats/normalization/norm/mean'),
    f'{norm}.running_var': place('batch_stats/normalization/norm/var'),
  }


def linear(torch: str, layout: str = 'linear') -> Names:
  """A layer of weights and a bias."""
  return {
    f'{torch}.weight': place('params/kernel', layout),
    f'{torch}.bias': place('params/bias'),
  }


def lstm_cell(layer: int) -> Names:
  """One layer of an `LSTMStack`, with its first state."""

  def gates(letter: str, what: str, layout: str) -> Place:
    paths = tuple((f'cells_{layer}', letter + gate, what) for gate in _GATES)
    return Place('params', paths, layout)

  return {
    'initial_cell': place(f'params/initial_c_{layer}', 'row'),
    'initial_hidden': place(f'params/initial_h_{layer}', 'row'),
    'lstm.weight_ih': gates('i', 'kernel', 'gates'),
    'lstm.weight_hh': gates('h', 'kernel', 'gates'),
    'lstm.bias_ih': gates('h', 'bias', 'gate biases'),
    'lstm.bias_hh': gates('h', 'bias', 'more gate biases'),
  }


# ---- checks --------------------------------------------------------------------------------------


def shape_of(weights: Arrays, name: str, layout: str, prefix: str = '') -> tuple[int, ...]:
  """The shape of an array that must be there and have the number of axes of its layout.

  Raises:
    ConfigError: it isn't, or it hasn't.
  """
  if name not in weights:
    raise ConfigError(f'{prefix}{name} is missing')
  shape = np.shape(weights[name])
  if len(shape) != LAYOUTS[layout].ndim:
    kind = {4: 'a convolution', 2: 'a matrix', 1: 'a vector'}[LAYOUTS[layout].ndim]
    raise ConfigError(f'{prefix}{name} has shape {shape}, not that of {kind}')
  return shape


def count(weights: Arrays, prefix: str) -> int:
  """How many numbers follow `prefix` in the names."""
  rest = (name.removeprefix(prefix).split('.')[0] for name in weights if name.startswith(prefix))
  return len({number for number in rest if number.isdigit()})


def check_names(weights: Arrays, names: Names, what: str, prefix: str = ''):
  """Raises ConfigError for a name that is missing, or that `what` doesn't have."""
  for name in names:
    if name not in weights:
      raise ConfigError(f'{prefix}{name} is missing')
  for name in weights:
    if name not in names:
      raise ConfigError(f'{prefix}{name} is no weight of {what}{nearest(name, names)}')


# ---- reading and writing -------------------------------------------------------------------------


def read(weights: Arrays, names: Names, expected: PyTree, prefix: str = '') -> dict[str, Any]:
  """Variables of a module, from its weights.

  Args:
    weights: all those of `names`.
    names: where they go.
    expected: shapes of the module's variables.
    prefix: of the names in messages.

  Raises:
    ConfigError: an array whose shape doesn't fit.
  """
  variables: dict[str, Any] = {}
  for name, there in names.items():
    shape_of(weights, name, there.layout, prefix)
    values = LAYOUTS[there.layout].read(np.asarray(weights[name], np.float32))
    for path, value in zip(there.paths, values, strict=True):
      wanted = at(expected[there.collection], path).shape
      if value.shape != wanted:
        raise ConfigError(
          f'{prefix}{name} has shape {np.shape(weights[name])}, which does not fit the model that '
          f'the other arrays describe ({wanted} in the layout of Flax)'
        )
      _add(variables.setdefault(there.collection, {}), path, value)
  return variables


def write(variables: PyTree, names: Names) -> dict[str, np.ndarray]:
  """The inverse of `read`; of an LSTM's two biases the second is zero."""
  return {
    name: LAYOUTS[there.layout].write(
      [np.asarray(at(variables[there.collection], path)) for path in there.paths]
    )
    for name, there in names.items()
  }


def at(tree: PyTree, path: tuple[str, ...]) -> Any:
  """The entry of nested dictionaries."""
  for name in path:
    tree = tree[name]
  return tree


def _add(tree: dict[str, Any], path: tuple[str, ...], value: np.ndarray):
  for name in path[:-1]:
    tree = tree.setdefault(name, {})
  tree[path[-1]] = tree[path[-1]] + value if path[-1] in tree else value
