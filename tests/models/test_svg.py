"""SVG: whose maps the decoder sees, the first frame, means, counts, and mistakes in its config."""

import copy
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afslvm import building, cli
from afslvm.configs import common
from afslvm.errors import ConfigError
from afslvm.evaluation import prediction
from afslvm.models.svg import FramePredictor
from afslvm.networks.vgg import VggDecoder, VggEncoder
from tests import constructors

PAPER_CODE = {'svg': 23_308_226, 'svg_avf1': 31_043_010}


@pytest.fixture(scope='module')
def made():
  model = constructors.svg(num_skip_frames=2)
  x = constructors.data(model, batch=2, steps=6)
  return model, constructors.randomized(model, x), x


# ---- what is remembered of frames ----------------------------------------------------------------


@pytest.mark.parametrize(
  ('skips', 'seen'), [('last', [0, 1, 2, 3, 4, 5]), ('context', [0, 1, 1, 1, 1, 1]), ('none', None)]
)
def test_the_decoder_sees_maps_of_the_right_frame(made, skips, seen):
  """After frame t: its own, or that of the last context frame; however the frames are cut."""
  model, variables, x = made
  mask = jnp.ones(x.shape[:2], bool)

  def observed(skips, cuts):
    """The maps that the decoder sees of each frame, however the frames are cut; and the memory."""
    own, found, t = model.copy(skips=skips), [], 0
    memory = own.apply(variables, 2, method='initial_memory')
    for steps in cuts:
      part = x[:, t : t + steps], mask[:, t : t + steps]
      memory, seen_t = constructors.apply(own, variables, memory, *part, method='observe')
      found.append(seen_t.maps)
      t += steps
    return memory, jax.tree.map(lambda *parts: np.concatenate(parts, axis=1), *found)

  last, (before,) = observed('last', (6,))  # of the frame before each
  every = np.concatenate([before[:, 1:], last.maps[0][:, None]], axis=1)
  for cuts in ((6,), (1,) * 6, (3, 1, 2), (1, 5)):
    memory, maps = observed(skips, cuts)
    np.testing.assert_array_equal(memory.count, [6, 6])
    if seen is None:
      assert not jax.tree.leaves((memory.maps, maps))
      continue
    # After frame t, `seen[t]` is looked at; before the first one there are zeros.
    assert not np.any(maps[0][:, 0])
    np.testing.assert_allclose(maps[0][:, 1:], every[:, np.array(seen)[:-1]], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(memory.maps[0], every[:, seen[-1]], rtol=1e-5, atol=1e-6)


def test_the_first_frame_has_a_density_of_its_own(made):
  """Nothing of a frame is seen before it: h_0 is learned, and the maps are zeros."""
  model, variables, x = made
  memory = model.apply(variables, 2, method='initial_state').memory
  params = variables['params']
  np.testing.assert_array_equal(memory.h, np.tile(params['h_0'], (2, 1)))
  assert [m.shape for m in memory.maps] == [(2, 2, 3, 4)]
  assert not np.any(memory.maps[0])

  def by_hand(model):
    recurrence, h_0 = model.prior_recurrence, jnp.tile(model.h_0, (2, 1))
    first = recurrence(recurrence.initial_state(2), h_0)
    seen = model.observe(model.initial_memory(2), x, x[..., 0, 0, 0] > -1)[1]
    second = recurrence(first, seen.h[:, 0])
    return [model.prior_network(hidden[-1]).loc for hidden in (first, second)]

  first, second = constructors.apply(model, variables, method=by_hand)
  given = {**variables, **constructors.given_noise(model, 0.4)}
  prior = constructors.apply(model, given, x).latents.prior.loc
  np.testing.assert_allclose(prior[:, 0], first, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(prior[:, 1], second, rtol=1e-4, atol=1e-6)


# ---- generation ----------------------------------------------------------------------------------


def test_samples_without_the_noise_of_the_likelihood(made):
  """Latent variables are drawn, with the keys of other samples; frames are the decoder's means."""
  model, variables, x = made
  context, key = x[0, :3], jax.random.key(0)

  def drawn(*options):
    return prediction.make_sampler(model, 3, 3, 1.0, *options)(variables, context, key)

  (means, path), (samples, same_path) = drawn(False), drawn()
  np.testing.assert_allclose(path, same_path, rtol=1e-5)
  assert np.abs(means[0] - means[1]).max() > 1e-4
  # A mean is a number in 0..1 by its sigmoid; the likelihood's noise is far wider here.
  assert np.all((means > 0) & (means < 1))
  assert np.abs(means - path).max() < 0.1 * np.abs(samples - path).max()


def test_words_say_whose_mean_is_scored():
  asked = prediction.PredictionProtocol('kth', 'test', 2, 5, 3, 3, 4, 1.0, 0, 1.0, clipped=True)
  assert 'with the noise of its likelihood' in asked.in_words()
  words = dataclasses.replace(asked, likelihood_noise=False).in_words()
  assert 'every step is the mean of its likelihood' in words
  assert 'with the noise' not in words


# ---- counts --------------------------------------------------------------------------------------


@pytest.mark.parametrize('name', PAPER_CODE)
@pytest.mark.parametrize('skips', ['none', 'context'])
def test_parameter_counts_at_paper_size(name, skips):
  """Shapes only: nothing is computed."""
  config = cli.load_config(f'configs/kth/{name}.py').to_dict()['model']
  model = building.model({**copy.deepcopy(config), 'skips': skips}, (64, 64, 1))
  found = building.count_parameters(building.abstract_variables(model, 2))
  # The paper's code multiplies by zero the maps that these kernels of its decoder see.
  dead = 9 * sum(width * width for width in (512, 256, 128, 64)) if skips == 'none' else 0
  # PyTorch's LSTM cell has a second bias; the paper's code scores no first frame, and has no h_0.
  second_biases = (4 if name == 'svg' else 3) * 4 * 256
  assert found + dead + second_biases - 128 == PAPER_CODE[name]


# ---- configs -------------------------------------------------------------------------------------


def test_configs_list_every_option_with_its_default():
  def defaults(cls, *left_out):
    fields = {f.name: f.default for f in dataclasses.fields(cls)}
    return {k: v for k, v in fields.items() if k not in ('parent', 'name', *left_out)}

  assert {'name': 'vgg', **defaults(VggEncoder)} == common.VGG_ENCODER
  assert {'name': 'vgg', **defaults(VggDecoder, 'frame_size')} == common.VGG_DECODER
  assert defaults(FramePredictor, 'size') == common.FRAME_PREDICTOR


@pytest.mark.parametrize('name', ['svg', 'svg_avf1', 'svg:context', 'svg_avf1:none'])
def test_small_configs_differ_in_what_they_say(name):
  file, _, skips = name.partition(':')
  parts = building.build(
    cli.load_config(f'configs/kth_small/{file}.py' + f':{skips}' * bool(skips))
  )
  assert parts.model.skips == (skips or 'last')
  assert building.label(parts.config['model']) == ('SVG + AVF-1' if 'avf' in name else 'SVG')


def spec(**changes):
  parts = ('frame_encoder', 'decoder', 'prior', 'predictor', 'inference', 'likelihood')
  sections = common.svg(4, {part: {} for part in parts})
  for dotted, value in changes.items():
    *path, key = dotted.split('__')
    place = sections
    for name in path:
      place = place[name]
    place[key] = value
  return sections


@pytest.mark.parametrize(
  ('changes', 'expected'),
  [
    ({'skips': 'contxt'}, 'did you mean "context"'),
    ({'num_skip_frames': 0}, 'must be at least 1'),
    ({'frame_encoder__name': 'mlp'}, "model.frame_encoder.name='mlp' is unknown"),
    ({'frame_encoder__depths': (2, 2)}, 'one for each stage'),
    ({'decoder__widths': (8, 8), 'decoder__depths': (2, 2)}, "or model.skips='none'"),
    ({'predictor__layers': 0}, 'must be at least 1'),
    ({'prior__cell': 'lstn'}, 'did you mean "lstm"'),
    ({'predictor': None}, 'model.predictor is missing'),
  ],
)
def test_mistakes_in_a_config_are_one_line(changes, expected):
  with pytest.raises(ConfigError) as error:
    building.model(spec(**changes), (64, 64, 1))
  assert expected in str(error.value)
  assert len(str(error.value).splitlines()) == 1


def test_vectors_are_refused():
  with pytest.raises(ConfigError, match='vgg takes frames, the data have shape'):
    building.model(spec(), (88,))
