"""Shapes and normalisation of the encoder and decoder of frames."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afslvm.likelihoods.gaussian import Gaussian
from afslvm.networks.dcgan import DcganDecoder, DcganEncoder
from afslvm.networks.mlp import MLP


@pytest.mark.parametrize(
  ('frame_size', 'halvings'),
  [((16, 16), 2), ((32, 32), 4), ((64, 64), 4), ((48, 80), 4), ((4, 6), 1)],
)
def test_shapes(frame_size, halvings):
  """Encoder to a vector, decoder to maps of half the size, likelihood to whole frames."""
  widths = tuple(range(3, 3 + halvings))

  def run(x, z):
    keys = {'params': jax.random.key(0)}
    encoder = DcganEncoder(widths=widths, features=7)
    decoder = DcganDecoder(frame_size=frame_size, widths=widths[::-1])
    likelihood = Gaussian((*frame_size, 3))
    h, encoded = encoder.init_with_output(keys, x)
    maps, decoded = decoder.init_with_output(keys, z)
    return (
      h,
      maps,
      likelihood.init_with_output(keys, maps, method='distribution')[0],
      (
        encoded['params'],
        decoded['params'],
      ),
    )

  x = jax.ShapeDtypeStruct((2, *frame_size, 3), jnp.float32)
  z = jax.ShapeDtypeStruct((2, 5), jnp.float32)
  h, maps, normal, (encoder, decoder) = jax.eval_shape(run, x, z)
  assert h.shape == (2, 7)
  assert maps.shape == (2, frame_size[0] // 2, frame_size[1] // 2, widths[0])
  assert normal.loc.shape == normal.log_scale.shape == (2, *frame_size, 3)
  smallest = tuple(side >> halvings for side in frame_size)
  last = encoder[f'layers_{halvings}']['conv']['kernel']
  assert last.shape == (*smallest, widths[-1], 7)
  assert decoder['layers_0']['conv']['kernel'].shape == (*smallest, 5, widths[-1])


def test_the_bound_of_the_input():
  """b tanh(x / b): nearly the input where it is small, and nothing above b."""
  x = jnp.full((1, 4, 4, 1), 1e6)
  bounded = DcganEncoder(widths=(3,), features=2, input_bound=10.0, normalization='none')
  params = bounded.init(jax.random.key(0), x)
  plain = bounded.copy(input_bound=0.0)
  at_bound = plain.apply(params, jnp.full_like(x, 10.0))
  np.testing.assert_allclose(bounded.apply(params, x), at_bound, rtol=1e-5)
  small = 0.01 * jax.random.normal(jax.random.key(1), x.shape)
  np.testing.assert_allclose(bounded.apply(params, small), plain.apply(params, small), rtol=1e-4)


@pytest.mark.parametrize('normalization', ['batch', 'group', 'none'])
def test_half_precision_is_of_convolutions_only(normalization):
  x = jax.random.normal(jax.random.key(0), (3, 4, 4, 1))
  options = {'normalization': normalization, 'compute_dtype': 'bfloat16'}
  encoder = DcganEncoder(widths=(8,), features=8, **options)
  variables = encoder.init(jax.random.key(0), x)
  h = encoder.apply(variables, x)
  assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype('float32')}
  assert h.dtype == jnp.float32
  whole = encoder.copy(compute_dtype='float32').apply(variables, x)
  assert 0 < float(jnp.abs(h - whole).max()) < 0.1


def test_masked_frames_do_not_count_in_batch_statistics():
  x = jax.random.normal(jax.random.key(0), (4, 4, 4, 1))
  encoder = DcganEncoder(widths=(3,), features=2)
  variables = encoder.init(jax.random.key(0), x)
  mask = jnp.array([True, True, True, False])
  _, some = encoder.apply(variables, x.at[3].set(1e3), mask, mutable=['batch_stats'])
  _, alone = encoder.apply(variables, x[:3], mutable=['batch_stats'])
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), some, alone)


def test_mlp_flattens_frames():
  x = jax.random.normal(jax.random.key(0), (3, 2, 2, 1))
  network = MLP(features=5, depth=2)
  variables = network.init(jax.random.key(0), x)
  p = variables['params']
  h = np.asarray(x).reshape(3, 4)
  for k in range(2):
    h = np.maximum(h @ p[f'dense_{k}']['kernel'] + p[f'dense_{k}']['bias'], 0)
  np.testing.assert_allclose(network.apply(variables, x), h, rtol=1e-4, atol=1e-5)
  assert MLP(depth=0).apply({}, x).shape == (3, 4)
