"""The table of models that the property tests run over: adding a model here tests it."""

import jax
import jax.numpy as jnp

from afslvm.flows.conditioners import ConvConditioner, DenseConditioner
from afslvm.flows.temporal import AutoregressiveAffine
from afslvm.models.standard_normal import StandardNormal
from afslvm.models.temporal_flow import TemporalFlow

FRAME, VECTOR = (4, 6, 2), (3,)


def conv(**options):
  tiny = {'window': 2, 'channels': 4, 'encoder_depth': 1, 'decoder_depth': 1}
  return ConvConditioner(FRAME, **{**tiny, **options})


def dense(**options):
  return DenseConditioner(VECTOR, **{'window': 2, 'features': 5, 'depth': 1, **options})


def flows(num_flows, conditioner, base=None, **options):
  event_shape = conditioner.event_shape
  model = base or StandardNormal(event_shape)
  for _ in range(num_flows):
    flow = AutoregressiveAffine(conditioner.copy(), **options)
    model = TemporalFlow(event_shape, base=model, flow=flow)
  return model


MODELS = {
  'standard_normal': lambda: StandardNormal(VECTOR),
  '1-AF conv batch context': lambda: flows(1, conv()),
  '1-AF conv group learned': lambda: flows(1, conv(normalization='group'), boundary='learned'),
  '2-AF conv patch sigmoid': lambda: flows(2, conv(patch=2), shift_activation='sigmoid'),
  '2-AF conv paper learned': lambda: flows(
    2, conv(normalization='none'), boundary='learned', log_scale_bound='paper'
  ),
  '1-AF dense symmetric': lambda: flows(1, dense(), log_scale_bound='symmetric'),
  '3-AF linear constant': lambda: flows(3, dense(depth=0, window=1, constant_scale=True)),
  '2-AF dense learned': lambda: flows(2, dense(), boundary='learned'),
}
FLOWS = {name: make for name, make in MODELS.items() if 'AF' in name}


def data(model, batch=3, steps=9, seed=0):
  return jax.random.uniform(jax.random.key(seed), (batch, steps, *model.event_shape))


def randomized(model, x, seed=1, scale=0.1):
  """Variables with random values everywhere, so that no property holds by a zero head."""
  keys = {'params': jax.random.key(seed), 'sample': jax.random.key(seed)}
  variables = model.init(keys, x, method='initialize')
  leaves, tree = jax.tree_util.tree_flatten_with_path(variables)
  noisy = []
  for index, (path, leaf) in enumerate(leaves):
    noise = scale * jax.random.normal(jax.random.key(seed + index), leaf.shape)
    noisy.append(leaf + (jnp.abs(noise) if 'var' in jax.tree_util.keystr(path) else noise))
  return jax.tree.unflatten(tree, noisy)
