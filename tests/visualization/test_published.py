"""The AF paper's figures, and the cases in which they may stand beside ours."""

import dataclasses

import numpy as np
import pytest

from afslvm.evaluation import published
from afslvm.evaluation.contract import LikelihoodContract
from afslvm.visualization import results

CONTRACT = LikelihoodContract(
  protocol='af_paper',
  dataset='moving_mnist(published=True)',
  split='test',
  data_space='8bit',
  dequantisation='gauss256',
  context_frames=3,
  scored_frames=(3, 12),
)
OURS = ('moving_mnist/published', (64, 64, 1))


def test_figures_of_the_paper():
  values = [r.nats_per_dim for r in published.find('Moving MNIST', 'test')]
  assert values == [2.15, 2.13, 1.92, 1.86]
  assert [r.kind for r in published.find('KTH', 'train')] == ['exact', 'exact', 'elbo', 'elbo']
  assert published.PARAMETERS['BAIR'][:2] == (363, 726)


def test_comparable_on_the_published_sequences_only():
  assert published.why_not_comparable(CONTRACT, *OURS) == ''
  two_flows = dataclasses.replace(CONTRACT, scored_frames=(6, 15), context_frames=6)
  assert published.why_not_comparable(two_flows, *OURS) == ''


def test_videoflow_is_compared_under_its_own_protocol_only():
  """Kumar et al. report 1.87 bits/dim on BAIR, under uniform noise."""
  bair = ('bair/image_aux1-val1280', (64, 64, 3))
  (found,) = published.find('BAIR', 'test', 'discrete')
  assert found.nats_per_dim / np.log(2) == pytest.approx(1.87)
  contract = dataclasses.replace(CONTRACT, protocol='discrete', dequantisation='uniform')
  assert published.why_not_comparable(contract, *bair) == ''
  assert 'discrete' in published.why_not_comparable(contract, *OURS)
  assert 'VideoFlow' not in [result.model for result in published.find('BAIR', 'test')]


@pytest.mark.parametrize(
  ('changes', 'data', 'reason'),
  [
    ({}, ('moving_mnist/64px-2digits', (64, 64, 1)), 'none of the paper'),
    ({}, ('moving_mnist/published', (32, 32, 1)), 'none of the paper'),
    ({}, ('moving_digits/16px', (16, 16, 1)), 'none of the paper'),
    ({'protocol': 'discrete'}, OURS, 'protocol discrete'),
    ({'split': 'validation'}, OURS, 'validation split'),
    ({'scored_frames': (3, 19)}, OURS, '17 frames'),
  ],
)
def test_reasons_not_to_compare(changes, data, reason):
  contract = dataclasses.replace(CONTRACT, **changes)
  assert reason in published.why_not_comparable(contract, *data)


def test_comparable_figures_stand_in_the_table(digits_run, evaluate):
  run = evaluate(digits_run, 'af_paper', 'gauss256', (6, 15), 3.0)
  assert 'AF paper, ' not in results.results_table([run])

  class SameShape:
    event_shape, num_context = OURS[1], 6

  run = dataclasses.replace(run, data_config=OURS[0], model=SameShape())
  table = results.results_table([run])
  assert 'AF paper, 2-AF' in table
  assert '≤ 1.86' in table


def test_a_bound_of_another_model_is_called_so():
  assert results.kind_in_words('elbo') == 'bound (elbo)'
  assert 'another model' in results.kind_in_words('prior-chain-elbo')
