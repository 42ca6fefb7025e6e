"""The paper's code's temporal flows, `cond_like.transforms.{m}`."""

from typing import Any

import jax
import numpy as np

from afslvm.errors import ConfigError
from afslvm.flows.conditioners import ConvConditioner
from afslvm.flows.temporal import AutoregressiveAffine, AutoregressiveFlow
from afslvm.models.base import SequenceModel
from afslvm.models.temporal_flow import TemporalFlow
from afslvm.reference_weights import layout
from afslvm.reference_weights.layout import Arrays, Names
from afslvm.types import PyTree

PREFIX = 'cond_like.transforms.'


def names(encoder_depth: int, decoder_depth: int) -> Names:
  """PyTorch name within `cond_like.transforms.{m}.` -> place within an `AutoregressiveAffine`."""
  found: Names = {}
  for half, depth in (('encoder', encoder_depth), ('decoder', decoder_depth)):
    for k in range(depth):
      torch = f'network.{half}.{k - 1}' if k else f'network.init_{half}'
      block = layout.block('main.0', 'main.1')
      found.update(layout.within(torch, block, f'conditioner/{half}_{k}'))
  for head in ('shift', 'log_scale'):
    torch = layout.linear(f'{head}_net', 'conv')
    found.update(layout.within('network', torch, f'conditioner/{head}_head'))
  return found


def channels(weights: Arrays) -> int:
  """C of the frames, from the weights of flow 0."""
  return layout.shape_of(weights, 'network.shift_net.weight', 'conv', f'{PREFIX}0.')[0]


def wrap(
  base: SequenceModel, base_variables: PyTree, weights: Arrays, index: int
) -> tuple[SequenceModel, PyTree]:
  """A flow around `base`; its widths and depths are those of the arrays."""
  prefix = f'{PREFIX}{index}.'
  first = layout.shape_of(weights, 'network.init_encoder.main.0.weight', 'conv', prefix)
  joined = layout.shape_of(weights, 'network.init_decoder.main.0.weight', 'conv', prefix)
  depths = [1 + layout.count(weights, f'network.{half}.') for half in ('encoder', 'decoder')]
  own = names(*depths)
  layout.check_names(weights, own, 'a flow', prefix)
  conditioner = ConvConditioner(
    base.event_shape,
    window=max(joined[1] // first[0], 1),
    channels=first[0],
    encoder_depth=depths[0],
    decoder_depth=depths[1],
    normalization='batch',
    initialization='pytorch',
    head_initialization='pytorch',
  )
  flow = AutoregressiveAffine(conditioner, boundary='context', log_scale_bound='paper')
  variables: dict[str, Any] = {name: {'base': tree} for name, tree in base_variables.items()}
  for name, tree in layout.read(weights, own, _expected_shapes(flow), prefix).items():
    variables.setdefault(name, {})['flow'] = tree
  return TemporalFlow(base.event_shape, base=base, flow=flow), variables


def _expected_shapes(flow: AutoregressiveAffine) -> PyTree:
  """Shapes of a flow's variables on the smallest frames that have them."""
  small = (1, 1, flow.conditioner.event_shape[-1])
  flow = flow.copy(conditioner=flow.conditioner.copy(event_shape=small))
  x = jax.ShapeDtypeStruct((1, flow.window + 1, *small), np.float32)
  mask = jax.ShapeDtypeStruct((1, flow.window + 1), bool)

  def create(x, mask):
    return flow.init(jax.random.key(0), x, mask, method='sequence_parameters')

  return jax.eval_shape(create, x, mask)


def write(flow: AutoregressiveFlow, variables: PyTree) -> dict[str, np.ndarray]:
  """The weights of one flow, without their prefix.

  Raises:
    ConfigError: the flow has no counterpart in the paper's code.
  """
  conditioner = flow.conditioner
  same = (
    isinstance(flow, AutoregressiveAffine)
    and isinstance(conditioner, ConvConditioner)
    and conditioner.normalization == 'batch'
    and conditioner.patch == 1
    and min(conditioner.encoder_depth, conditioner.decoder_depth) > 0
    and (flow.boundary, flow.shift_activation, flow.log_scale_bound)
    == ('context', 'linear', 'paper')
  )
  if not same:
    raise ConfigError('only convolutional flows as in configs/moving_mnist have a counterpart')
  return layout.write(variables, names(conditioner.encoder_depth, conditioner.decoder_depth))
