"""Floating-point operations of a traced function: of its matrix products and convolutions.

XLA's own count takes the body of a loop once, however often it runs, and sees no custom calls; this
one multiplies by the length of the scan. Elementwise operations are left out, as is usual.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend import core


def of_function(function: Callable, *arguments: Any) -> int:
  """FLOPs of one call, a multiplication and an addition counting as two; nothing is computed.

  Args:
    function: anything that `jax.make_jaxpr` traces.
    *arguments: arrays or their shapes and dtypes.

  Raises:
    ValueError: there is a loop whose number of iterations is not known before it runs.
  """
  return of_jaxpr(jax.make_jaxpr(function)(*arguments).jaxpr)


def of_jaxpr(jaxpr: core.Jaxpr) -> int:
  """FLOPs of one evaluation; see `of_function`."""
  return sum(_of_equation(equation) for equation in jaxpr.eqns)


def _of_equation(equation: core.JaxprEqn) -> int:
  name, params = equation.primitive.name, equation.params
  if name == 'dot_general':
    return _of_product(equation)
  if name == 'conv_general_dilated':
    return _of_convolution(equation)
  inner = [of_jaxpr(jaxpr) for jaxpr in _inner_jaxprs(params)]
  if name == 'scan':
    return params['length'] * sum(inner)
  if name == 'cond':
    return max(inner)
  if name == 'while' and sum(inner):
    raise ValueError('a loop of unknown length holds matrix products; give fori_loop fixed bounds')
  return sum(inner)


def _of_product(equation: core.JaxprEqn) -> int:
  left, _ = (variable.aval for variable in equation.invars)
  (contracted, _), _ = equation.params['dimension_numbers']
  (out,) = equation.outvars
  return 2 * out.aval.size * math.prod(left.shape[axis] for axis in contracted)


def _of_convolution(equation: core.JaxprEqn) -> int:
  """Zeros between the pixels of a dilated input, as in the gradient of a stride, are no work."""
  _, kernel = (variable.aval for variable in equation.invars)
  (out,) = equation.outvars
  features_out = equation.params['dimension_numbers'].rhs_spec[0]
  taps = kernel.size // kernel.shape[features_out]
  return 2 * out.aval.size * taps // math.prod(equation.params['lhs_dilation'])


def _inner_jaxprs(params: dict[str, Any]) -> Iterator[core.Jaxpr]:
  """Of loops, branches, and functions with derivatives of their own."""
  for value in params.values():
    for part in value if isinstance(value, tuple | list) else (value,):
      if isinstance(part, core.ClosedJaxpr):
        yield part.jaxpr
      elif isinstance(part, core.Jaxpr):
        yield part
