from typing import NamedTuple

import pytest

from afslvm.errors import ConfigError
from afslvm.evaluation import store
from afslvm.evaluation.contract import OVER_SEQUENCES, TO_THE_END, LikelihoodContract
from afslvm.evaluation.protocols import PROTOCOLS, contract, find, scored_frames
from tests import constructors

NONE = constructors.MODELS['standard_normal']()


def paper_flows(num_flows, **options):
  return constructors.flows(num_flows, constructors.conv(window=3), **options)


@pytest.mark.parametrize('name', ['af_paper', 'discrete'])
@pytest.mark.parametrize('boundary', ['context', 'learned'])
def test_scored_frames_are_the_papers(name, boundary):
  """Frames 3..12 for one flow and 6..15 for two, whatever a flow does with the first ones."""
  one, two = (paper_flows(count, boundary=boundary) for count in (1, 2))
  assert scored_frames(PROTOCOLS[name], one, num_frames=20) == (3, 12)
  assert scored_frames(PROTOCOLS[name], two, num_frames=20) == (6, 15)
  assert scored_frames(PROTOCOLS[name], NONE, num_frames=20) == (3, 12)


def test_more_context_lets_models_share_their_steps():
  models = [NONE, paper_flows(1), paper_flows(2)]
  frames = {scored_frames(PROTOCOLS['af_paper'], model, 20, num_context=6) for model in models}
  assert frames == {(6, 15)}


def test_continuous_data_are_scored_to_their_end():
  model = constructors.flows(2, constructors.dense(window=1))
  assert scored_frames(PROTOCOLS['continuous'], NONE, num_frames=30) == (1, 29)
  assert scored_frames(PROTOCOLS['continuous'], model, num_frames=30) == (2, 29)


def test_too_little_context_is_refused():
  with pytest.raises(ConfigError, match=r'--num_context=5 .* needs 6'):
    scored_frames(PROTOCOLS['af_paper'], paper_flows(2), 20, num_context=5)


@pytest.mark.parametrize(('name', 'num_frames'), [('af_paper', 15), ('continuous', 6)])
def test_too_short_data_are_refused(name, num_frames):
  with pytest.raises(ConfigError, match=rf'the data have {num_frames}'):
    scored_frames(PROTOCOLS[name], paper_flows(2), num_frames)


def test_data_that_just_fit():
  assert scored_frames(PROTOCOLS['af_paper'], paper_flows(2), num_frames=16) == (6, 15)


@pytest.mark.parametrize(
  ('data_space', 'dequantisation', 'default'),
  [
    ('8bit', '', 'af_paper'),
    ('8bit', 'uniform', 'af_paper'),
    ('8bit', 'discretised', 'sequences'),
    ('continuous', 'none', 'continuous'),
    ('binary', 'none', 'sequences'),
    ('pcm16', 'none', 'sequences'),
  ],
)
def test_every_kind_of_data_has_a_default(data_space, dequantisation, default):
  assert find('', data_space, dequantisation).name == default


# ---- whole sequences -----------------------------------------------------------------------------


@pytest.mark.parametrize(('name', 'first'), [('sequences', 0), ('avf_paper', 1)])
def test_whole_sequences_are_scored_to_their_end(name, first):
  assert scored_frames(PROTOCOLS[name], NONE, num_frames=20) == (first, TO_THE_END)
  assert scored_frames(PROTOCOLS[name], NONE, 20, num_context=4) == (4, TO_THE_END)


def test_flows_that_know_what_to_do_with_first_steps_are_scored_there():
  for boundary, first in (('learned', 0), ('context', 6)):
    model = paper_flows(2, boundary=boundary)
    assert scored_frames(PROTOCOLS['sequences'], model, 20) == (first, TO_THE_END)


class Data(NamedTuple):
  data_space: str
  resolution: float | None = None


class Gives(NamedTuple):
  measure: str


def asked(protocol, data_space, measure, resolution=None):
  builder = Data(data_space, resolution)
  return contract(PROTOCOLS[protocol], Gives(measure), builder, 'jsb 88', 'test', (0, TO_THE_END))


def test_the_contract_says_what_is_measured():
  found = asked('sequences', 'pcm16', 'probability', 0.002)
  assert (found.measure, found.resolution, found.floor_nats_per_dim) == ('probability', 0.002, 0)
  assert asked('sequences', 'pcm16', 'density', 0.002).floor_nats_per_dim is None
  assert found.scored == 'all from 0'
  assert asked('avf_paper', '8bit', 'probability').dequantisation == 'discretised'
  assert asked('avf_paper', '8bit', 'probability').average == OVER_SEQUENCES


@pytest.mark.parametrize(
  ('protocol', 'data_space', 'measure', 'words'),
  [
    ('sequences', 'binary', 'density', 'gives densities, which binary values'),
    ('avf_paper', '8bit', 'density', 'gives densities, which 8bit values'),
    ('af_paper', '8bit', 'probability', 'af_paper adds noise to the values'),
  ],
)
def test_densities_of_discrete_values_are_refused(protocol, data_space, measure, words):
  with pytest.raises(ConfigError, match=words):
    asked(protocol, data_space, measure)


def test_contracts_from_before_keep_their_identity():
  """Fields that came later are not in it, where they say nothing."""
  old = LikelihoodContract('af_paper', 'd', 'test', '8bit', 'gauss256', 3, (3, 12))
  assert set(store.identity(old, {}, '')['contract']) == {
    *('protocol', 'dataset', 'split', 'data_space', 'dequantisation', 'context_frames'),
    *('scored_frames', 'mask_policy', 'average'),
  }
  new = asked('sequences', 'pcm16', 'probability', 0.002)
  assert {'measure', 'resolution'} <= set(store.identity(new, {}, '')['contract'])


def test_file_names_say_what_differs(tmp_path):
  binary = asked('sequences', 'binary', 'probability')
  assert store.path_of(tmp_path, binary, 0).name == 'sequences.json'
  assert store.path_of(tmp_path, binary, 1, 5).name == 'sequences_context1_iterations5.json'


# ---- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
  ('name', 'data_space', 'dequantisation', 'words'),
  [
    ('af_papr', '8bit', '', 'did you mean "af_paper"'),
    ('xyz', '8bit', '', 'one of af_paper, discrete, continuous'),
    ('continuous', '8bit', '', 'use af_paper or discrete'),
    ('discrete', 'continuous', 'none', 'use continuous'),
    (
      'af_paper',
      'binary',
      'none',
      'is for 8bit data, these are binary; use sequences or avf_paper',
    ),
    ('discrete', '8bit', 'discretised', 'trained with discretised; use sequences or avf_paper'),
    ('avf_paper', '8bit', 'gauss256', 'trained with gauss256; use af_paper or discrete'),
  ],
)
def test_mistakes(name, data_space, dequantisation, words):
  with pytest.raises(ConfigError) as caught:
    find(name, data_space, dequantisation)
  assert words in str(caught.value)
  assert f'--protocol={name}' in str(caught.value)


@pytest.mark.parametrize('name', PROTOCOLS)
def test_protocols_are_complete(name):
  protocol = PROTOCOLS[name]
  assert protocol.name == name
  assert len(protocol.summary) > 40
  assert protocol.whole_sequences == (protocol.average != LikelihoodContract.average)
  for data_space, noise in protocol.noise.items():
    assert (noise == 'none') == (data_space != '8bit')
