"""Models that are trained: the bucket and the batch of a sequence change no number."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afslvm import building
from afslvm.configs import common
from afslvm.evaluation import sequences as sequences_lib
from tests import linear_gaussian as lg
from tests.evaluation.ragged import buckets
from tests.evaluation.test_sequences import contract
from tests.thorough import some_of

SIZE = 3
LAYERS = {'features': 4, 'depth': 1}
DIRECT = {'hidden': 4, 'layers': 1}
ITERATIVE = {'name': 'iterative', 'num_iterations': 2, 'observation': True, **LAYERS}


def srnn(inference):
  parts = {
    **dict.fromkeys(('embedding', 'prior', 'decoder'), LAYERS),
    **{'encoder': {'name': 'mlp', **LAYERS}, 'recurrence': {'features': 4}},
  }
  return common.srnn(2, {**parts, 'inference': inference, 'likelihood': {}})


def slvm(inference):
  network = {'name': 'mlp', **LAYERS}
  prior = {'features': 4, 'depth': 1, 'hidden': 4, 'layers': 1}
  return common.slvm(
    2, encoder=network, decoder=network, prior=prior, inference=inference, likelihood={}
  )


def flow_around(model):
  conditioner = {'name': 'dense', 'window': 2, **LAYERS}
  return common.temporal_flows(model, conditioner, [{'boundary': 'learned'}])


MODELS = {
  'slvm under a flow': lambda: flow_around(slvm(DIRECT)),
  'slvm iterative': lambda: slvm(ITERATIVE),
  'srnn smoothing': lambda: srnn({'smoothing': 4, **DIRECT}),
}


@pytest.mark.parametrize('name', some_of(MODELS, ['slvm under a flow', 'srnn smoothing']))
def test_buckets_change_no_number(name):
  model = building.model(MODELS[name](), (SIZE,))
  rng = np.random.default_rng(0)
  x = [rng.normal(size=(length, SIZE)).astype(np.float32) for length in (3, 6, 2, 5)]
  keys = {'params': jax.random.key(0), 'sample': jax.random.key(1)}
  variables = jax.jit(lambda x: model.init(keys, x, method='initialize'))(x[1][None])
  # Away from the initial values, which are zero in many places.
  variables = jax.tree.map(
    lambda v: v + 0.3 * jnp.cos(jnp.arange(v.size)).reshape(v.shape), variables
  )

  def score(*arrangement):
    given = sequences_lib.SequenceEvaluation(
      *('ours', model, variables, buckets(x, *arrangement), buckets(x), contract()),
      num_samples=2,
      num_particles=3,
    )
    return [r.nats_per_step for r in sequences_lib.evaluate(given) if r.name == 'ours']

  usual = score(4, (6,))
  assert len(usual) == 3
  np.testing.assert_allclose(score(1, (9,), [2, 0, 3, 1]), usual, rtol=2e-5)


def test_a_prior_with_a_chain_has_its_own_kind_alone():
  model = lg.make().copy(prior_conditioning='prior_chain')
  x = [row.astype(np.float32) for row in lg.sequences(4, 5)]
  given = sequences_lib.SequenceEvaluation(
    *('ours', model, {}, buckets(x), buckets(x), contract()), num_samples=2
  )
  (found,) = [r for r in sequences_lib.evaluate(given) if r.name == 'ours']
  assert found.kind == 'prior-chain-elbo'
  assert found.kl_nats_per_step > 0
