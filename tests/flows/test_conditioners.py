import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import constructors


def initialized(conditioner, seed=0):
  """Variables of a conditioner."""

  def both(module, x):
    features = module.encode(x)
    return module.decode(jnp.concatenate([features] * module.window, axis=-1))

  x = jnp.ones((2, *conditioner.event_shape))
  return jax.jit(lambda key: conditioner.init(key, x, method=both))(jax.random.key(seed))


def decode_random(conditioner, variables, frames=3):
  *size, channels = conditioner.feature_shape
  shape = (frames, *size, conditioner.window * channels)
  features = jax.random.normal(jax.random.key(5), shape)
  return jax.jit(lambda f: conditioner.apply(variables, f, method='decode'))(features)


MAKE = {'conv': constructors.conv, 'dense': constructors.dense}


@pytest.mark.parametrize('kind', MAKE)
def test_zero_heads_give_zeros_whatever_the_window(kind):
  conditioner = MAKE[kind]()
  for raw in decode_random(conditioner, initialized(conditioner)):
    assert raw.shape == (3, *conditioner.event_shape)
    np.testing.assert_array_equal(raw, 0)


@pytest.mark.parametrize('kind', MAKE)
@pytest.mark.parametrize('name', ['lecun', 'pytorch'])
def test_other_heads_do_not(kind, name):
  conditioner = MAKE[kind](head_initialization=name)
  variables = initialized(conditioner)
  for raw in decode_random(conditioner, variables):
    assert float(jnp.std(raw)) > 0.01
  bias = variables['params']['shift_head']['bias']
  assert np.any(bias != 0) == (name == 'pytorch')


def test_pytorch_initialization_is_uniform_within_its_bounds():
  """U(-1/√fan_in, 1/√fan_in), for kernels and biases of all layers, heads included."""
  conditioner = constructors.conv(
    channels=32, initialization='pytorch', head_initialization='pytorch'
  )
  params = initialized(conditioner)['params']
  layers = [params[name]['conv'] for name in ('encoder_0', 'decoder_0')]
  for layer in [*layers, params['shift_head'], params['log_scale_head']]:
    limit = np.prod(layer['kernel'].shape[:3]) ** -0.5
    for values in layer.values():
      assert np.abs(values).max() <= limit
    assert np.abs(layer['kernel']).max() > 0.95 * limit
    np.testing.assert_allclose(layer['kernel'].std(), limit / np.sqrt(3), rtol=0.1)
    assert np.unique(layer['bias']).size == layer['bias'].size


def test_default_initialization_keeps_biases_at_zero():
  params = initialized(constructors.conv())['params']
  for name in ('encoder_0', 'decoder_0'):
    np.testing.assert_array_equal(params[name]['conv']['bias'], 0)


def test_slots_of_the_window_share_the_encoder():
  """They enter the decoder side by side, and only its first layer tells them apart."""
  params = initialized(constructors.conv(window=3, channels=4))['params']
  assert params['encoder_0']['conv']['kernel'].shape == (3, 3, 2, 4)
  assert params['decoder_0']['conv']['kernel'].shape == (3, 3, 3 * 4, 4)


@pytest.mark.parametrize('depths', [(0, 1), (1, 0), (0, 0)])
def test_depth_zero(depths):
  encoder_depth, decoder_depth = depths
  options = {'encoder_depth': encoder_depth, 'decoder_depth': decoder_depth, 'patch': 2}
  conditioner = constructors.conv(**options, head_initialization='pytorch')
  variables = initialized(conditioner)
  shift, log_scale = decode_random(conditioner, variables)
  assert shift.shape == log_scale.shape == (3, *constructors.FRAME)
  head = variables['params']['shift_head']
  fan_in = np.prod(head['kernel'].shape[:3])
  assert np.abs(head['bias']).max() <= fan_in**-0.5


def test_a_linear_dense_conditioner_is_linear():
  conditioner = constructors.dense(depth=0, constant_scale=True, head_initialization='lecun')
  variables = initialized(conditioner)
  kernel = variables['params']['shift_head']['kernel']
  windows = jax.random.normal(jax.random.key(1), (4, 2 * 3))
  shift, log_scale = conditioner.apply(variables, windows, method='decode')
  expected = windows @ kernel
  np.testing.assert_allclose(shift, expected, rtol=1e-5, atol=1e-6)
  np.testing.assert_array_equal(log_scale, np.zeros((4, 3)))


@pytest.mark.parametrize('normalization', ['batch', 'group', 'none'])
def test_frames_are_encoded_one_by_one(normalization):
  """In evaluation no frame sees another, whichever normalisation."""
  conditioner = constructors.conv(normalization=normalization)
  variables = initialized(conditioner)
  x = jax.random.normal(jax.random.key(2), (5, *constructors.FRAME))
  encode = jax.jit(lambda x: conditioner.apply(variables, x, method='encode'))
  together, alone = encode(x), [encode(x[k : k + 1]) for k in range(5)]
  np.testing.assert_allclose(together, jnp.concatenate(alone), rtol=1e-4, atol=1e-5)
