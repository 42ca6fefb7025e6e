"""Loops that leave the gradients of their weights to after the loop.

Backwards through `lax.scan` the gradient of a weight is carried from step to step, each adding the
product of a few rows to an array as large as the weight. Here the steps only leave what their
products took and the gradient of what they gave, and one product over all steps follows the loop:
the same sums in another order (for recurrent networks Appleyard et al., 2016, arXiv:1604.01946).
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jax.extend import core
from jax.tree_util import Partial

from afslvm.networks import conv, equations, windows
from afslvm.networks.equations import Active, Product, Weight, Weights
from afslvm.types import Array


class _Change(NamedTuple):
  """What is done to a product.

  Attributes:
    perturbation: what is added; zero, for its gradient.
    layouts: the weight [K, N], and transposed, where both are better given than made in each step.
  """

  perturbation: Array
  layouts: tuple[Array, Array] | None


def gradients_after_loops(function: Callable) -> Callable:
  """The same function of arrays, whose reverse-mode gradient is computed as the module says.

  Products are found with all that a loop is given for all of its steps, and with what follows from
  that alone; in loops inside loops, too. Steps that gradients compute again (`jax.checkpoint`) stay
  as they are. All slopes of the products are kept until then, which takes memory. It can be
  differentiated once; a second time raises TypeError.
  """

  @functools.wraps(function)
  def call(*arguments):
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
    values = equations.evaluate(
      closed.jaxpr, [*closed.consts, *jax.tree.leaves(arguments)], _outside
    )
    return jax.tree.unflatten(jax.tree.structure(shapes), values)

  return call


def _outside(equation: core.JaxprEqn, operands: list[Any]) -> list[Any]:
  """Outside of loops only they differ."""
  if equations.is_call(equation) and equations.has_loop(equations.body(equation)):
    return equations.evaluate(
      equations.body(equation), [*equations.closed(equation), *operands], _outside
    )
  if equation.primitive.name == 'scan':
    return _loop(equation, operands)
  return equations.plainly(equation, operands)


def _loop(equation: core.JaxprEqn, operands: list[Any]) -> list[Any]:
  """A loop outside of others."""
  body, (count, _) = equations.body(equation), equations.counts(equation)
  weights = {
    variable: Weight(functools.partial(_constant, index), frozenset({index}))
    for index, variable in enumerate(body.invars[:count])
  }
  find = functools.partial(equations.products, body, weights, steps=(equation.params['length'],))
  _, through = equations.reached(body, [True] * len(body.outvars))
  every = Active(frozenset(range(count)), through)
  if not equation.params['length'] or not any(find(active=every)):
    return equations.plainly(equation, operands)

  @jax.custom_vjp
  def run(*operands):
    return equations.plainly(equation, operands)

  def forward(*primals):
    operands = [_once(primal.value) if primal.perturbed else primal.value for primal in primals]
    moving = [index for index, primal in enumerate(primals) if primal.perturbed]
    active = Active(frozenset(moving) & every.constants, through)
    products = list(find(active=active))
    values = [(product.steps, product.equation.outvars[0].aval) for product in products]
    zeros = [jnp.zeros((*steps, *value.shape), value.dtype) for steps, value in values]
    layouts = [_layouts(product, operands) for product in products]

    def perturbed(values, perturbations):
      given = dict(enumerate(operands)) | dict(zip(moving, values, strict=True))
      changes = [_Change(*change) for change in zip(perturbations, layouts, strict=True)]
      return _scan(equation, list(given.values()), weights, active, changes)

    values = [operands[index] for index in moving]
    outputs, pull, taken = jax.vjp(perturbed, values, zeros, has_aux=True)
    back = functools.partial(_backward, products, moving, len(operands))
    return outputs, Partial(back, pull, operands[:count], taken)

  run.defvjp(forward, lambda back, slopes: back(slopes), symbolic_zeros=True)
  return run(*operands)


def _constant(index: int, constants: Sequence[Any], memo: dict) -> Any:
  del memo
  return constants[index]


def _backward(
  products: list[Product],
  moving: list[int],
  num_operands: int,
  pull: Callable,
  constants: list[Any],
  taken: list[Array],
  slopes: Sequence[Any],
) -> tuple[Any, ...]:
  """The gradients of a loop's operands, None where there is none."""
  values, perturbations = pull([_as_array(slope) for slope in slopes])
  gradients = dict.fromkeys(range(num_operands)) | dict(zip(moving, values, strict=True))
  for product, u, slope in zip(products, taken, perturbations, strict=True):
    weight, back = jax.vjp(product.weight.value, constants)
    (found,) = back(_weight_gradient(product, u, weight, slope))
    for index in product.weight.constants & set(moving):
      gradients[index] = gradients[index] + found[index]
  return tuple(None if value is None else _once(value) for value in gradients.values())


def _as_array(slope: Any) -> Any:
  if not isinstance(slope, SymbolicZero):
    return slope
  return (np if slope.dtype == jax.dtypes.float0 else jnp).zeros(slope.shape, slope.dtype)


def _weight_gradient(product: Product, u: Array, weight: Array, slope: Array) -> Array:
  """Of all steps at once, from what they took and the gradient of what they gave [*steps, ...]."""

  def of_one(u, weight):
    return equations.plainly(
      product.equation, (weight, u) if product.operand == 0 else (u, weight)
    )[0]

  steps, params = len(product.steps), product.equation.params
  is_conv = product.equation.primitive.name == 'conv_general_dilated'
  if is_conv and product.operand == 1 and windows.is_plain(params):
    u, slope = (v.reshape(-1, *v.shape[steps + 1 :]) for v in (u, slope))  # one batch of all steps
    return conv.kernel_gradient(of_one, u, weight, slope)
  u, slope = (v.reshape(-1, *v.shape[steps:]) for v in (u, slope))
  return conv.kernel_gradient(jax.vmap(of_one, (0, None)), u, weight, slope)


def _scan(
  equation: core.JaxprEqn,
  operands: list[Any],
  weights: Weights,
  active: Active,
  changes: list[_Change],
) -> tuple[list[Any], list[Array]]:
  """A loop whose products with weights, which it holds, are changed.

  Args:
    equation: the loop.
    operands: of it.
    weights: of its body.
    active: where gradients go, from the outermost loop's constants.
    changes: of each product, in all steps.

  Returns:
    The outputs, and what each product took besides the weight, in the order of `products`.
  """
  body, (count, num_carry) = equations.body(equation), equations.counts(equation)
  constants = [*equations.closed(equation), *operands[:count]]

  def step(carry, inputs):
    of_step, perturbations = inputs
    taken: list[Array] = []
    arguments = [*constants, *carry, *of_step]
    own = map(_Change, perturbations, [change.layouts for change in changes])
    found = _changed(body, arguments, weights, active, own, taken)
    return found[:num_carry], (found[num_carry:], taken)

  options = {name: equation.params[name] for name in ('length', 'reverse', 'unroll')}
  start, inputs = operands[count : count + num_carry], operands[count + num_carry :]
  sliced = inputs, [change.perturbation for change in changes]
  carry, (outputs, taken) = jax.lax.scan(step, start, sliced, **options)
  return [*carry, *outputs], taken


def _changed(
  jaxpr: core.Jaxpr,
  arguments: list[Any],
  weights: Weights,
  active: Active,
  changes: Iterator[_Change],
  taken: list[Array],
) -> list[Any]:
  """The outputs of one step; see `_scan`. What each product took is added to `taken`."""
  weights = dict(weights)

  def operation(equation, operands):
    inner = equations.inner_weights(equation, weights)
    if inner is None:
      operand = equations.weight_operand(equation, weights, active)
      if operand is None:
        return _in_step(equation, operands)
      taken.append(operands[1 - operand])
      return [_product(equation, operands, operand, next(changes))]
    if equations.is_call(equation):
      operands = [*equations.closed(equation), *operands]
      return _changed(equations.body(equation), operands, inner, active, changes, taken)
    own = [next(changes) for _ in equations.products(equations.body(equation), inner, active, ())]
    outputs, found = _scan(equation, operands, inner, active, own)
    taken.extend(found)
    return outputs

  return equations.evaluate(jaxpr, arguments, operation)


def _product(equation: core.JaxprEqn, operands: list[Any], operand: int, change: _Change) -> Array:
  """A product whose weight gets no gradient, plus the perturbation."""
  if change.layouts is None:
    operands[operand] = jax.lax.stop_gradient(operands[operand])
    (y,) = _in_step(equation, operands)
  else:
    options = ('precision', 'preferred_element_type')
    y = _multiply({name: equation.params[name] for name in options}, operands[0], *change.layouts)
  return _plus(y, change.perturbation)


def _in_step(equation: core.JaxprEqn, operands: list[Any]) -> list[Any]:
  """What an equation gives, in the form that is fast in loops."""
  if conv.reformulated() and equation.primitive.name == 'conv_general_dilated':
    y = windows.in_loop(*operands, equation.params)
    if y is not None:
      return [y]
  return equations.plainly(equation, operands)


def _layouts(product: Product, constants: Sequence[Any]) -> tuple[Array, Array] | None:
  """Of weights that are matrices, on CPU, where each step would transpose them anew."""
  equation = product.equation
  (u, weight), (y,) = equation.invars, equation.outvars
  if not conv.reformulated() or equation.primitive.name != 'dot_general':
    return None
  contracted, batch = equation.params['dimension_numbers']
  is_plain = tuple(contracted[0]) == (u.aval.ndim - 1,) and not any(batch)
  if not is_plain or (product.operand, weight.aval.ndim) != (1, 2) or u.aval.dtype != y.aval.dtype:
    return None
  forward = product.weight.value(constants)
  turned = forward.T
  return (forward, turned) if tuple(contracted[1]) == (0,) else (turned, forward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _multiply(options: dict[str, Any], u: Array, forward: Array, backward: Array) -> Array:
  """u [..., K] @ forward [K, N]; its gradient, by `backward` [N, K], goes to u alone."""
  del backward
  return jax.lax.dot_general(u, forward, (((u.ndim - 1,), (0,)), ((), ())), **options)


def _multiply_forward(options, u, forward, backward):
  return _multiply(options, u, forward, backward), backward


def _multiply_backward(options, backward, slope):
  return _multiply(options, slope, backward, None), None, None


_multiply.defvjp(_multiply_forward, _multiply_backward)


@jax.custom_vjp
def _once(value: Array) -> Array:
  """The value; what follows has no derivative that could be differentiated again."""
  return value


def _refuse(*_: Any) -> tuple[Any, ...]:
  raise TypeError(
    'gradients after loops can not be differentiated again; take second derivatives of the '
    'function that was given to gradients_after_loops'
  )


_once.defvjp(lambda value: (value, None), _refuse)


@jax.custom_vjp
def _plus(y: Array, perturbation: Array) -> Array:
  """y + 0, without adding."""
  del perturbation
  return y


_plus.defvjp(lambda y, perturbation: (y, None), lambda _, slope: (slope, slope))
