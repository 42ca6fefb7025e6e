"""The paper's own code's numbers from its weights, and a re-computation of it for other sizes."""

import pathlib

import numpy as np
import pytest

from afslvm import reference_weights
from afslvm.errors import ConfigError, DataError

GOLDEN = pathlib.Path(__file__).resolve().parents[2] / 'shared' / 'data' / 'golden'
FILES = sorted(GOLDEN.glob('af*.npz'))
PREFIX = 'cond_like.transforms.'


# ---- an independent computation, in the layouts of PyTorch ---------------------------------------


def convolve(x, weight, bias):
  """Cross-correlation of [N, C, H, W] with a kernel OIHW 3 x 3, zero-padded."""
  height, width = x.shape[2:]
  padded = np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)])
  out = np.zeros((len(x), len(weight), height, width)) + bias[:, None, None]
  for i in range(3):
    for j in range(3):
      shifted = padded[:, :, i : i + height, j : j + width]
      out += np.einsum('oc,nchw->nohw', weight[:, :, i, j], shifted)
  return out


def block(x, weights, name):
  """Convolution, BatchNorm in evaluation mode, ReLU."""
  w = {k.removeprefix(f'{name}.main.'): v[:, None, None] for k, v in weights.items() if name in k}
  x = convolve(x, weights[f'{name}.main.0.weight'], weights[f'{name}.main.0.bias'])
  x = (x - w['1.running_mean']) / np.sqrt(w['1.running_var'] + 1e-5) * w['1.weight'] + w['1.bias']
  return np.maximum(x, 0)


def chain_of_blocks(x, weights, half):
  x = block(x, weights, f'network.init_{half}')
  k = 0
  while f'network.{half}.{k}.main.0.weight' in weights:
    x, k = block(x, weights, f'network.{half}.{k}'), k + 1
  return x


def transform(level, weights, window):
  """One flow over [T, B, C, H, W]: shift, scale and y of the frames after the window."""
  shifts, scales = [], []
  for t in range(window, len(level)):
    past = [chain_of_blocks(level[t - window + k], weights, 'encoder') for k in range(window)]
    h = chain_of_blocks(np.concatenate(past, axis=1), weights, 'decoder')
    shifts.append(
      convolve(h, weights['network.shift_net.weight'], weights['network.shift_net.bias'])
    )
    raw = convolve(
      h, weights['network.log_scale_net.weight'], weights['network.log_scale_net.bias']
    )
    scales.append(np.minimum(np.exp(raw), 10.0))
  shift, scale = np.stack(shifts), np.stack(scales)
  return shift, scale, (level[window:] - shift) / scale


def reference_terms(x, weights, num_flows, window):
  """Shift and scale per flow from the data on, the last y, and nats per frame, all frames last."""
  level, shown, log_det = x, [], 0.0
  scored = len(x) - num_flows * window
  for index in reversed(range(num_flows)):
    own = f'{PREFIX}{index}.'
    flow = {k.removeprefix(own): v for k, v in weights.items() if k.startswith(own)}
    shift, scale, level = transform(level, flow, window)
    shown.append((shift, scale))
    log_det = log_det + np.log(scale)[-scored:].sum(axis=(2, 3, 4))
  log_normal = -0.5 * (level**2 + np.log(2 * np.pi)).sum(axis=(2, 3, 4))
  return shown, level, log_normal - log_det


def synthetic_weights(num_flows, frame_channels=3, window=2, width=4, depths=(2, 3), seed=0):
  """Random arrays under the names and shapes that the paper's code gives them."""
  rng = np.random.default_rng(seed)
  arrays = {}
  for m in range(num_flows):
    network = f'{PREFIX}{m}.network'
    inputs = {'encoder': frame_channels, 'decoder': window * width}
    for half, depth in zip(('encoder', 'decoder'), depths, strict=True):
      for k in range(depth):
        name = f'{network}.{half}.{k - 1}.main' if k else f'{network}.init_{half}.main'
        fan = width if k else inputs[half]
        arrays[f'{name}.0.weight'] = rng.normal(size=(width, fan, 3, 3)) / np.sqrt(9 * fan)
        for what in ('0.bias', '1.weight', '1.bias', '1.running_mean'):
          arrays[f'{name}.{what}'] = rng.normal(size=width) * 0.5 + (what == '1.weight')
        arrays[f'{name}.1.running_var'] = rng.uniform(0.5, 2.0, size=width)
    for head, bias in (('shift_net', 0.0), ('log_scale_net', 1.5)):
      shape = (frame_channels, width, 3, 3)
      arrays[f'{network}.{head}.weight'] = rng.normal(size=shape) / np.sqrt(9 * width)
      arrays[f'{network}.{head}.bias'] = bias + rng.normal(size=frame_channels) * 0.5
  return {name: value.astype(np.float32) for name, value in arrays.items()}


# ---- what this library computes ------------------------------------------------------------------


def to_reference_layout(value):
  """[B, T, H, W, C] -> [T, B, C, H, W]."""
  return np.transpose(np.asarray(value), (1, 0, 4, 2, 3))


def evaluate(model, variables, x):
  """As `reference_terms`, on x [T, B, C, H, W]."""
  terms, updated = model.apply(variables, np.transpose(x, (1, 0, 3, 4, 2)), mutable=['visuals'])
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


@pytest.mark.parametrize(
  'path',
  [pytest.param(path, id=path.stem) for path in FILES]
  or [pytest.param(None, marks=pytest.mark.skip(reason=f'needs {GOLDEN}/af*.npz'))],
)
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
  'unknown elsewhere': (with_array('prior.lstm.bias', 3), 'prior.lstm.bias is no weight'),
  'wrong shape': (with_array(f'{PREFIX}0.network.encoder.0.main.0.weight', (9, 4, 3, 3)), '9, 4'),
  'no kernel': (with_array(f'{PREFIX}0.network.init_decoder.main.0.weight', (4,)), 'convolution'),
  'nothing': ({}, 'there are no weights'),
}


@pytest.mark.parametrize('name', MISTAKES)
def test_mistakes_are_one_line(name):
  weights, words = MISTAKES[name]
  with pytest.raises(ConfigError) as caught:
    reference_weights.load(weights, frame_size=(5, 4))
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


@pytest.mark.parametrize('option', [{'boundary': 'learned'}, {'log_scale_bound': 'smooth'}])
def test_flows_without_a_counterpart_are_not_written(option):
  model, variables = reference_weights.load(synthetic_weights(num_flows=1), frame_size=(5, 4))
  other = model.copy(flow=model.flow.copy(**option))
  with pytest.raises(ConfigError, match='counterpart'):
    reference_weights.to_reference(other, variables)
