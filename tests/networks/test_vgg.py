"""Shapes of VGG's encoder and decoder, what they compute, and what the decoder sees beside it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afslvm.networks import dcgan, vgg

WIDTHS, DEPTHS = (3, 5), (2, 1)


def networks(kind, frame_size=(8, 12), **options):
  """Encoder and decoder with two stages or strided layers, and 8 features."""
  if kind == 'vgg':
    encoder = vgg.VggEncoder(WIDTHS, DEPTHS, 8, **options)
    return encoder, vgg.VggDecoder(frame_size, WIDTHS[::-1], DEPTHS[::-1], **options)
  encoder = dcgan.DcganEncoder(WIDTHS, 8, last_activation='tanh', **options)
  return encoder, dcgan.DcganDecoder(frame_size, WIDTHS[::-1], **options)


def encoded(encoder, x):
  """Its variables, output and maps."""
  (h, maps), variables = encoder.init_with_output(jax.random.key(0), x, method='with_maps')
  return variables, h, maps


@pytest.mark.parametrize('kind', ['vgg', 'dcgan'])
def test_shapes(kind):
  encoder, decoder = networks(kind)
  x = jax.random.normal(jax.random.key(0), (2, 8, 12, 1))
  _, h, maps = encoded(encoder, x)
  assert h.shape == (2, 8)
  assert float(jnp.abs(h).max()) <= 1.0
  assert [m.shape[1:] for m in maps] == encoder.map_shapes((8, 12))
  full = [(8, 12, 3), (4, 6, 5)] if kind == 'vgg' else [(4, 6, 3), (2, 3, 5)]
  assert encoder.map_shapes((8, 12)) == full
  size = full[0][:2]
  alone = decoder.init_with_output(jax.random.key(0), h)[0]
  joined = decoder.init_with_output(jax.random.key(0), h, None, maps)[0]
  assert alone.shape == (2, *size, 3)
  # DCGAN's last layer is the likelihood's, which sees the largest maps, too.
  assert joined.shape == (2, *size, 3 if kind == 'vgg' else 6)


def test_the_encoder_by_hand():
  """Without normalisation: convolutions, leaky ReLUs, maxima of blocks; then the whole map."""
  encoder, _ = networks('vgg', normalization='none')
  x = np.asarray(jax.random.normal(jax.random.key(1), (1, 8, 12, 1)))
  variables, h, maps = encoded(encoder, x)
  params = jax.tree.map(lambda v: np.asarray(v, np.float64), variables['params'])

  def layer(x, conv):
    padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    height, width = x.shape[1:3]
    y = sum(
      padded[:, i : i + height, j : j + width] @ conv['kernel'][i, j]
      for i in range(3)
      for j in range(3)
    )
    y = y + conv['bias']
    return np.where(y > 0, y, 0.2 * y)

  expected = x
  for stage, depth in enumerate(DEPTHS):
    for k in range(depth):
      expected = layer(expected, params[f'stages_{stage}_{k}']['conv'])
    np.testing.assert_allclose(maps[stage], expected, rtol=1e-4, atol=1e-5)
    corners = [expected[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]
    expected = np.max(corners, axis=0)
  last = params['last']['conv']
  expected = np.tanh(np.einsum('nhwc,hwco->no', expected, last['kernel']) + last['bias'])
  np.testing.assert_allclose(h, expected, rtol=1e-4, atol=1e-5)


def test_the_gradient_of_the_maxima():
  """It goes to the largest of each block, whatever the compiler makes of what comes before."""
  h = jax.random.normal(jax.random.key(0), (3, 4, 6, 2))
  gradient = jax.jit(jax.grad(lambda h: jnp.sum(jnp.arange(36.0) * vgg.halve(h).reshape(36))))(h)
  blocks = np.asarray(h).reshape(3, 2, 2, 3, 2, 2).transpose(0, 1, 3, 5, 2, 4).reshape(36, 4)
  found = np.asarray(gradient).reshape(3, 2, 2, 3, 2, 2).transpose(0, 1, 3, 5, 2, 4).reshape(36, 4)
  largest = np.eye(4)[blocks.argmax(axis=1)]
  np.testing.assert_array_equal(found, np.arange(36.0)[:, None] * largest)
  encoder, _ = networks('vgg', normalization='group')
  x = jax.random.normal(jax.random.key(1), (27, 8, 12, 1))
  variables, *_ = encoded(encoder, x)
  compiled = jax.jit(jax.grad(lambda v: jnp.sum(jnp.square(encoder.apply(v, x)))))(variables)
  for leaf in jax.tree.leaves(compiled):
    assert np.all(np.isfinite(leaf))


def test_doubling():
  h = jnp.arange(6.0).reshape(1, 2, 3, 1)
  doubled = np.asarray(vgg.double(h))[0, ..., 0]
  np.testing.assert_array_equal(doubled, np.kron(np.asarray(h)[0, ..., 0], np.ones((2, 2))))
  np.testing.assert_array_equal(vgg.halve(vgg.double(h)), h)


@pytest.mark.parametrize('kind', ['vgg', 'dcgan'])
def test_every_map_reaches_the_decoder(kind):
  encoder, decoder = networks(kind, normalization='none')
  x = jax.random.normal(jax.random.key(0), (1, 8, 12, 1))
  _, h, maps = encoded(encoder, x)
  variables = decoder.init(jax.random.key(0), h, None, maps)

  def total(maps):
    return jnp.sum(jnp.square(decoder.apply(variables, h, None, maps)))

  for gradient in jax.grad(total)(maps):
    assert float(jnp.abs(gradient).max()) > 0


@pytest.mark.parametrize('kind', ['vgg', 'dcgan'])
def test_half_precision_is_of_convolutions_only(kind):
  encoder, decoder = networks(kind, compute_dtype='bfloat16')
  x = jax.random.normal(jax.random.key(0), (2, 8, 12, 1))
  variables, h, maps = encoded(encoder, x)
  assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype('float32')}
  made = decoder.init_with_output(jax.random.key(0), h, None, maps)[0]
  assert {h.dtype, made.dtype, *(m.dtype for m in maps)} == {jnp.dtype('float32')}
