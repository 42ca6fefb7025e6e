"""AVF and variational filtering EM: where they end, and what their gradients are."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from afslvm.distributions.normal import Normal, kl_normal
from afslvm.inference import iterative
from afslvm.inference.base import StepFreeEnergy
from afslvm.inference.iterative import Iterative
from afslvm.objectives.fivo import ParticleFilter
from afslvm.objectives.objective import Carried, ObjectiveSettings, make_loss
from tests import constructors, oracles
from tests import linear_gaussian as lg
from tests.thorough import some_of

KEY = jax.random.key(0)
WITH_BPTT = ['srnn', 'vrnn', 'flow around slvm avf']
UNIT = jnp.array([1.0, -1.0])[:, None]  # two draws with the moments of a standard normal


def exact_free_energy(x, prior):
  """F_t of the linear-Gaussian model without any sampling."""
  emission, observed = jnp.array(lg.EMISSION), jnp.array(lg.OBSERVED)

  def value(q):
    squares = jnp.square(x - emission * q.loc) + jnp.square(emission * jnp.exp(q.log_scale))
    error = 0.5 * squares / observed**2 + 0.5 * jnp.log(2 * jnp.pi * observed**2)
    return jnp.sum(error + kl_normal(q, prior), axis=-1)

  return StepFreeEnergy(lambda q, i: value(q), lambda q, i: (x - emission * q.loc) / observed**2)


def kalman_update(x, prior):
  """The posterior p(z_t | z_{t-1}, x_t)."""
  emission, observed = np.array(lg.EMISSION), np.array(lg.OBSERVED)
  precision = np.exp(-2 * prior.log_scale) + (emission / observed) ** 2
  loc = (prior.loc * np.exp(-2 * prior.log_scale) + x * emission / observed**2) / precision
  return Normal(loc, -0.5 * np.log(precision))


# ---- where it ends -------------------------------------------------------------------------------


@pytest.mark.parametrize(
  ('update', 'step_size', 'iterations'), [('sgd', 0.1, 150), ('adam', 0.05, 600)]
)
def test_gradient_descent_reaches_the_closed_form_update(update, step_size, iterations):
  x = jnp.array([[2.0, -1.0], [0.3, 0.4]])
  prior = Normal(jnp.array([[0.5, 0.1], [-1.0, 0.0]]), jnp.log(jnp.array([[0.5, 0.9]] * 2)))
  inference = Iterative(2, update_rule=update, step_size=step_size, num_iterations=iterations)
  found = inference.apply(
    {}, (), (), None, prior, exact_free_energy(x, prior), method='infer'
  ).posterior
  expected = kalman_update(x, prior)
  np.testing.assert_allclose(found.loc, expected.loc, atol=1e-3)
  np.testing.assert_allclose(found.log_scale, expected.log_scale, atol=1e-3)


def filtered(num_iterations, **options):
  model = lg.make(
    Iterative(2, update_rule='sgd', num_draws=2, num_iterations=num_iterations, **options)
  )
  x = jnp.array(lg.sequences(200, 6), jnp.float32)
  latent = jax.random.normal(KEY, (*x.shape[:2], 2))
  # Draws ±1 make the estimate of this quadratic F_t exact.
  noise = {'noise': {'latent': latent, 'free_energy': jnp.broadcast_to(UNIT, (2, 2))}}
  return (
    constructors.apply(model, noise, x),
    constructors.apply(lg.make(), {'noise': {'latent': latent}}, x),
    x,
  )


def test_filtering_em_scores_as_the_exact_filtering_posterior():
  """Algorithm 1 inside the model: the optimum of every F_t, on the way that its own draws take."""
  found, exact, _ = filtered(150, step_size=0.1)
  np.testing.assert_allclose(found.latents.posterior.loc, exact.latents.posterior.loc, atol=2e-3)
  np.testing.assert_allclose(found.elbo, exact.elbo, atol=5e-3)


def test_its_optimum_stays_below_the_likelihood_and_particles_close_the_gap():
  found, _, x = filtered(150, step_size=0.1)
  exact = np.array([oracles.kalman_log_likelihood(row, *lg.PARAMETERS) for row in np.asarray(x)])
  bound = np.asarray(found.elbo.sum(axis=1))
  error = (exact - bound).std() / np.sqrt(len(exact))
  assert (exact - bound).mean() > 4.5 * error
  model = lg.make(Iterative(2, update_rule='sgd', num_draws=4, num_iterations=10, step_size=0.05))
  particles = ParticleFilter(model, num_particles=256)
  filtered_bound = particles({}, x, jnp.ones(x.shape[:2], bool), KEY).bound
  gap = np.asarray(exact - filtered_bound)
  assert abs(gap.mean()) < 0.1 * (exact - bound).mean()


def test_more_iterations_lower_the_free_energy_and_none_leave_the_prior():
  values = [float(-filtered(n, step_size=0.05)[0].elbo.mean()) for n in (0, 1, 3, 10, 40)]
  assert np.all(np.diff(values) < 0)
  terms = filtered(0)[0]
  np.testing.assert_array_equal(terms.kl, 0.0)
  np.testing.assert_array_equal(terms.latents.prior.loc, terms.latents.posterior.loc)


@pytest.mark.slow
@pytest.mark.parametrize(
  ('gradients', 'within'), some_of([('bptt', 1.01), ('em', 1.03)], [('bptt', 1.01)])
)
def test_trained_avf_comes_within_a_percent_of_the_optimum(gradients, within):
  """Two amortised iterations, from the gradients alone, against the Kalman update.

  Trained step by step, `em`, it comes near too, but no step knows what a noisy q costs later ones.
  """
  inference = Iterative(
    2,
    num_iterations=2,
    update_rule='learned_sgd',
    gradient_encoding='raw',
    gradient_scale=0.2,
    num_draws=32,
    features=16,
    depth=1,
  )
  model = lg.make(inference)
  data = jnp.array(lg.sequences(512, 8, seed=2), jnp.float32)
  keys = {'params': KEY, 'sample': KEY}
  params = jax.jit(lambda x: model.init(keys, x, method='initialize')['params'])(data[:2])
  loss = make_loss(ObjectiveSettings(gradients=gradients), model, 'none')
  schedule = optax.cosine_decay_schedule(1e-2, 400)
  optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))

  @jax.jit
  def step(carry, n):
    params, state = carry
    x = jax.random.choice(jax.random.fold_in(KEY, n), data, (64,))
    batch = {'x': x, 'mask': jnp.ones(x.shape[:2], bool)}
    grads = jax.grad(loss, has_aux=True)(params, Carried({}), batch, jax.random.fold_in(KEY, n), n)[
      0
    ]
    updates, state = optimizer.update(grads, state)
    return (optax.apply_updates(params, updates), state), None

  (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), jnp.arange(400))
  x = jnp.array(lg.sequences(2000, 8, seed=3), jnp.float32)
  trained = constructors.apply(model, {'params': params}, x, rngs={'sample': KEY})
  best = constructors.apply(lg.make(), {}, x, rngs={'sample': KEY})
  assert -trained.elbo.mean() < within * -best.elbo.mean()
  untrained = constructors.apply(lg.make(blind=True), {}, x, rngs={'sample': KEY})
  assert -untrained.elbo.mean() > 1.3 * -best.elbo.mean()


# ---- the noise -----------------------------------------------------------------------------------


def test_the_draw_has_noise_that_the_posterior_has_not_seen():
  """Else the mean bound could exceed the likelihood: with one draw, q would fit its own noise."""
  x = jnp.array(lg.sequences(1, 4), jnp.float32)
  model = lg.make(Iterative(2, update_rule='sgd', step_size=0.1, num_iterations=8, num_draws=4))
  many = jnp.broadcast_to(x, (4000, *x.shape[1:]))
  terms = jax.jit(lambda x: model.apply({}, x, rngs={'sample': KEY}))(many)
  exact = oracles.kalman_log_likelihood(np.asarray(x[0]), *lg.PARAMETERS)
  assert float(terms.elbo.sum(axis=1).mean()) < exact
  within = terms.log_weight - terms.elbo  # whose expectation is zero where q is the draw's density
  error = np.asarray(within.sum(axis=1)).std() / np.sqrt(len(many))
  assert abs(float(within.sum(axis=1).mean())) < 4.5 * error


def test_no_estimate_is_judged_by_noise_that_it_has_seen():
  """Scored with the noise of its own gradients, an update could fit it, and seem better than it is.

  So the free energy after the iterations has the expectation of the bound, which has a fresh draw.
  """
  x = jnp.array(lg.sequences(4000, 3), jnp.float32)
  model = lg.make(Iterative(2, update_rule='sgd', step_size=0.05, num_iterations=6))
  terms, shown = jax.jit(
    lambda x: model.apply({}, x, rngs={'sample': KEY}, mutable=['diagnostics'])
  )(x)
  last = shown['diagnostics']['free_energy'][0][..., -1]
  difference = np.asarray((last + terms.elbo).sum(axis=1))
  assert abs(difference.mean()) < 4.5 * difference.std() / np.sqrt(len(difference))


def test_examples_do_not_mix():
  model = constructors.MODELS['flow around slvm avf']()
  x = constructors.data(model)
  variables = constructors.randomized(model, x)
  given = {**variables, **constructors.given_noise(model, 0.4)}
  together = constructors.apply(model, given, x).elbo
  for k in range(3):
    alone = constructors.apply(model, given, x[k : k + 1]).elbo
    np.testing.assert_allclose(together[k : k + 1], alone, rtol=1e-4)


# ---- gradients -----------------------------------------------------------------------------------


@pytest.mark.parametrize('name', some_of(WITH_BPTT, WITH_BPTT[1:]))
def test_bptt_is_the_derivative_of_the_bound(name):
  """Through draws, states and iterations, by central differences in a random direction."""
  model = constructors.MODELS[name]()
  x = constructors.data(model, steps=5)
  variables = constructors.randomized(model, x, scale=0.2)
  given = constructors.given_noise(model, 0.4)
  rng = np.random.default_rng(0)
  direction = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), variables['params'])

  with jax.enable_x64(True):  # in float32 a difference has few digits
    variables, given, x = jax.tree.map(lambda v: jnp.array(v, float), (variables, given, x))

    @jax.jit
    def bound(step):
      params = jax.tree.map(lambda leaf, d: leaf + step * d, variables['params'], direction)
      return model.apply({**variables, 'params': params, **given}, x).elbo.mean()

    exact, size = float(jax.grad(bound)(0.0)), 1e-5
    numeric = float(bound(size) - bound(-size)) / (2 * size)
  np.testing.assert_allclose(exact, numeric, rtol=1e-4)


def test_annealing_reaches_the_inference():
  """With weight zero only the likelihood counts: iterations go further from the prior."""
  x = jnp.array(lg.sequences(20, 3), jnp.float32)
  model = lg.make(Iterative(2, update_rule='sgd', step_size=0.05, num_iterations=5))
  noise = constructors.given_noise(model, jnp.zeros((20, 3, 2)))
  kl = [
    float(
      constructors.apply(model, {**noise, 'annealing': {'kl_weight': jnp.array(w)}}, x).kl.mean()
    )
    for w in (0.0, 0.5, 1.0)
  ]
  assert kl[0] > kl[1] > kl[2]
  np.testing.assert_allclose(kl[2], constructors.apply(model, noise, x).kl.mean(), rtol=1e-6)


# ---- encodings -----------------------------------------------------------------------------------


def test_layer_norm_has_no_mean_and_unit_deviation_whatever_the_size():
  v = jax.random.normal(KEY, (3, 40))
  for scale in (1e-2, 1.0, 1e4):
    found = iterative.layer_norm(scale * v)
    np.testing.assert_allclose(found, iterative.layer_norm(v), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found.mean(axis=1), 0.0, atol=1e-5)
    np.testing.assert_allclose(found.std(axis=1, ddof=1), 1.0, rtol=1e-3)
  constant = jnp.ones((1, 4))
  np.testing.assert_array_equal(iterative.layer_norm(constant), 0.0)
  assert np.all(np.isfinite(jax.grad(lambda v: iterative.layer_norm(v).sum())(constant)))


def test_log_sign_tells_magnitude_and_sign_apart():
  v = jnp.array([-1.0, 1.0, np.exp(5.0), -1e-6, 0.0])
  magnitude, sign = jnp.split(iterative.log_sign(v), 2)
  np.testing.assert_allclose(magnitude, [0.0, 0.0, 0.5, -1.0, -1.0], atol=1e-6)
  np.testing.assert_allclose(sign, [-1, 1, 1, -1e-6 * np.exp(10.0), 0.0], rtol=1e-5)


@pytest.mark.parametrize('update', ['highway', 'learned_sgd'])
def test_output_gates(update):
  """g λ + (1 - g) δ, and λ - g ∇ + δ, by hand."""
  network = iterative.UpdateNetwork(2, 4, 1, update, 0.3, 'xavier', '')
  q = Normal(jnp.array([[1.0, 2.0]]), jnp.array([[0.5, -0.5]]))
  slope = Normal(jnp.array([[3.0, -1.0]]), jnp.array([[0.2, 0.1]]))
  inputs = jnp.ones((1, 3))
  variables = network.init(KEY, q, slope, inputs)
  found, state = network.apply(variables, q, slope, inputs, capture_intermediates=True)
  seen = {
    name: value['__call__'][0]
    for name, value in state['intermediates'].items()
    if '_' in name and name != '__call__'
  }
  for name in ('loc', 'log_scale'):
    value, step = getattr(q, name), getattr(slope, name)
    gate, change = jax.nn.sigmoid(seen[f'{name}_gate']), seen[f'{name}_change']
    expected = gate * value + (1 - gate) * change
    if update == 'learned_sgd':
      expected = value - gate * step + change
    np.testing.assert_allclose(getattr(found, name), expected, rtol=1e-6)


@pytest.mark.parametrize('update', ['highway', 'learned_sgd'])
def test_small_heads_change_little_at_first(update):
  """What is left of a fresh update is the gate's: g λ, or λ - g ∇."""
  network = iterative.UpdateNetwork(5, 64, 2, update, 0.0, 'xavier', 'small')
  keys = jax.random.split(KEY, 4)
  q, slope = (Normal(*jax.random.normal(key, (2, 3, 5))) for key in keys[:2])
  inputs = jax.random.normal(keys[2], (3, 20))
  variables = network.init(keys[3], q, slope, inputs)
  found, state = network.apply(variables, q, slope, inputs, capture_intermediates=True)
  gates = {
    name: state['intermediates'][f'{name}_gate']['__call__'][0] for name in ('loc', 'log_scale')
  }
  for name, gate in gates.items():
    gate, value = jax.nn.sigmoid(gate), getattr(q, name)
    left = gate * value if update == 'highway' else value - gate * getattr(slope, name)
    np.testing.assert_allclose(getattr(found, name), left, atol=0.05)


def test_free_energies_of_all_iterations_are_shown():
  """To whom asks for diagnostics: before each iteration and after the last."""
  x = jnp.array(lg.sequences(30, 5), jnp.float32)
  model = lg.make(Iterative(2, update_rule='sgd', step_size=0.05, num_iterations=4))
  shown = jax.jit(lambda x: model.apply({}, x, rngs={'sample': KEY}, mutable=['diagnostics'])[1])(x)
  energies = np.asarray(shown['diagnostics']['free_energy'][0])
  assert energies.shape == (30, 5, 5)
  assert np.all(np.diff(energies.mean(axis=(0, 1))) < 0)
