"""The paper's own code's numbers from its weights, and a re-computation of it for other sizes."""

import math
import pathlib
import zipfile

import numpy as np
import pytest

from afslvm import reference_weights
from afslvm.errors import ConfigError, DataError
from tests import constructors
from tests.oracles_torch import (
  PREFIX,
  latent_terms,
  latent_weights,
  reference_terms,
  synthetic_weights,
)

GOLDEN = pathlib.Path(__file__).resolve().parents[2] / 'shared' / 'data' / 'golden'
ALL_FILES = sorted(GOLDEN.glob('*.npz'))
LATENT_FILES = [path for path in ALL_FILES if 'eps.npy' in zipfile.ZipFile(path).namelist()]
FILES = [path for path in ALL_FILES if path not in LATENT_FILES]


def golden_files(paths, pattern):
  """A test for each; skipped where there is none."""
  missing = pytest.param(None, marks=pytest.mark.skip(reason=f'needs {GOLDEN}/{pattern}'))
  return pytest.mark.parametrize('path', [pytest.param(p, id=p.stem) for p in paths] or [missing])


# ---- what this library computes ------------------------------------------------------------------


def to_reference_layout(value):
  """[B, T, H, W, C] -> [T, B, C, H, W]."""
  return np.transpose(np.asarray(value), (1, 0, 4, 2, 3))


def evaluate(model, variables, x):
  """As `reference_terms`, on x [T, B, C, H, W]."""
  x = np.transpose(x, (1, 0, 3, 4, 2))
  terms, updated = constructors.apply(model, variables, x, mutable=('visuals',))
  rows, shown = updated['visuals'], []
  while 'shift' in rows:
    shown.append([to_reference_layout(rows[name][0]) for name in ('shift', 'scale', 'y')])
    rows = rows.get('base', {})
  scored = np.asarray(terms.scored)[0]
  return shown, scored, np.asarray(terms.elbo).T[scored]


def relative_error(found, expected):
  """The largest difference over the largest value."""
  return float(np.abs(found - expected).max() / np.abs(expected).max())


# ---- golden files --------------------------------------------------------------------------------


@golden_files(FILES, 'af*.npz')
def test_golden_numbers_are_reproduced(path):
  model, variables = reference_weights.load(path)
  with np.load(path, allow_pickle=False) as file:
    golden = {name: file[name] for name in file if not name.startswith('weight/')}
  shown, scored, log_likelihood = evaluate(model, variables, golden['x'])
  frames = golden['out/frame']
  np.testing.assert_array_equal(np.flatnonzero(scored), frames)
  assert len(shown) == golden['out/shift'].shape[1]
  for m, rows in enumerate(shown):
    shift, scale, y = (row[-len(frames) :] for row in rows)
    np.testing.assert_allclose(shift, golden['out/shift'][:, m], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(scale, golden['out/scale'][:, m], rtol=1e-4)
    assert relative_error(shift, golden['out/shift'][:, m]) < 1e-4
  np.testing.assert_allclose(y, golden['out/noise'], rtol=1e-4, atol=1e-4)
  np.testing.assert_allclose(log_likelihood, golden['out/cll'], rtol=1e-4)


@golden_files(LATENT_FILES, 'slvm*.npz')
def test_golden_numbers_of_latent_models_are_reproduced(path):
  """Prior, posterior, draws, likelihood and divergence of every frame, with the code's noise."""
  model, variables = reference_weights.load(path)
  with np.load(path, allow_pickle=False) as file:
    golden = {name: file[name] for name in file if not name.startswith('weight/')}
  terms = apply_with_noise(model, variables, golden['x'], golden['eps'])
  frames = golden['out/frame']

  def time_first(value):
    return np.swapaxes(np.asarray(value), 0, 1)[frames]

  np.testing.assert_array_equal(np.flatnonzero(np.asarray(terms.scored)[0]), frames)
  latents = terms.latents
  found = {
    'cll': terms.log_likelihood - terms.log_det,
    'kl': terms.kl,
    'z': latents.z,
    'prior_loc': latents.prior.loc,
    'prior_scale': np.exp(latents.prior.log_scale),
    'post_loc': latents.posterior.loc,
    'post_scale': np.exp(latents.posterior.log_scale),
  }
  for name, value in found.items():
    assert relative_error(time_first(value), golden[f'out/{name}']) < 1e-4, name


def in_half_precision(model):
  """The same model with bfloat16 convolutions."""
  if hasattr(model, 'flow'):
    conditioner = model.flow.conditioner.copy(compute_dtype='bfloat16')
    return model.copy(flow=model.flow.copy(conditioner=conditioner))
  encoder = model.inference.encoder.copy(compute_dtype='bfloat16')
  decoder = model.decoder.copy(compute_dtype='bfloat16')
  return model.copy(decoder=decoder, inference=model.inference.copy(encoder=encoder))


@golden_files(ALL_FILES, '*.npz')
def test_half_precision_changes_less_than_a_thousandth_of_a_nat_per_dimension(path):
  model, variables = reference_weights.load(path)
  with np.load(path, allow_pickle=False) as file:
    x, eps = file['x'], file.get('eps')
  dims = math.prod(model.event_shape)
  whole, half = (
    np.asarray(apply_with_noise(m, variables, x, eps).elbo, np.float64) / dims
    for m in (model, in_half_precision(model))
  )
  assert np.all(np.abs(half - whole) < 1e-3)
  assert np.any(half != whole)


def apply_with_noise(model, variables, x, eps):
  """Terms of x [T, B, C, H, W] with posterior draws made of eps [T', B, Z]."""
  x, inner = np.transpose(x, (1, 0, 3, 4, 2)), model
  if eps is None:  # there are no latent variables
    return constructors.apply(model, variables, x)
  noise = {'latent': np.swapaxes(eps, 0, 1)}
  while hasattr(inner, 'base'):
    inner, noise = inner.base, {'base': noise}
  return constructors.apply(model, {**variables, 'noise': noise}, x)


@pytest.mark.parametrize('num_flows', [0, 1, 2])
def test_numbers_of_other_latent_models(num_flows):
  """Under flows the mean is linear, and the model starts after the flows' windows."""
  weights = latent_weights(layers=1 if num_flows else 2)
  weights |= synthetic_weights(num_flows, frame_channels=2) if num_flows else {}
  rng = np.random.default_rng(2)
  x = rng.uniform(size=(2 * num_flows + 3, 2, 2, 8, 8)).astype(np.float32)
  eps = rng.normal(size=(3, 2, 3)).astype(np.float32)
  model, variables = reference_weights.load(weights, frame_size=(8, 8))
  y, log_det = x, 0.0
  if num_flows:
    _, y, exact = reference_terms(x, weights, num_flows, window=2)
    log_det = -0.5 * (y**2 + np.log(2 * np.pi)).sum(axis=(2, 3, 4)) - exact
  log_likelihood, kl = latent_terms(y, weights, eps, sigmoid=not num_flows)
  terms = apply_with_noise(model, variables, x, eps)
  scored = np.asarray(terms.scored)[0]
  np.testing.assert_array_equal(np.flatnonzero(scored), np.arange(2 * num_flows, len(x)))
  np.testing.assert_allclose(np.asarray(terms.kl).T[scored], kl, rtol=1e-4)
  elbo = log_likelihood - log_det - kl
  np.testing.assert_allclose(np.asarray(terms.elbo).T[scored], elbo, rtol=1e-4)


@pytest.mark.parametrize('num_flows', [0, 2])
def test_latent_round_trip(num_flows):
  """Of an LSTM's two biases only the sum is kept."""
  weights = latent_weights() | (synthetic_weights(2, frame_channels=2) if num_flows else {})
  model, variables = reference_weights.load(weights, frame_size=(8, 8))
  again = reference_weights.to_reference(model, variables)
  assert again.keys() == weights.keys()
  for name, value in weights.items():
    if 'lstm.bias' in name:
      other = name.replace('bias_ih', '?').replace('bias_hh', 'bias_ih').replace('?', 'bias_hh')
      value, again[name] = value + weights[other], again[name] + again[other]
    np.testing.assert_allclose(again[name], value, rtol=1e-6, atol=1e-7)


# ---- other sizes ---------------------------------------------------------------------------------


SIZES = [
  {'num_flows': 1, 'frame_channels': 1, 'window': 3, 'depths': (1, 1)},
  {'num_flows': 2, 'frame_channels': 3},
  {'num_flows': 3, 'frame_channels': 2, 'width': 3},
]


@pytest.mark.parametrize('size', SIZES, ids=lambda size: f'{size["num_flows"]}-AF')
def test_numbers_of_other_sizes(size):
  weights = synthetic_weights(**size)
  window = size.get('window', 2)
  steps = window * size['num_flows'] + 2
  x = np.random.default_rng(1).uniform(size=(steps, 2, size['frame_channels'], 5, 4))
  x = x.astype(np.float32)
  model, variables = reference_weights.load(
    {'x': x, **{f'weight/{k}': weights[k] for k in weights}}
  )
  assert model.event_shape == (5, 4, size['frame_channels'])

  expected_rows, y, expected = reference_terms(x, weights, size['num_flows'], window)
  shown, scored, found = evaluate(model, variables, x)
  np.testing.assert_array_equal(np.flatnonzero(scored), np.arange(steps - 2, steps))
  for (shift, scale, _), (expected_shift, expected_scale) in zip(shown, expected_rows, strict=True):
    np.testing.assert_allclose(shift, expected_shift, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(scale, expected_scale, rtol=1e-4)
  np.testing.assert_allclose(shown[-1][2], y, rtol=1e-4, atol=1e-4)
  np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_the_clamp_of_the_scale_is_met():
  """The synthetic weights reach it, so the comparison above covers it."""
  weights = synthetic_weights(num_flows=2)
  x = np.random.default_rng(1).uniform(size=(6, 2, 3, 5, 4))
  scales = [scale for _, scale in reference_terms(x, weights, 2, 2)[0]]
  assert 0.01 < np.mean([np.mean(scale == 10) for scale in scales]) < 0.9


def test_round_trip():
  weights = synthetic_weights(num_flows=2)
  model, variables = reference_weights.load(weights, frame_size=(5, 4))
  again = reference_weights.to_reference(model, variables)
  assert again.keys() == weights.keys()
  for name, value in weights.items():
    np.testing.assert_array_equal(again[name], value)


def test_dead_parameters_are_ignored(tmp_path):
  weights = synthetic_weights(num_flows=1)
  dead = {
    f'{PREFIX}0.initial_shift': np.zeros((1, 3, 5, 4)),
    f'{PREFIX}0.initial_scale': np.zeros((1, 3, 5, 4)),
    f'{PREFIX}0.network.init_encoder.main.1.num_batches_tracked': np.zeros((), np.int64),
  }
  path = tmp_path / 'weights.npz'
  np.savez(path, **weights, **dead)
  model, variables = reference_weights.load(path, frame_size=(5, 4))
  assert reference_weights.to_reference(model, variables).keys() == weights.keys()


# ---- mistakes ------------------------------------------------------------------------------------


def without(name):
  weights = synthetic_weights(num_flows=2)
  del weights[f'{PREFIX}{name}']
  return weights


def with_array(name, shape):
  return {**synthetic_weights(num_flows=2), name: np.zeros(shape, np.float32)}


MISTAKES = {
  'missing': (without('1.network.shift_net.bias'), '1.network.shift_net.bias is missing'),
  'first missing': (
    without('0.network.init_encoder.main.0.weight'),
    '0.network.init_encoder.main.0.weight is missing',
  ),
  'unknown in a flow': (
    with_array(f'{PREFIX}1.network.shift_nett.bias', 3),
    'did you mean "network.shift_net.bias"',
  ),
  'unknown elsewhere': (with_array('posterior.lstm.bias', 3), 'posterior.lstm.bias is no weight'),
  'unknown in an SLVM': (
    {**latent_weights(), 'prior.lstm.bias': np.zeros(3)},
    'prior.lstm.bias is no weight of an SLVM',
  ),
  'missing in an SLVM': (
    {
      k: v
      for k, v in latent_weights().items()
      if k != 'prior.param_layers.loc.layers.0.linear.bias'
    },
    'prior.param_layers.loc.layers.0.linear.bias is missing',
  ),
  'wrong shape in an SLVM': (
    {**latent_weights(), 'approx_post.temporal_network.layers.0.lstm.weight_ih': np.zeros((20, 4))},
    '20, 4',
  ),
  'wrong shape': (with_array(f'{PREFIX}0.network.encoder.0.main.0.weight', (9, 4, 3, 3)), '9, 4'),
  'no kernel': (with_array(f'{PREFIX}0.network.init_decoder.main.0.weight', (4,)), 'convolution'),
  'nothing': ({}, 'there are no weights'),
}


@pytest.mark.parametrize('name', MISTAKES)
def test_mistakes_are_one_line(name):
  weights, words = MISTAKES[name]
  with pytest.raises(ConfigError) as caught:
    reference_weights.load(weights, frame_size=(8, 8))
  assert words in str(caught.value)
  assert '\n' not in str(caught.value)


def test_frames_without_a_size_are_refused():
  with pytest.raises(ConfigError, match='frame_size'):
    reference_weights.load(synthetic_weights(num_flows=1))


def test_files_that_can_not_be_read(tmp_path):
  with pytest.raises(ConfigError, match='does not exist'):
    reference_weights.load(tmp_path / 'none.npz')
  (tmp_path / 'torn.npz').write_bytes(b'PK\x03\x04 and then nothing')
  np.savez(tmp_path / 'objects.npz', code=np.array([{'a': 1}], dtype=object))
  np.save(tmp_path / 'one.npy', np.zeros(3))
  for name in ('torn.npz', 'objects.npz', 'one.npy'):
    with pytest.raises(DataError, match=name):
      reference_weights.load(tmp_path / name)


@pytest.mark.parametrize(
  ('part', 'option', 'words'),
  [
    ('likelihood', {'mean_activation': 'linear'}, "mean_activation='linear' has no counterpart"),
    ('likelihood', {'log_scale_low': -3.0}, 'likelihood.log_scale_low=-3.0 has no counterpart'),
    ('inference', {'log_scale_high': 1.0}, 'code it is 5.0'),
    ('inference', {'residual': True}, 'counterpart'),
    ('dynamics', {'first_step': 'standard'}, 'counterpart'),
  ],
)
def test_an_slvm_that_computes_something_else_is_not_written(part, option, words):
  model, variables = reference_weights.load(latent_weights(), frame_size=(8, 8))
  assert reference_weights.to_reference(model, variables)
  other = model.copy(**{part: getattr(model, part).copy(**option)})
  with pytest.raises(ConfigError, match=words):
    reference_weights.to_reference(other, variables)


@pytest.mark.parametrize('option', [{'boundary': 'learned'}, {'log_scale_bound': 'smooth'}])
def test_flows_without_a_counterpart_are_not_written(option):
  model, variables = reference_weights.load(synthetic_weights(num_flows=1), frame_size=(5, 4))
  other = model.copy(flow=model.flow.copy(**option))
  with pytest.raises(ConfigError, match='counterpart'):
    reference_weights.to_reference(other, variables)
