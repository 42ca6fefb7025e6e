"""Whole sequences: numbers depend on nothing but the sequence, and both averages are right."""

import dataclasses
import json
import math

import jax
import numpy as np
import pytest

from afslvm.evaluation import contract as contract_lib
from afslvm.evaluation import sequences as sequences_lib
from afslvm.evaluation.contract import ContractError, LikelihoodContract, LikelihoodResult
from afslvm.evaluation.protocols import PROTOCOLS
from tests import linear_gaussian as lg
from tests import oracles
from tests.evaluation import known_models as known
from tests.evaluation.ragged import buckets

LENGTHS = (3, 7, 2, 5, 5, 9, 4)


def contract(first=0, protocol='sequences', **fields):
  values = {
    'protocol': protocol,
    'dataset': 'ragged',
    'split': 'test',
    'data_space': 'pcm16',
    'dequantisation': 'none',
    'context_frames': first,
    'scored_frames': (first, contract_lib.TO_THE_END),
    'average': PROTOCOLS[protocol].average,
    'resolution': 0.01,
  }
  return LikelihoodContract(**{**values, **fields})


def songs(lengths=LENGTHS):
  x = lg.sequences(len(lengths), max(lengths)).astype(np.float32)
  return [row[:length] for row, length in zip(x, lengths, strict=True)]


def evaluation(model, batches, asked=None, **fields):
  return sequences_lib.SequenceEvaluation(
    name='known',
    model=model,
    variables={},
    scored=batches,
    training=batches,
    contract=asked or contract(),
    **fields,
  )


def by_kind(given):
  return {r.kind: r for r in sequences_lib.evaluate(given) if r.name == 'known'}


# ---- what a number may depend on -----------------------------------------------------------------


ARRANGEMENTS = {
  'one at a time': {'batch_size': 1},
  'one bucket': {'batch_size': 3, 'edges': (9,)},
  'much padding': {'batch_size': 4, 'edges': (30,)},
  'another order': {'batch_size': 2, 'edges': (3, 6, 9), 'order': [5, 3, 6, 1, 0, 2, 4]},
}


@pytest.fixture(scope='module')
def usual():
  given = evaluation(
    lg.make(shift=0.3), buckets(songs(), 7), num_samples=3, num_particles=5, seed=4
  )
  return by_kind(given)


@pytest.mark.parametrize('name', ARRANGEMENTS)
def test_buckets_and_batches_change_no_number(name, usual):
  batches = buckets(songs(), **ARRANGEMENTS[name])
  given = evaluation(lg.make(shift=0.3), batches, num_samples=3, num_particles=5, seed=4)
  found = by_kind(given)
  assert list(found) == list(usual) == ['elbo', 'iwae-3', 'fivo-5']
  for kind, result in found.items():
    for field in ('nats_per_step', 'sequence_mean_nats_per_step', 'nats_per_step_error'):
      assert getattr(result, field) == pytest.approx(getattr(usual[kind], field), rel=1e-5)


def test_other_sequences_change_no_number():
  """The first four alone, and what they score among all seven."""
  x = songs()
  alone = by_kind(evaluation(lg.make(), buckets(x[:4], 3)))['elbo']
  first = dataclasses.replace(evaluation(lg.make(), buckets(x)), scored=buckets(x[:4], 7, (50,)))
  assert by_kind(first)['elbo'].nats_per_step == pytest.approx(alone.nats_per_step, rel=1e-5)


def test_seeds_and_draws_differ():
  scores = {
    by_kind(evaluation(lg.make(), buckets(songs()), seed=seed))['elbo'].nats_per_step
    for seed in (0, 0, 1)
  }
  assert len(scores) == 2


@pytest.mark.parametrize('steps', [5, 64])
def test_random_numbers_do_not_depend_on_the_length(steps):
  """What buckets rest on: those of a longer sequence begin with those of a shorter one."""
  key = jax.random.key(3)
  longer = jax.random.normal(key, (1, 101, 3)), jax.random.split(key, 101)
  shorter = jax.random.normal(key, (1, steps, 3)), jax.random.split(key, steps)
  np.testing.assert_array_equal(longer[0][:, :steps], shorter[0])
  np.testing.assert_array_equal(*(jax.random.key_data(k) for k in (longer[1][:steps], shorter[1])))


# ---- averages ------------------------------------------------------------------------------------


def nats(x, first=0):
  """[N] of N(0, 1)."""
  return np.array([(0.5 * (row[first:] ** 2 + math.log(2 * math.pi))).sum() for row in x])


@pytest.mark.parametrize(('protocol', 'first'), [('sequences', 0), ('avf_paper', 1)])
def test_averages_by_hand(protocol, first):
  x, counts = songs(), np.array(LENGTHS) - first
  model = known.Gaussian((lg.SIZE,))
  found = by_kind(evaluation(model, buckets(x), contract(first, protocol)))['exact']
  total, each = nats(x, first), nats(x, first) / counts
  np.testing.assert_allclose(found.nats_per_step, total.sum() / counts.sum(), rtol=1e-5)
  np.testing.assert_allclose(found.nats_per_dim, found.nats_per_step / lg.SIZE, rtol=1e-6)
  np.testing.assert_allclose(found.sequence_mean_nats_per_step, each.mean(), rtol=1e-5)
  error = each.std(ddof=1) / math.sqrt(len(x))
  np.testing.assert_allclose(found.sequence_mean_error, error, rtol=1e-5)
  if protocol == 'sequences':
    assert found.uncorrected_sequence_mean is None
    assert found.leading == (found.nats_per_step, found.nats_per_step_error, 'nats/step')
  else:
    uncorrected = (total / np.array(LENGTHS)).mean()
    np.testing.assert_allclose(found.uncorrected_sequence_mean, uncorrected, rtol=1e-5)
    assert found.leading[:2] == (found.sequence_mean_nats_per_step, found.sequence_mean_error)


def test_the_error_over_steps_is_what_sequences_drawn_again_give():
  """Against the bootstrap, for sequences whose lengths and scores differ."""
  rng = np.random.default_rng(0)
  steps = rng.integers(5, 60, 80)
  total = steps * (3 + rng.normal(0, 0.5, 80)) + 0.02 * steps**2
  result = contract_lib.result('a', 'exact', contract(), -total, steps * 2, 1, 0)
  found = contract_lib.with_steps(result, -total, steps, 2)
  draws = rng.integers(0, 80, (4000, 80))
  expected = (total[draws].sum(axis=1) / steps[draws].sum(axis=1)).std()
  np.testing.assert_allclose(found.nats_per_step_error, expected, rtol=0.05)


def test_equal_lengths_have_one_average_and_one_error():
  found = by_kind(evaluation(known.Gaussian((lg.SIZE,)), buckets(songs((6,) * 5))))['exact']
  np.testing.assert_allclose(found.nats_per_step, found.sequence_mean_nats_per_step)
  np.testing.assert_allclose(found.nats_per_step_error, found.sequence_mean_error)
  np.testing.assert_allclose(found.standard_error, found.sequence_mean_error / lg.SIZE)


def test_sequences_that_are_all_context_are_left_out():
  found = by_kind(evaluation(lg.make(), buckets(songs()), contract(3)))['elbo']
  assert found.num_sequences == sum(length > 3 for length in LENGTHS)
  with pytest.raises(ContractError, match='no sequence of ragged'):
    by_kind(evaluation(lg.make(), buckets(songs()), contract(9)))


# ---- bounds --------------------------------------------------------------------------------------


def test_bounds_are_in_order_and_above_the_truth():
  x = songs(LENGTHS * 4)
  given = evaluation(lg.make(shift=0.3), buckets(x, 8, (5, 9)), num_samples=16, num_particles=32)
  elbo, iwae, fivo = (r.nats_per_step for r in by_kind(given).values())
  exact = -sum(oracles.kalman_log_likelihood(row, *lg.PARAMETERS) for row in x)
  exact /= sum(map(len, x))
  assert elbo > iwae > exact
  assert abs(fivo - exact) < abs(elbo - exact) / 3
  assert by_kind(given)['elbo'].kl_nats_per_step > 0.1


def test_few_particles_at_a_time_change_no_number(monkeypatch):
  def score():
    return by_kind(evaluation(lg.make(), buckets(songs(), 7), num_particles=4))['fivo-4']

  at_once = score().nats_per_step
  monkeypatch.setattr(sequences_lib, 'MAX_PARTICLES', 8)
  assert score().nats_per_step == pytest.approx(at_once, rel=1e-5)


# ---- records and tables --------------------------------------------------------------------------


@pytest.mark.parametrize('protocol', ['sequences', 'avf_paper'])
@pytest.mark.parametrize('lengths', [LENGTHS, (4,)])
def test_json_round_trip(protocol, lengths):
  asked = contract(1, protocol)
  for found in sequences_lib.evaluate(evaluation(lg.make(), buckets(songs(lengths)), asked)):
    values = json.loads(json.dumps(found.to_json(), allow_nan=False))
    again = LikelihoodResult.from_json(values)
    np.testing.assert_equal(dataclasses.asdict(again), dataclasses.asdict(found))
    assert values['scored_frames'] == [1, -1]
    assert values['resolution'] == 0.01


def test_tables_are_in_nats_per_step():
  results = sequences_lib.evaluate(evaluation(lg.make(), buckets(songs())))
  said, header, *rows = contract_lib.table(results).splitlines()
  assert 'all from 0' in said
  assert 'density of standardised samples' in said
  assert 'floor' not in said
  titles = ['nats/step', 'sequence mean', 'nats/sample', 'KL/step']
  assert [header.find(title) for title in titles] == sorted(header.find(t) for t in titles)
  assert 'uncorrected' not in header
  assert f'≤ {results[0].nats_per_step:.3f}' in rows[0]
  assert [row.split()[0] for row in rows] == ['known', 'static', 'copy-last']
  paper = contract(1, 'avf_paper', data_space='8bit', dequantisation='discretised')
  paper = dataclasses.replace(paper, measure='probability', resolution=None)
  found = dataclasses.replace(results[0], contract=paper, uncorrected_sequence_mean=4.5)
  said, header, row = contract_lib.table([found]).splitlines()
  assert header.find('sequence mean') < header.find('uncorrected') < header.find('nats/step')
  assert 'bits/dim' in header
  assert '4.500' in row
  assert 'uncorrected: sums divided by all steps' in said
  assert 'probability of 8-bit levels; floor 0.000 nats/dim' in said


def test_densities_and_probabilities_do_not_share_a_column():
  (found, *_) = sequences_lib.evaluate(evaluation(lg.make(), buckets(songs())))
  other = dataclasses.replace(found.contract, measure='probability')
  other = dataclasses.replace(found, contract=other, name='binned')
  with pytest.raises(ContractError, match='measure is density and probability'):
    contract_lib.table([found, other])
  assert 'int16 bin of 0.01 standard deviations' in contract_lib.table([other])


def test_probabilities_have_a_floor_to_rounding():
  steps, asked = np.array([10, 20]), contract(measure='probability')

  def score(nats):
    return contract_lib.result('cheat', 'elbo', asked, -nats * steps, steps, 1, 0)

  assert score(-1e-6).nats_per_dim < 0
  with pytest.raises(ContractError, match='below the floor 0.0000 of probabilities'):
    score(-0.01)


def test_the_first_sequences_of_a_source():
  class Source(list):
    lengths, num_frames, split = np.array(LENGTHS), max(LENGTHS), 'test'

  some = sequences_lib.FirstOf(Source(songs()), 3)
  assert (len(some), some.num_frames, some.split, list(some.lengths)) == (3, 7, 'test', [3, 7, 2])
  assert len(some[1]) == 7
