import dataclasses
import json
import math

import numpy as np
import pytest

from afslvm.evaluation import contract as contract_lib
from afslvm.evaluation.contract import ContractError, LikelihoodResult, result
from tests.evaluation.known_models import contract

FLOOR = 0.5 * math.log(2 * math.pi * math.e)


def summary(log_likelihoods, dims, name='model', kind='exact', **options):
  values = np.array(log_likelihoods), np.array(dims)
  return result(name, kind, contract(**options), *values, num_samples=1, seed=0)


# ---- units ---------------------------------------------------------------------------------------


def test_a_uniform_density_scores_log_256():
  found = summary([0.0, 0.0, 0.0], [120, 120, 120])
  np.testing.assert_allclose(found.nats_per_dim, math.log(256))
  assert round(found.nats_per_dim, 3) == 5.545
  np.testing.assert_allclose(found.bits_per_dim, 8)
  assert found.standard_error == 0


def test_gaussian_noise_alone_scores_its_entropy():
  """-E log N(n; 0, 1/256²) = ½ log(2πe/256²) per dimension: the floor."""
  dims = np.array([100, 100])
  found = summary(-dims * (FLOOR - math.log(256)), dims)
  np.testing.assert_allclose(found.nats_per_dim, FLOOR)
  assert round(found.nats_per_dim, 3) == 1.419
  np.testing.assert_allclose(found.contract.floor_nats_per_dim, FLOOR)


def test_continuous_data_have_no_levels_and_no_floor():
  found = summary([12.0, 18.0], [3, 3], dequantisation='none')
  np.testing.assert_allclose(found.nats_per_dim, -5)
  assert found.to_json()['floor_nats_per_dim'] is None


def test_both_averages_by_hand():
  """Total nats over total dimensions, and the mean of each sequence's own ratio."""
  found = summary([-2.0, -30.0], [1, 10], dequantisation='none')
  np.testing.assert_allclose(found.nats_per_dim, 32 / 11)
  np.testing.assert_allclose(found.sequence_mean_nats_per_dim, (2 + 3) / 2)
  np.testing.assert_allclose(found.nats_per_sequence, 16)
  assert found.num_sequences == 2


def test_the_standard_error_is_over_sequences():
  rng = np.random.default_rng(0)
  values, dims = -rng.normal(30, 2, size=50), np.full(50, 10)
  found = summary(values, dims, dequantisation='none')
  expected = np.sqrt(np.sum((values / 10 - np.mean(values / 10)) ** 2) / 49 / 50)
  np.testing.assert_allclose(found.standard_error, expected)


def test_one_sequence_has_no_standard_error():
  assert math.isnan(summary([-3.0], [1], dequantisation='none').standard_error)


@pytest.mark.parametrize(('kind', 'floor'), [('gauss256', FLOOR), ('uniform', 0.0)])
def test_below_the_floor_is_refused(kind, floor):
  dims = np.full(20, 1000)

  def at(nats_per_dim):
    values = -dims * (nats_per_dim - math.log(256))
    return summary(values, dims, dequantisation=kind, name='cheat')

  assert at(floor - 0.01).nats_per_dim < floor  # the noise drawn is a sample
  with pytest.raises(ContractError, match=r'cheat: .* below the floor'):
    at(floor - 0.05)


@pytest.mark.parametrize('kind', ['exact', 'elbo', 'prior-chain-elbo', 'iwae-10', 'fivo-3'])
def test_kinds(kind):
  assert summary([-1.0], [1], kind=kind).kind == kind


def test_unknown_kind_is_refused():
  with pytest.raises(ContractError, match='nll'):
    summary([-1.0], [1], kind='nll')


# ---- what may stand in one column ----------------------------------------------------------------


MIXED = {
  'dequantisation': 'uniform',
  'scored_frames': (3, 12),
  'split': 'validation',
  'dataset': 'other',
  'protocol': 'discrete',
}


@pytest.mark.parametrize('field', MIXED)
def test_mixed_contracts_are_refused_by_name(field):
  a = summary([-1.0, -2.0], [1, 1], name='first')
  other = dataclasses.replace(a.contract, **{field: MIXED[field]})
  b = dataclasses.replace(a, name='second', contract=other)
  for render in (contract_lib.table, contract_lib.rows):
    with pytest.raises(ContractError) as caught:
      render([a, b])
    for word in ('first', 'second', field, str(MIXED[field])):
      assert word in str(caught.value)
    assert len(render([a, b], allow_mixed=True)) >= 2


def test_equal_contracts_share_a_table():
  results = [summary([-1.0, -2.0], [1, 1], name=name) for name in ('1-AF', '2-AF')]
  bound = dataclasses.replace(results[0], kind='iwae-10', name='bounded')
  lines = contract_lib.table([*results, bound]).splitlines()
  assert 'floor 1.419' in lines[0]
  assert 'log 256 included' in lines[0]
  assert [line.split()[0] for line in lines[2:]] == ['1-AF', '2-AF', 'bounded']
  assert ['≤' in line for line in lines[2:]] == [False, False, True]


def test_a_bound_of_another_model_is_marked_and_explained():
  own = summary([-1.0, -2.0], [1, 1], name='SRNN', kind='elbo')
  other = dataclasses.replace(own, name='SRNN + prior chain', kind='prior-chain-elbo')
  *lines, last = contract_lib.table([own, other]).splitlines()
  assert ['≤' in line for line in lines[2:]] == [True, True]
  assert ['prior-chain-elbo' in line for line in lines[2:]] == [False, True]
  assert last == contract_lib.OF_PRIOR_CHAIN
  assert contract_lib.OF_PRIOR_CHAIN not in contract_lib.table([own])
  assert type(other).from_json(json.loads(json.dumps(other.to_json()))) == other


def test_divergences_have_a_column_where_there_are_any():
  exact = summary([-1.0, -2.0], [1, 1], name='flow')
  bound = dataclasses.replace(exact, name='latent', kind='elbo', kl_nats_per_step=8.5617)
  header, *rows = [line.split() for line in contract_lib.table([exact, bound]).splitlines()[1:]]
  assert 'KL/step' in header
  assert [row[-4] for row in rows] == ['–', '8.56']
  assert 'KL/step' not in contract_lib.table([exact])


# ---- JSON ----------------------------------------------------------------------------------------


def test_json_round_trip():
  found = summary([-10.0, -12.0, -11.0], [4, 4, 4], dequantisation='uniform')
  values = json.loads(json.dumps(found.to_json()))
  assert LikelihoodResult.from_json(values) == found
  assert values['scored_frames'] == [2, 5]
  assert values['floor_nats_per_dim'] == 0
  np.testing.assert_allclose(values['bits_per_dim'], found.nats_per_dim / math.log(2))
  named = {
    *('name', 'protocol', 'kind', 'nats_per_dim', 'bits_per_dim', 'standard_error'),
    *('dequantisation', 'scored_frames', 'num_sequences', 'num_samples', 'floor_nats_per_dim'),
  }
  assert named <= values.keys()
