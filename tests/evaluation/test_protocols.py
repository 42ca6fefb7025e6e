import pytest

from afslvm.errors import ConfigError
from afslvm.evaluation.protocols import PROTOCOLS, find, scored_frames
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


@pytest.mark.parametrize(('data_space', 'default'), [('8bit', 'af_paper'), ('continuous',) * 2])
def test_every_kind_of_data_has_a_default(data_space, default):
  assert find('', data_space).name == default


@pytest.mark.parametrize(
  ('name', 'data_space', 'words'),
  [
    ('af_papr', '8bit', 'did you mean "af_paper"'),
    ('xyz', '8bit', 'one of af_paper, discrete, continuous'),
    ('continuous', '8bit', 'use af_paper or discrete'),
    ('discrete', 'continuous', 'use continuous'),
  ],
)
def test_mistakes(name, data_space, words):
  with pytest.raises(ConfigError) as caught:
    find(name, data_space)
  assert words in str(caught.value)
  assert f'--protocol={name}' in str(caught.value)


@pytest.mark.parametrize('name', PROTOCOLS)
def test_protocols_are_complete(name):
  protocol = PROTOCOLS[name]
  assert protocol.name == name
  assert len(protocol.summary) > 40
  assert (protocol.dequantisation == 'none') == (protocol.data_space == 'continuous')
