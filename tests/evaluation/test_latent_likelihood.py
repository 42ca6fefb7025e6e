"""Results of a latent variable model: kinds of bounds, and their order."""

import dataclasses

import numpy as np
import pytest

from afslvm.errors import ConfigError
from afslvm.evaluation import likelihood
from tests import linear_gaussian as lg
from tests import oracles
from tests.evaluation import known_models as known

STEPS = 6


def evaluation(x, model, **fields):
  every_step = {'context_frames': 0, 'scored_frames': (0, STEPS - 1)}
  own = known.evaluation(model, x.astype(np.float32), 'none', **every_step)
  return dataclasses.replace(own, **fields)


class NoReferences:
  def log_likelihoods(self, *_):
    return {}


@pytest.fixture(autouse=True)
def _no_references(monkeypatch):
  """They need a step before the first scored one, and here every step is scored."""
  monkeypatch.setattr(likelihood.references_lib, 'fit', lambda *_: NoReferences())


def by_kind(given):
  return {r.kind: r for r in likelihood.evaluate(given) if r.name == 'known'}


def exact(x):
  """Nats per dimension."""
  values = [oracles.kalman_log_likelihood(row, *lg.PARAMETERS) for row in x]
  return -np.mean(values) / (STEPS * lg.SIZE)


def test_elbo_then_importance_weights_then_particles():
  x = lg.sequences(24, STEPS)
  found = by_kind(evaluation(x, lg.make(shift=0.3), num_samples=16, num_particles=32))
  assert list(found) == ['elbo', 'iwae-16', 'fivo-32']
  elbo, iwae, fivo = (r.nats_per_dim for r in found.values())
  assert elbo > iwae > exact(x)
  assert abs(fivo - exact(x)) < abs(elbo - exact(x)) / 3
  posterior = {'shift': 0.3}
  closed = [
    oracles.affine_elbo(
      row, lg.PARAMETERS, oracles.affine_posterior(row, lg.PARAMETERS, **posterior)
    )
    for row in x
  ]
  expected = -np.mean([bound for bound, _ in closed]) / (STEPS * lg.SIZE)
  assert elbo == pytest.approx(expected, abs=0.05)
  assert [r.num_samples for r in found.values()] == [16, 16, 32]
  assert found['elbo'].kl_nats_per_step > 0.1
  assert found['elbo'].contract == found['fivo-32'].contract


def test_log_weights_are_averaged_and_not_bounds_with_a_closed_form_divergence():
  """At the smoothing posterior every draw's weight is the likelihood; that of `elbo` isn't."""
  x = lg.sequences(9, STEPS)
  found = by_kind(evaluation(x, lg.make(future=True), num_samples=3))
  assert list(found) == ['elbo', 'iwae-3']
  assert found['iwae-3'].nats_per_dim == pytest.approx(exact(x), abs=1e-5)
  assert found['elbo'].nats_per_dim != pytest.approx(exact(x), abs=1e-5)


def test_one_draw_has_the_elbo_alone():
  x = lg.sequences(9, STEPS)
  given = evaluation(x, lg.make())
  assert list(by_kind(given)) == ['elbo']
  (found,) = by_kind(given).values()
  assert by_kind(given)['elbo'] == found
  json = found.to_json()
  assert json['kl_nats_per_step'] == found.kl_nats_per_step
  assert type(found).from_json(json) == found


@pytest.mark.parametrize('dequantisation', ['none', 'uniform'])
def test_a_prior_with_a_chain_has_its_own_kind_alone(dequantisation):
  """The mean over draws; weights of several, and particles, would be of another model, too."""
  x = lg.sequences(9, STEPS)
  model = lg.make().copy(prior_conditioning='prior_chain')
  given = evaluation(x, model, num_samples=2)
  contract = dataclasses.replace(given.contract, dequantisation=dequantisation)
  given = dataclasses.replace(given, contract=contract)
  assert list(by_kind(given)) == ['prior-chain-elbo']
  with pytest.raises(ConfigError, match='fivo needs model.prior_conditioning'):
    likelihood.evaluate(dataclasses.replace(given, num_particles=4))


def test_the_first_sequences_alone():
  x = lg.sequences(20, STEPS)
  some = by_kind(evaluation(x, lg.make(future=True), num_samples=2, max_sequences=11))['iwae-2']
  assert some.num_sequences == 11
  assert some.nats_per_dim == pytest.approx(exact(x[:11]), abs=1e-5)


def test_particles_are_for_latent_variables():
  model = known.Gaussian((lg.SIZE,), mean=0.5, variance=2.0)
  found = by_kind(evaluation(lg.sequences(8, STEPS), model, num_particles=4, num_samples=2))
  assert list(found) == ['exact']
  assert found['exact'].kl_nats_per_step is None
