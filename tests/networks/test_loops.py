"""Gradients of weights after the loop are those that autodiff carries through it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afslvm.networks import conv, windows
from afslvm.networks.loops import gradients_after_loops

STEPS, BATCH, SIZE = 7, 4, 5


def values(*shape, seed=0):
  return jnp.array(0.4 * np.random.default_rng(seed).normal(size=shape), jnp.float32)


SQUARE, INPUT = values(SIZE, SIZE), values(3, SIZE, seed=2)
KERNEL = values(3, 3, 2, 2, seed=3)
X = values(STEPS, BATCH, 3, seed=4)


def over_steps(step, **options):
  """The loss of a loop whose step is (weight, h, x_t) -> h."""

  def loss(weight, x):
    body = lambda h, x_t: 2 * (step(weight, h, x_t),)  # noqa: E731
    end, outputs = jax.lax.scan(body, jnp.zeros((BATCH, SIZE)), x, **options)
    return jnp.sum(jnp.square(outputs)) + jnp.sum(end)

  return loss


def convolved(kernel, h, x_t):
  maps = jnp.tile(h[:, :, None, None], (1, 1, 4, 2))
  numbers = ('NHWC', 'HWIO', 'NHWC')
  y = jax.lax.conv_general_dilated(maps, kernel, (1, 1), 'SAME', dimension_numbers=numbers)
  return jnp.tanh(y.mean(axis=(2, 3)) + x_t @ INPUT + h)


def descended(weight, h, x_t):
  """A loop of gradient steps inside the loop, as in iterative inference."""

  def energy(h):
    return jnp.sum(jnp.square(jnp.tanh(h @ weight) - x_t @ INPUT))

  return jax.lax.fori_loop(0, 3, lambda _, h: h - 0.1 * jax.grad(energy)(h), h + 1)


def descended_maps(kernel, h, x_t):
  return jax.lax.fori_loop(
    0, 2, lambda _, h: h - 0.1 * jax.grad(lambda h: jnp.sum(convolved(kernel, h, x_t)))(h), h + 1
  )


LOOPS = {
  'product': over_steps(lambda w, h, x: jnp.tanh(x @ INPUT + jax.lax.dot(h, w))),
  'backwards, unrolled': over_steps(
    lambda w, h, x: jnp.tanh(x @ INPUT + h @ w), reverse=True, unroll=2
  ),
  'inside a call': over_steps(lambda w, h, x: jnp.tanh(x @ INPUT + jnp.matmul(w, h.T).T)),
  'used twice': over_steps(lambda w, h, x: jnp.tanh(x @ INPUT + h @ w + jnp.tanh(h @ w) @ w.T)),
  'of a weight that is computed': over_steps(
    lambda w, h, x: jnp.tanh(x @ INPUT + h @ jnp.concatenate([2 * w[:2].T, w[:, 2:]], axis=1))
  ),
  'elsewhere too': over_steps(lambda w, h, x: jnp.tanh(x @ INPUT + h @ w + jnp.sum(w) * h)),
  'partly held': over_steps(lambda w, h, x: jnp.tanh(x @ INPUT + h @ jax.lax.stop_gradient(w) @ w)),
  'loop in a loop': over_steps(descended),
  'in low precision': over_steps(
    lambda w, h, x: jnp.tanh(x @ INPUT + (h.astype(jnp.bfloat16) @ w.astype(jnp.bfloat16)))
  ),
}


def assert_same(found, expected, tolerance):
  """Every array to `tolerance` of its largest value: CPUs round sums that cancel differently."""
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * np.abs(b).max())


@pytest.mark.parametrize('name', LOOPS)
def test_gradients_are_those_of_autodiff(name):
  loss, tolerance = LOOPS[name], 3e-2 if 'low' in name else 1e-5
  found = jax.value_and_grad(gradients_after_loops(loss), argnums=(0, 1))(SQUARE, X)
  expected = jax.value_and_grad(loss, argnums=(0, 1))(SQUARE, X)
  assert_same(found, expected, tolerance)
  assert np.any(np.asarray(expected[1][0]))


@pytest.mark.parametrize('form', ['at once', 'by parts', 'over windows'])
def test_gradient_of_a_convolution(form, monkeypatch):
  monkeypatch.setattr(conv, '_VALUES_OVER_WINDOWS', 0)
  monkeypatch.setattr(conv, '_VALUES_IN_A_PART', 64 if form == 'by parts' else 2**22)
  monkeypatch.setattr(windows, '_MIN_CHANNELS', 1 if form == 'over windows' else 10)
  loss = over_steps(convolved)
  assert_same(jax.grad(gradients_after_loops(loss))(KERNEL, X), jax.grad(loss)(KERNEL, X), 1e-5)


def strided(kernel, h, x_t):
  maps = jnp.tile(h[:, :, None, None], (1, 1, 5, 2))
  numbers, options = ('NHWC', 'OHWI', 'NHWC'), {'precision': 'highest'}
  y = jax.lax.conv_general_dilated(
    maps, kernel, (2, 1), [(0, 2), (1, 0)], dimension_numbers=numbers, **options
  )
  return h + jnp.tanh(y.mean(axis=(1, 2, 3))[:, None] + x_t @ INPUT)


@pytest.mark.parametrize(
  ('step', 'kernel'),
  [
    (convolved, KERNEL),
    (convolved, KERNEL[..., :1]),
    (strided, KERNEL.transpose(3, 0, 1, 2)),
    (descended_maps, KERNEL),
  ],
  ids=['3 x 3', 'to few channels', 'strided', 'loop in a loop'],
)
def test_convolutions_in_loops_are_products_over_windows(step, kernel):
  loss = over_steps(step)
  found = jax.value_and_grad(gradients_after_loops(loss), argnums=(0, 1))
  expected = jax.value_and_grad(loss, argnums=(0, 1))(kernel, X)
  assert_same(found(kernel, X), expected, 1e-5)
  loops = [e for e in jax.make_jaxpr(found)(kernel, X).eqns if e.primitive.name == 'scan']
  assert loops
  assert 'conv_general_dilated' not in str(loops)


def test_convolutions_with_their_own_gradient_are_products_in_loops_too(monkeypatch):
  """Where nothing differentiates the call before, as AVF does the error between x and its mean."""
  monkeypatch.setattr(conv, '_VALUES_OVER_WINDOWS', 0)

  def step(kernel, h, x_t):
    maps = jnp.tile(h[:, :, None, None], (1, 1, 4, 2))
    y = conv.convolve(maps, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'))
    return jnp.tanh(y.mean(axis=(2, 3)) + x_t @ INPUT + h)

  loss = over_steps(step)
  found = jax.value_and_grad(gradients_after_loops(loss))
  assert_same(found(KERNEL, X), jax.value_and_grad(loss)(KERNEL, X), 1e-5)
  assert 'custom_vjp_call' in str(jax.make_jaxpr(loss)(KERNEL, X))
  loops = [e for e in jax.make_jaxpr(found)(KERNEL, X).eqns if e.primitive.name == 'scan']
  assert loops
  assert 'conv_general_dilated' not in str(loops)
  assert not [v for loop in loops for v in loop.outvars if v.aval.shape == KERNEL.shape]


@pytest.mark.parametrize(
  'name', ['product', 'inside a call', 'used twice', 'loop in a loop', 'convolution']
)
def test_no_step_backwards_adds_to_an_array_of_the_weights_size(name):
  loss, weight = LOOPS.get(name, over_steps(convolved)), SQUARE if name in LOOPS else KERNEL

  def carried(loss):
    jaxpr = jax.make_jaxpr(jax.grad(loss))(weight, X)
    loops = [equation for equation in jaxpr.eqns if equation.primitive.name == 'scan']
    shapes = [variable.aval.shape for loop in loops for variable in loop.outvars]
    return shapes.count(weight.shape)

  assert carried(gradients_after_loops(loss)) == 0
  assert carried(loss) > 0


def test_nothing_is_kept_for_products_whose_results_are_held():
  def step(weight, h, x_t):
    def energy(h):
      return jnp.sum(jnp.square(jnp.tanh(h @ weight) - x_t @ INPUT))

    def descend(_, h):
      return h - 0.1 * jax.lax.stop_gradient(jax.grad(energy)(h))

    return jnp.tanh(jax.lax.fori_loop(0, 3, descend, h) @ weight)

  loss = over_steps(step)
  found = jax.grad(gradients_after_loops(loss))
  np.testing.assert_allclose(found(SQUARE, X), jax.grad(loss)(SQUARE, X), rtol=1e-4, atol=1e-6)
  outside = jax.make_jaxpr(found)(SQUARE, X).eqns
  assert [e.primitive.name for e in outside].count('dot_general') == 1  # of the last line


def test_a_weight_that_is_computed_is_computed_once():
  def step(weight, h, x_t):
    for _ in range(12):
      weight = weight * (1.5 - 0.5 * weight * weight)
    return jnp.tanh(x_t @ INPUT + h @ weight)

  loss = over_steps(step)
  found = jax.make_jaxpr(jax.grad(gradients_after_loops(loss)))(SQUARE, X)
  assert str(found).count(' mul ') < 300  # there would be half a million


def test_a_second_derivative_is_refused():
  slope = jax.grad(gradients_after_loops(LOOPS['product']))
  with pytest.raises(TypeError, match='differentiated again'):
    jax.grad(lambda w: jnp.sum(jnp.square(slope(w, X))))(SQUARE)
  both = jax.value_and_grad(gradients_after_loops(LOOPS['product']))
  with pytest.raises(TypeError, match='differentiated again'):
    jax.grad(lambda w: both(w, X)[0])(SQUARE)


def test_a_loop_of_no_steps_has_no_gradient():
  slope = jax.grad(gradients_after_loops(LOOPS['product']))(SQUARE, X[:0])
  np.testing.assert_array_equal(slope, 0.0)


def test_what_is_no_number_goes_through():
  """Keys, counters and auxiliary outputs, inside the loop and out."""

  def loss(weight, x, key):
    def step(carry, x_t):
      h, key, count = carry
      key, own = jax.random.split(key)
      h = jnp.tanh(h @ weight + x_t @ INPUT + jax.random.normal(own, h.shape))
      return (h, key, count + 1), count

    (h, _, count), counts = jax.lax.scan(step, (jnp.zeros((BATCH, SIZE)), key, 0), x)
    return jnp.sum(h), {'count': count, 'counts': counts}

  arguments = SQUARE, X, jax.random.key(0)
  (value, auxiliary), slope = jax.jit(
    jax.value_and_grad(gradients_after_loops(loss), has_aux=True)
  )(*arguments)
  (expected, _), expected_slope = jax.value_and_grad(loss, has_aux=True)(*arguments)
  assert int(auxiliary['count']) == STEPS
  np.testing.assert_array_equal(auxiliary['counts'], range(STEPS))
  np.testing.assert_allclose(value, expected, rtol=1e-6)
  np.testing.assert_allclose(slope, expected_slope, rtol=1e-5, atol=1e-6)


def test_loops_without_weights_stay_as_they_are():
  def loss(x):
    return jax.lax.scan(lambda h, x_t: (h + jnp.sum(x_t), None), 0.0, x)[0]

  plain, found = (str(jax.make_jaxpr(f)(X)) for f in (loss, gradients_after_loops(loss)))
  assert 'custom_vjp' not in found
  assert plain.count('scan[') == found.count('scan[') == 1
