"""Equations of traced functions: evaluating them, and finding products with weights in loops."""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
from jax.extend import core

from afslvm.networks import conv

CALLS = ('jit', 'pjit')


class Weight(NamedTuple):
  """A value that is the same in all steps of a loop.

  Attributes:
    of: from the loop's constants, and what was already derived from them, to the value.
    constants: indices of those that its gradient goes to.
  """

  of: Callable[[Sequence[Any], dict], Any]
  constants: frozenset[int]

  def value(self, constants: Sequence[Any]) -> Any:
    """What it is for these constants."""
    return self.of(constants, {})


class Product(NamedTuple):
  """That of a weight and a value of a step, inside a loop.

  Attributes:
    equation: what is computed.
    operand: 0 or 1, which of its two is the weight.
    weight: which weight it is.
    steps: the lengths of the loops around it, the outermost first.
  """

  equation: core.JaxprEqn
  operand: int
  weight: Weight
  steps: tuple[int, ...]


class Active(NamedTuple):
  """From where to where there are gradients.

  Attributes:
    constants: of the outermost loop that have one, by index.
    equations: whose results they go through, by id.
  """

  constants: frozenset[int]
  equations: frozenset[int]


Weights = dict[core.Var, Weight]


# ---- evaluating ----------------------------------------------------------------------------------


def evaluate(
  jaxpr: core.Jaxpr,
  arguments: Iterable[Any],
  operation: Callable[[core.JaxprEqn, list[Any]], list[Any]],
) -> list[Any]:
  """The outputs of a jaxpr; `operation` computes those of an equation from its operands."""
  values = dict(zip([*jaxpr.constvars, *jaxpr.invars], arguments, strict=True))

  def read(atom):
    return atom.val if isinstance(atom, core.Literal) else values[atom]

  for equation in jaxpr.eqns:
    name = str(equation.source_info.name_stack)  # by which profiles name operations
    with jax.named_scope(name) if name else contextlib.nullcontext():
      found = operation(equation, [read(atom) for atom in equation.invars])
    values.update(zip(equation.outvars, found, strict=True))
  return [read(atom) for atom in jaxpr.outvars]


def plainly(equation: core.JaxprEqn, operands: Sequence[Any]) -> list[Any]:
  """What an equation gives, as it stands."""
  with equation.ctx.manager:
    parameters = equation.primitive.get_bind_params(equation.params)
    found = equation.primitive.bind(*operands, **parameters)
  return found if equation.primitive.multiple_results else [found]


def has_loop(jaxpr: core.Jaxpr) -> bool:
  """Whether it holds a `lax.scan`, itself or in a call."""
  calls = [equation for equation in jaxpr.eqns if is_call(equation)]
  loops = (equation.primitive.name == 'scan' for equation in jaxpr.eqns)
  return any(loops) or any(has_loop(body(call)) for call in calls)


def is_call(equation: core.JaxprEqn) -> bool:
  """Whether its body may stand in its place; of gradients of one's own, that of a convolution."""
  if equation.primitive.name in CALLS:
    return True
  if equation.primitive.name != 'custom_vjp_call':
    return False
  return [inner.primitive.name for inner in body(equation).eqns] == ['conv_general_dilated']


def body(equation: core.JaxprEqn) -> core.Jaxpr:
  """Of a loop or a call."""
  return getattr(_inner(equation), 'jaxpr', _inner(equation))


def closed(equation: core.JaxprEqn) -> Sequence[Any]:
  """The values of the body's own constants."""
  return getattr(_inner(equation), 'consts', ())


def _inner(equation: core.JaxprEqn) -> Any:
  return equation.params['jaxpr' if 'jaxpr' in equation.params else 'call_jaxpr']


def counts(loop: core.JaxprEqn) -> tuple[int, int]:
  """Of constants, and of what is carried; sequences have one axis more outside of the body."""

  def same(outer, inner):
    return sum(a.aval.shape == b.aval.shape for a, b in zip(outer, inner, strict=True))

  num_carry = same(loop.outvars, body(loop).outvars)
  return same(loop.invars, body(loop).invars) - num_carry, num_carry


def bilinear() -> tuple[str, ...]:
  """The products that are looked for.

  Elsewhere than on CPU convolutions aren't: their gradients are fast in loops too, and to join
  steps with rows that are spread over devices would gather them.
  """
  return ('dot_general', *(('conv_general_dilated',) if conv.reformulated() else ()))


# ---- where gradients go --------------------------------------------------------------------------


def reached(jaxpr: core.Jaxpr, outputs: Sequence[bool]) -> tuple[list[bool], frozenset[int]]:
  """The inputs, and the ids of equations, that gradients of `outputs` may reach.

  Not those behind `stop_gradient`: plain autodiff keeps nothing for them, either.
  """
  live = _chosen(jaxpr.outvars, outputs)
  found: frozenset[int] = frozenset()
  for equation in reversed(jaxpr.eqns):
    given = [variable in live for variable in equation.outvars]
    if not any(given) or equation.primitive.name == 'stop_gradient':
      continue
    wanted, inner = [True] * len(equation.invars), frozenset()
    if is_call(equation):
      wanted, inner = reached(body(equation), given)
    elif equation.primitive.name == 'scan':
      wanted, inner = _reached_in_loop(equation, given)
    found |= inner | {id(equation)}
    live |= _chosen(equation.invars, wanted)
  return [variable in live for variable in jaxpr.invars], found


def _chosen(atoms: Sequence[Any], which: Sequence[bool]) -> set[core.Var]:
  pairs = zip(atoms, which, strict=True)
  return {atom for atom, is_chosen in pairs if is_chosen and not isinstance(atom, core.Literal)}


def _reached_in_loop(
  equation: core.JaxprEqn, outputs: list[bool]
) -> tuple[list[bool], frozenset[int]]:
  count, num_carry = counts(equation)
  carry, others = outputs[:num_carry], outputs[num_carry:]
  while True:
    inputs, found = reached(body(equation), [*carry, *others])
    grown = [a or b for a, b in zip(carry, inputs[count : count + num_carry], strict=True)]
    if grown == carry:
      return inputs, found
    carry = grown


# ---- finding products ----------------------------------------------------------------------------


def products(
  jaxpr: core.Jaxpr, weights: Weights, active: Active, steps: tuple[int, ...]
) -> Iterator[Product]:
  """Those of the body of a loop whose weights get gradients from them, in order."""
  weights = dict(weights)
  for equation in jaxpr.eqns:
    inner = inner_weights(equation, weights)
    if inner is not None:
      length = (equation.params['length'],) if equation.primitive.name == 'scan' else ()
      yield from products(body(equation), inner, active, steps + length)
      continue
    operand = weight_operand(equation, weights, active)
    if operand is not None:
      yield Product(equation, operand, weights[equation.invars[operand]], steps)


def inner_weights(equation: core.JaxprEqn, weights: Weights) -> Weights | None:
  """The weights that the body of a loop or a call is given; None for other equations."""
  if equation.primitive.name == 'scan':
    count = counts(equation)[0] if equation.params['length'] else 0
  elif is_call(equation):
    count = len(equation.invars)
  else:
    return None
  found = [_as_weight(atom, weights) for atom in equation.invars[:count]]
  pairs = zip(body(equation).invars[:count], found, strict=True)
  return {variable: weight for variable, weight in pairs if weight is not None}


def _as_weight(atom: Any, weights: Weights) -> Weight | None:
  if isinstance(atom, core.Literal):
    return Weight(lambda constants, memo: atom.val, frozenset())
  return weights.get(atom)


def weight_operand(equation: core.JaxprEqn, weights: Weights, active: Active) -> int | None:
  """Which operand is the weight, if it is such a product; adds what follows from weights alone."""
  found = [_as_weight(atom, weights) for atom in equation.invars]
  if all(weight is not None for weight in found) and not equation.effects:
    stopped = equation.primitive.name == 'stop_gradient'
    constants = frozenset() if stopped else frozenset().union(*(w.constants for w in found))
    sources = [weight.of for weight in found]
    for index, variable in enumerate(equation.outvars):
      weights[variable] = Weight(functools.partial(_derived, equation, sources, index), constants)
    return None
  if equation.primitive.name not in bilinear() or id(equation) not in active.equations:
    return None
  active_weights = (i for i, w in enumerate(found) if w and w.constants & active.constants)
  return next(active_weights, None)


def _derived(
  equation: core.JaxprEqn, sources: list[Callable], index: int, constants: Sequence[Any], memo: dict
) -> Any:
  """An output of an equation, which is evaluated once for each `memo`."""
  if id(sources) not in memo:
    memo[id(sources)] = plainly(equation, [source(constants, memo) for source in sources])
  return memo[id(sources)][index]
