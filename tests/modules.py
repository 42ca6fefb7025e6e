"""Parts of models by themselves: with random variables, and in float64 for NumPy."""

import types

import jax
import numpy as np

from tests import constructors


def randomized(module, *arguments, method='__call__', **options):
  """Variables of a Linen module with random values everywhere; see `constructors.randomized`."""
  made = types.SimpleNamespace(
    init=lambda keys, given, method: module.init(keys, *given, method=own)
  )
  own = method
  return constructors.randomized(made, arguments, **options)


def in_float64(variables):
  """Parameters as NumPy arrays that oracles take."""
  return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables['params'])


def normal(seed, *shape):
  return jax.random.normal(jax.random.key(seed), shape)
