"""The table of models that the property tests run over: adding a model here tests it."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from afslvm.flows.conditioners import ConvConditioner, DenseConditioner
from afslvm.flows.temporal import AutoregressiveAffine
from afslvm.models.base import SequenceModel, StepTerms
from afslvm.models.standard_normal import StandardNormal
from afslvm.models.temporal_flow import TemporalFlow
from afslvm.networks.conv import Normalization

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
  'recurrent': lambda: Recurrent(VECTOR),
  'recurrent batch': lambda: Recurrent(VECTOR, normalization='batch'),
  'flow around recurrent': lambda: flows(1, dense(), base=Recurrent(VECTOR)),
}
FLOWS = {name: make for name, make in MODELS.items() if 'AF' in name}


class Recurrent(SequenceModel):
  """A GRU with a latent variable taken at its posterior mean: a model that needs the scan."""

  normalization: str = 'none'

  def setup(self):
    (size,) = self.event_shape
    self.cell = nn.GRUCell(4)
    self.prior, self.posterior = nn.Dense(2), nn.Dense(2)
    self.normalize = Normalization(self.normalization)
    self.mean = nn.Dense(size)

  def initial_state(self, batch_size):
    return jnp.zeros((batch_size, 4))

  def step(self, state, x_t, mask_t=None):
    prior, z_t = self.prior(state), self.posterior(jnp.concatenate([state, x_t], axis=-1))
    kl = 0.5 * jnp.sum(jnp.square(z_t - prior), axis=-1)
    mean = self.mean(self.normalize(jnp.concatenate([state, z_t], axis=-1), mask_t))
    log_prob = -0.5 * jnp.sum(jnp.square(x_t - mean) + math.log(2 * math.pi), axis=-1)
    state = self.cell(state, jnp.concatenate([x_t, z_t], axis=-1))[0]
    return state, StepTerms(log_prob, kl, jnp.zeros_like(kl), jnp.ones(kl.shape, bool))

  def predict(self, state, temperature=1.0):
    noise = jax.random.normal(self.make_rng('sample'), (state.shape[0], 2))
    z_t = self.prior(state) + temperature * noise
    x_t = self.mean(self.normalize(jnp.concatenate([state, z_t], axis=-1)))
    return self.cell(state, jnp.concatenate([x_t, z_t], axis=-1))[0], x_t


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
