"""Direct inference: what the posterior sees, and its residual form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afslvm.distributions.normal import Normal
from afslvm.inference.direct import Direct
from afslvm.networks.mlp import MLP


def make(**options):
  inference = Direct(2, encoder=MLP(features=5, depth=1), **{'hidden': 3, 'layers': 1, **options})
  observed, context = jnp.ones((4, 5)), jnp.ones((4, 2))
  prior = Normal(jnp.arange(8.0).reshape(4, 2), jnp.zeros((4, 2)))

  def first(module, x, context, prior):
    encoded = module.encode(x, jnp.ones(x.shape[:2], bool))
    return module.infer(module.initial_state(4), encoded[:, 0], context, prior)

  x = jax.random.normal(jax.random.key(1), (4, 3, 7))
  variables = inference.init(jax.random.key(0), x, context, prior, method=first)
  return inference, variables, x, (observed, context, prior)


def test_frames_are_encoded_one_by_one():
  inference, variables, x, _ = make()
  encoded = inference.apply(variables, x, jnp.ones((4, 3), bool), method='encode')
  assert encoded.shape == (4, 3, 5)
  encoder = {'params': variables['params']['encoder']}
  one = MLP(features=5, depth=1).apply(encoder, x[2, 1:2])
  np.testing.assert_allclose(encoded[2, 1:2], one, rtol=1e-5)


@pytest.mark.parametrize('residual', [False, True])
def test_the_residual_form_starts_at_the_mean_of_the_prior(residual):
  """RES_q: the network gives a difference to the prior's mean; else the prior has no part."""
  inference, variables, _, (observed, context, prior) = make(residual=residual)

  def mean(prior):
    def run(module):
      return module.infer(module.initial_state(4), observed, context, prior).posterior

    return inference.apply(variables, method=run)

  moved = Normal(prior.loc + 3.0, prior.log_scale + 1.0)
  difference = mean(moved).loc - mean(prior).loc
  np.testing.assert_allclose(difference, 3.0 if residual else 0.0, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(mean(moved).log_scale, mean(prior).log_scale, rtol=1e-6)
  zero = jax.tree.map(jnp.zeros_like, variables)

  def run(module):
    return module.infer(module.initial_state(4), observed, context, prior).posterior

  expected = prior.loc if residual else 0.0
  np.testing.assert_array_equal(inference.apply(zero, method=run).loc, expected)


@pytest.mark.parametrize('layers', [0, 1, 2])
def test_observation_context_and_state_all_reach_the_posterior(layers):
  inference, variables, _, (observed, context, prior) = make(layers=layers)

  def run(module, observed, context):
    state, first, _ = module.infer(module.initial_state(4), observed, context, prior)
    return first, module.infer(state, observed, context, prior).posterior

  def locs(observed, context):
    return [
      np.asarray(normal.loc) for normal in inference.apply(variables, observed, context, method=run)
    ]

  first, second = locs(observed, context)
  assert np.all(locs(observed.at[:, 0].add(0.5), context)[0] != first)
  assert np.all(locs(observed, context.at[:, 0].add(0.5))[0] != first)
  assert np.all(first == second) == (layers == 0)
