"""The paper's code's sequential latent variable model: `prior`, `approx_post`, `cond_like`."""

import jax
import numpy as np

from afslvm.errors import ConfigError
from afslvm.inference.direct import Direct
from afslvm.likelihoods.gaussian import Gaussian
from afslvm.models.priors import LSTMPrior
from afslvm.models.slvm import SLVM
from afslvm.networks.dcgan import DcganDecoder, DcganEncoder
from afslvm.reference_weights import layout
from afslvm.reference_weights.layout import Arrays, Names
from afslvm.types import PyTree

_CONV, _NORM = 'linear', 'batch_norm'  # both convolutions and dense layers are `linear` there
_ENCODER = 'approx_post.spatial_network.layers.'
_DECODER = 'cond_like.spatial_network.layers.'
_DENSE = 'prior.spatial_network.layers.'


def _lstm(net: str) -> str:
  return f'{net}.temporal_network.layers.'


def names(encoder: int, decoder: int, dense: int, prior: int, posterior: int) -> Names:
  """PyTorch name -> place within an `SLVM`, by the number of layers of each kind."""
  found: Names = {}
  for k in range(encoder):
    block = layout.block(_CONV, _NORM)
    found.update(layout.within(f'{_ENCODER}{k}', block, f'inference/encoder/layers_{k}'))
  for k in range(decoder):
    block = layout.block(_CONV, _NORM, 'transposed' if k else 'point')
    found.update(layout.within(f'{_DECODER}{k}', block, f'decoder/layers_{k}'))
  for torch, head in (('loc', 'mean_head'), ('scale', 'log_scale_head')):
    layer = layout.linear(f'cond_like.param_layers.{torch}.layers.0.linear', 'transposed')
    found.update(_at_module(layer, f'likelihood/{head}/conv'))
  for k in range(dense):
    found.update(_at_module(layout.linear(f'{_DENSE}{k}.linear'), f'dynamics/dense_{k}'))
  for net, module, layers in (
    ('prior', 'dynamics', prior),
    ('approx_post', 'inference', posterior),
  ):
    for k in range(layers):
      found.update(layout.within(f'{_lstm(net)}{k}', layout.lstm_cell(k), f'{module}/lstm'))
    for torch, head in (('loc', 'loc'), ('scale', 'log_scale')):
      layer = layout.linear(f'{net}.param_layers.{torch}.layers.0.linear')
      found.update(_at_module(layer, f'{module}/heads/{head}'))
  return found


def _at_module(found: Names, module: str) -> Names:
  return {name.removeprefix('.'): p for name, p in layout.within('', found, module).items()}


def load(weights: Arrays, frame_size: tuple[int, int], channels: int | None) -> tuple[SLVM, PyTree]:
  """The model that the weights describe: sigmoid mean on data, linear on what flows pass on.

  Args:
    weights: by their PyTorch names.
    frame_size: (H, W).
    channels: of frames, where flows said; then the model is one of what they pass on.

  Raises:
    ConfigError: a name that is missing or unknown, or an array of the wrong shape.
  """
  depths = {
    'encoder': layout.count(weights, _ENCODER),
    'decoder': layout.count(weights, _DECODER),
    'dense': layout.count(weights, _DENSE),
    'prior': layout.count(weights, _lstm('prior')),
    'posterior': layout.count(weights, _lstm('approx_post')),
  }
  own = names(**depths)
  layout.check_names(weights, own, 'an SLVM')
  _check_depths(depths, frame_size)
  model = _model(weights, depths, (*frame_size, _channels(weights)), under_flows=bool(channels))
  x = jax.ShapeDtypeStruct((1, 1, *model.event_shape), np.float32)
  keys = {'params': jax.random.key(0), 'sample': jax.random.key(0)}
  expected = jax.eval_shape(lambda x: model.init(keys, x, method='initialize'), x)
  return model, layout.read(weights, own, expected)


def _check_depths(depths: dict[str, int], frame_size: tuple[int, int]):
  for name, depth in depths.items():
    if not depth and name != 'dense':
      raise ConfigError(f'there are no weights of the {name} layers of an SLVM')
  halvings = depths['encoder'] - 1
  if any(side % 2**halvings or side % 2 ** depths['decoder'] for side in frame_size):
    raise ConfigError(
      f'frame_size={frame_size} does not suit weights that halve frames {halvings} times and '
      f'double them {depths["decoder"]} times'
    )


def _channels(weights: Arrays) -> int:
  return layout.shape_of(weights, f'{_ENCODER}0.linear.weight', 'conv')[1]


def _model(
  weights: Arrays, depths: dict[str, int], event_shape: tuple[int, int, int], under_flows: bool
) -> SLVM:
  def width(name: str, kind: str, axis: int) -> int:
    return layout.shape_of(weights, name, kind)[axis]

  *widths, features = (
    width(f'{_ENCODER}{k}.linear.weight', 'conv', 0) for k in range(depths['encoder'])
  )
  size = width(f'{_DECODER}0.linear.weight', 'point', 0)
  dense = width(f'{_DENSE}0.linear.weight', 'linear', 0) if depths['dense'] else 1
  hidden = {net: width(f'{_lstm(net)}0.lstm.weight_hh', 'gates', 1) for net in _NETS}
  return SLVM(
    event_shape=event_shape,
    latent_shape=(size,),
    likelihood=Gaussian(
      event_shape,
      mean_activation='linear' if under_flows else 'sigmoid',
      log_scale_bound='clip',
      log_scale_low=-15.0,
      log_scale_high=5.0,
    ),
    inference=Direct(
      size,
      DcganEncoder(tuple(widths), features),
      hidden=hidden['approx_post'],
      layers=depths['posterior'],
    ),
    dynamics=LSTMPrior(
      size, dense, depths['dense'], hidden=hidden['prior'], layers=depths['prior']
    ),
    decoder=DcganDecoder(
      event_shape[:2],
      tuple(width(f'{_DECODER}{k}.linear.weight', 'point', 1) for k in range(depths['decoder'])),
    ),
  )


_NETS = ('prior', 'approx_post')


def write(model: SLVM, variables: PyTree) -> dict[str, np.ndarray]:
  """The inverse of `load`; of an LSTM's two biases the second is zero.

  Raises:
    ConfigError: the model has parts that the paper's code hasn't.
  """
  posterior, prior, encoder, decoder = (
    model.inference,
    model.dynamics,
    getattr(model.inference, 'encoder', None),
    model.decoder,
  )
  same = (
    isinstance(posterior, Direct)
    and isinstance(prior, LSTMPrior)
    and isinstance(encoder, DcganEncoder)
    and isinstance(decoder, DcganDecoder)
    and (posterior.residual, prior.first_step, encoder.input_bound) == (False, 'recurrent', 0.0)
    and encoder.normalization == decoder.normalization == 'batch'
    and getattr(model.likelihood, 'log_scale_bound', '') == 'clip'
  )
  if not same:
    raise ConfigError('only an SLVM as in configs/moving_mnist has a counterpart')
  depths = (len(encoder.widths) + 1, len(decoder.widths), prior.depth)
  return layout.write(variables, names(*depths, prior.layers, posterior.layers))
