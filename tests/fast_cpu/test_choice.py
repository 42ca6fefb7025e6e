"""Which forms are traced, where, and for how long."""

import contextlib

import jax
import jax.numpy as jnp
import pytest

from afslvm import fast_cpu
from afslvm.fast_cpu import choice
from afslvm.networks import strided


@pytest.mark.parametrize(
  ('backend', 'used'),
  [
    ('cpu', {'auto': True, 'plain': False, 'products': True}),
    ('gpu', {'auto': False, 'plain': False, 'products': True}),
  ],
)
def test_forms_are_used_on_cpu_unless_another_choice_is_made(backend, used, monkeypatch):
  monkeypatch.setattr(jax, 'default_backend', lambda: backend)
  assert used.keys() == set(fast_cpu.CHOICES)
  assert fast_cpu.is_used() == used['auto']
  for name, expected in used.items():
    with fast_cpu.choose(name):
      assert fast_cpu.is_used() == expected


@pytest.mark.parametrize(
  ('context', 'holds'),
  [
    (fast_cpu.choose('plain'), lambda: not fast_cpu.is_used()),
    (fast_cpu.in_loop(), choice.is_in_loop),
  ],
  ids=['choose', 'in_loop'],
)
def test_a_context_ends_with_an_error_too(context, holds):
  assert not holds()
  with contextlib.suppress(KeyError), context:
    assert holds()
    raise KeyError
  assert not holds()


def test_the_inner_choice_holds():
  with fast_cpu.choose('plain'):
    with fast_cpu.choose('products'):
      assert fast_cpu.is_used()
    assert not fast_cpu.is_used()


def test_a_choice_for_a_function_holds_when_it_is_traced():
  """So it does for its derivatives, which are traced after it, and as often as it is traced."""
  x, kernel = jnp.ones((2, 4, 4, 3)), jnp.ones((4, 4, 3, 2))

  def step(kernel):
    return jax.value_and_grad(lambda kernel: jnp.sum(strided.downsample(x, kernel)))(kernel)

  chosen = jax.jit(fast_cpu.choose('plain')(step))
  for _ in range(2):
    assert 'dot_general' not in str(jax.make_jaxpr(chosen)(kernel))
    assert 'conv_general_dilated' not in str(jax.make_jaxpr(step)(kernel))
    jax.clear_caches()
