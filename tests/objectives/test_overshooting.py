"""Latent overshooting, against the plain divergence and rollouts by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afslvm.errors import ConfigError
from afslvm.objectives.objective import Carried, ObjectiveSettings, make_loss
from afslvm.objectives.overshooting import overshoot
from tests import constructors
from tests import linear_gaussian as lg
from tests.objectives.test_variational_em import Shifted

KEY = jax.random.key(0)
X = jnp.array(lg.sequences(4, 5), jnp.float32)
MASK = jnp.ones((4, 5), bool)


def run(depth, weight=1.0, noise=None, **message):
  """On the linear-Gaussian model, whose prior is N(transition z_{t-1}, noise²)."""
  model = lg.make(**message)
  noise = jax.random.normal(KEY, (4, 5, depth, 2)) if noise is None else noise
  given = {'latent': jax.random.normal(jax.random.key(1), (4, 5, 2)), 'overshooting': noise}
  return model.apply({'noise': given}, X, MASK, depth, weight, method=overshoot)


def kl(q, loc, scale):
  variance = np.exp(2 * np.asarray(q.log_scale, np.float64))
  squares = (variance + (np.asarray(q.loc) - loc) ** 2) / scale**2
  return 0.5 * (squares - 1 - np.log(variance / scale**2)).sum(axis=-1)


def test_one_step_is_the_plain_divergence():
  terms, divergence = run(1)
  np.testing.assert_array_equal(divergence, terms.kl)


def test_three_steps_are_rollouts_of_the_prior_from_every_state():
  noise = jax.random.normal(KEY, (4, 5, 3, 2))
  terms, divergence = run(3, 0.5, noise)
  transition, _, scale, _, first = lg.PARAMETERS
  z, q = np.asarray(terms.latents.z, np.float64), terms.latents.posterior

  def ahead(t, d):
    """The mean and deviation of p(z_t), d steps after the last draw of the posterior."""
    start = t - d + 1
    loc = np.zeros((4, 2)) if not start else transition * z[:, start - 1]
    spread = first if not start else scale
    for k in range(1, d):  # the k-th draw, of the prior of step start + k - 1
      drawn = loc + spread * np.asarray(noise[:, start + k - 1, k])
      loc, spread = transition * drawn, scale
    return loc, spread

  for t in range(5):
    depths = range(1, min(3, t + 1) + 1)
    each = [kl(jax.tree.map(lambda v, t=t: v[:, t], q), *ahead(t, d)) for d in depths]
    expected = (each[0] + 0.5 * sum(each[1:])) / len(each)
    np.testing.assert_allclose(divergence[:, t], expected, rtol=1e-4)


def test_the_posterior_learns_from_one_step_only():
  """At each step its own parameter has the gradient of the plain divergence, by its share."""
  x, mask = jnp.array(lg.sequences(5, 4), jnp.float32), jnp.ones((5, 4), bool)
  model = lg.make(Shifted(2))

  def divergences(shift, depth):
    variables = {'noise': {'latent': jnp.zeros(2)}, 'params': {'inference': {'shift': shift}}}
    found = model.apply(variables, x, mask, depth, method=overshoot, rngs={'sample': KEY})
    return found[1].sum(axis=0)

  shift = jnp.full((4, 2), 0.1)
  plain, further = (
    np.asarray(jax.jacobian(lambda s, d=depth: divergences(s, d))(shift)) for depth in (1, 3)
  )
  own = np.arange(4)
  shares = np.array([1, 2, 3, 3])[:, None]
  np.testing.assert_allclose(further[own, own] * shares, plain[own, own], rtol=1e-4)
  assert np.all(further[own, own] != 0)
  # Earlier draws are where rollouts begin: they do have gradient.
  assert np.any(further[3, 0] != plain[3, 0] / 3)


def test_it_is_trained_and_mistakes_are_one_line():
  model = constructors.flows(1, constructors.dense(), base=constructors.srnn(given=1))
  x = constructors.data(model)
  variables = constructors.randomized(model, x)
  batch, key = {'x': x, 'mask': jnp.ones(x.shape[:2], bool)}, jax.random.key(0)
  values = {}
  for depth in (1, 3):
    loss = make_loss(ObjectiveSettings(overshooting=depth), model, 'none')
    found, outcome = loss(variables['params'], Carried({}), batch, key, 0)
    values[depth] = float(found)
    assert np.isfinite(found)
  assert values[1] != values[3]
  with pytest.raises(ConfigError, match='objective.overshooting=2 needs objective.bound=elbo'):
    ObjectiveSettings(overshooting=2, gradients='em').check()
