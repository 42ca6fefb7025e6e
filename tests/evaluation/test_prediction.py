import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afslvm.errors import NumericsError
from afslvm.evaluation import prediction
from afslvm.evaluation.prediction import BEST, COPY_LAST, EACH, MEAN, MEAN_PATH
from afslvm.models.base import SequenceModel

FRAME = (13, 15, 1)
PSNR, SSIM = prediction.metrics_of(FRAME, '8bit')


def frames(*lead, seed=0, shape=FRAME):
  return np.random.default_rng(seed).uniform(size=(*lead, *shape)).astype(np.float32)


# ---- metrics -------------------------------------------------------------------------------------


def test_psnr_of_known_errors():
  black = np.zeros((4, *FRAME), np.float32)
  errors = np.array([1.0, 0.1, 0.01, 0.001], np.float32)
  shifted = black + errors[:, None, None, None]
  np.testing.assert_allclose(prediction.psnr(shifted, black), [0, 20, 40, 60], atol=1e-3)


def test_psnr_of_noise():
  a, b = frames(2, 3), frames(2, 3, seed=1)
  error = np.square(a.astype(np.float64) - b).mean(axis=(-3, -2, -1))
  np.testing.assert_allclose(prediction.psnr(a, b), 10 * np.log10(1 / error), rtol=1e-5)


def test_equal_frames_have_the_greatest_psnr_and_not_an_infinite_one():
  a = frames(2)
  assert prediction.psnr(a, a).tolist() == [prediction.MAX_PSNR] * 2


def ssim_by_hand(a, b, window, deviation=1.5):
  """Wang et al. (2004), Eq. 13: weighted moments of every window, one pixel at a time."""
  offsets = np.arange(window) - (window - 1) / 2
  weights = np.exp(-0.5 * (offsets[:, None] ** 2 + offsets[None] ** 2) / deviation**2)
  weights /= weights.sum()
  c1, c2 = 0.01**2, 0.03**2
  values = []
  height, width, channels = a.shape
  places = itertools.product(range(height - window + 1), range(width - window + 1), range(channels))
  for top, left, channel in places:
    p, q = (
      image[top : top + window, left : left + window, channel].astype(np.float64)
      for image in (a, b)
    )
    mean_p, mean_q = (weights * p).sum(), (weights * q).sum()
    var_p, var_q = (weights * (p - mean_p) ** 2).sum(), (weights * (q - mean_q) ** 2).sum()
    covariance = (weights * (p - mean_p) * (q - mean_q)).sum()
    luminance = (2 * mean_p * mean_q + c1) / (mean_p**2 + mean_q**2 + c1)
    values.append(luminance * (2 * covariance + c2) / (var_p + var_q + c2))
  return np.mean(values)


@pytest.mark.parametrize(
  ('shape', 'window'), [(FRAME, 11), ((8, 9, 3), 7), ((12, 12, 3), 11), ((9, 20, 1), 9)]
)
def test_ssim_is_that_of_wang_et_al(shape, window):
  a = frames(2, shape=shape)
  b = np.clip(a + 0.3 * frames(2, seed=1, shape=shape), 0, 1)
  assert prediction.ssim_window(shape) == window
  expected = [ssim_by_hand(a[i], b[i], window) for i in range(2)]
  np.testing.assert_allclose(prediction.ssim(a, b), expected, atol=1e-5)


def test_ssim_of_constants_is_the_luminance_term():
  """Two flat frames p and q: (2 p q + c1) / (p² + q² + c1)."""
  p, q = np.full((1, *FRAME), 0.2, np.float32), np.full((1, *FRAME), 0.6, np.float32)
  expected = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
  np.testing.assert_allclose(prediction.ssim(p, q), expected, rtol=1e-4)


def test_ssim_identities():
  a, b = frames(3), frames(3, seed=1)
  np.testing.assert_allclose(prediction.ssim(a, a), 1.0, atol=1e-6)
  np.testing.assert_allclose(prediction.ssim(a, b), prediction.ssim(b, a), atol=1e-6)
  assert prediction.ssim(a, 1 - a).max() < 0


def test_data_that_are_no_frames_have_a_squared_error():
  (vectors,) = prediction.metrics_of((3,), 'continuous')
  a, b = np.zeros((2, 4, 3)), np.full((2, 4, 3), 2.0)
  assert vectors.name == 'mse'
  assert vectors.of(a, b).tolist() == [[4.0] * 4] * 2
  (volume,) = prediction.metrics_of((5, 4, 1), 'continuous')
  assert volume.of(np.zeros((6, 5, 4, 1)), np.ones((6, 5, 4, 1))).tolist() == [1.0] * 6


# ---- one sequence --------------------------------------------------------------------------------


def test_best_is_the_sample_with_the_best_average_over_frames():
  """Sample 1 wins the first frame by far, sample 2 on average; the mean of both wins anyway."""
  truth = np.full((2, *FRAME), 0.5, np.float32)
  errors = np.array([[0.001, 0.4], [0.01, -0.02], [0.3, 0.3]], np.float32)  # [N, F]
  samples = truth + errors[..., None, None, None]
  found = prediction.score(PSNR, truth, samples, truth + 0.1, truth[0] - 0.01)
  by_hand = -20 * np.log10(np.abs(errors))
  assert found.best == 1
  np.testing.assert_allclose(found.rows[BEST], by_hand[1], rtol=1e-4)
  np.testing.assert_allclose(found.rows[EACH], by_hand.mean(axis=0), rtol=1e-4)
  np.testing.assert_allclose(
    found.rows[MEAN], -20 * np.log10(np.abs(errors.mean(axis=0))), rtol=1e-4
  )
  np.testing.assert_allclose(found.rows[MEAN_PATH], [20, 20], rtol=1e-4)
  np.testing.assert_allclose(found.rows[COPY_LAST], [40, 40], rtol=1e-3)


def test_best_of_an_error_is_the_least():
  (mse,) = prediction.metrics_of((2,), 'continuous')
  samples = np.array([3.0, 1.0, 2.0])[:, None, None] * np.ones((3, 4, 2))
  found = prediction.score(mse, np.zeros((4, 2)), samples, samples[0], None)
  assert found.best == 1
  assert found.rows[BEST].tolist() == [1.0] * 4
  assert COPY_LAST not in found.rows


def test_the_best_does_not_get_worse_with_more_samples():
  truth, samples = frames(3), frames(6, 3, seed=1)
  scores = [
    prediction.score(SSIM, truth, samples[:n], truth, None).rows[BEST].mean() for n in range(1, 7)
  ]
  assert scores == sorted(scores)
  assert scores[-1] > scores[0]


def test_steps_without_truth_are_not_scored():
  truth, samples = frames(2), frames(3, 5, seed=1)
  long = prediction.score(PSNR, truth, samples, samples[0], truth[0])
  short = prediction.score(PSNR, truth, samples[:, :2], samples[0, :2], truth[0])
  for name, row in long.rows.items():
    assert row.shape == (2,)
    np.testing.assert_array_equal(row, short.rows[name])


# ---- averages ------------------------------------------------------------------------------------


def test_averages_are_over_sequences():
  values = np.random.default_rng(0).normal(size=(5, 3))
  scores = [prediction.Scores({MEAN: row}, 0) for row in values]
  found = prediction.summarise(scores)[MEAN]
  own = values.mean(axis=1)
  np.testing.assert_allclose(found['mean'], values.mean())
  np.testing.assert_allclose(found['per_frame'], values.mean(axis=0))
  expected = np.sqrt(np.sum((own - own.mean()) ** 2) / 4 / 5)
  np.testing.assert_allclose(found['standard_error'], expected)
  assert prediction.summarise(scores[:1])[MEAN]['standard_error'] is None


def test_table_numbers_frames_of_the_sequence():
  scores = [prediction.Scores({MEAN: np.arange(8.0)}, 0)]
  header, row = prediction.table(PSNR, prediction.summarise(scores), first=5).splitlines()
  assert header.startswith('PSNR, dB (higher is better)')
  assert 'frame 5' in header
  assert header.endswith('frame 12')
  assert row.split()[-1] == '7.000'


def test_protocol_in_words():
  protocol = prediction.PredictionProtocol(
    *('digits', 'test', 32, 5, 20, 15, 8, 1.0, 3),
    data_range=1.0,
    clipped=True,
    ssim_window=11,
  )
  text = protocol.in_words()
  for words in ('5 frames given', 'frames 5..24', '8 samples', 'seed 3', '5..19 only', '[0, 1]'):
    assert words in text
  everything = dataclasses.replace(protocol, scored_frames=20).in_words()
  assert 'all predicted frames, 5..24' in everything
  nothing = dataclasses.replace(protocol, scored_frames=0).in_words()
  assert 'no truth' in nothing
  assert BEST not in nothing


# ---- samples -------------------------------------------------------------------------------------


class RandomWalk(SequenceModel):
  """x_t = x_{t-1} + N(0, 1)."""

  explodes: bool = False

  def initial_state(self, batch_size):
    return jnp.zeros((batch_size, *self.event_shape))

  def step(self, state, x_t, mask_t=None):
    del state, mask_t
    return x_t, None

  def predict(self, state, temperature=1.0, limit=None):
    noise = jax.random.normal(self.make_rng('sample'), state.shape)
    x_t = state + temperature * noise
    return (x_t, x_t / 0.0) if self.explodes else (x_t, x_t)


def draw(num_samples, temperature=1.0, seed=0, explodes=False):
  sample = prediction.make_sampler(RandomWalk((3,), explodes), 4, num_samples, temperature)
  context = jnp.asarray([[0.0, 0.0, 0.0], [1.0, 2.0, 3.0]])
  return sample({}, context, jax.random.key(seed))


def test_samples_continue_the_context():
  samples, mean_path = draw(5)
  assert samples.shape == (5, 4, 3)
  np.testing.assert_array_equal(mean_path, np.tile([1.0, 2.0, 3.0], (4, 1)))
  assert len({each.tobytes() for each in samples}) == 5


def test_a_sample_does_not_depend_on_how_many_there_are():
  np.testing.assert_allclose(draw(6)[0][:2], draw(2)[0], rtol=1e-6)
  assert np.abs(draw(2, seed=1)[0] - draw(2)[0]).min() > 0


def test_temperature_scales_the_noise():
  (one, path), (half, _) = draw(3), draw(3, temperature=0.5)
  np.testing.assert_allclose(half - path, 0.5 * (one - path), rtol=1e-5)
  np.testing.assert_array_equal(draw(2, temperature=0.0)[0], np.stack([path] * 2))


def test_samples_that_are_no_numbers_are_reported():
  with pytest.raises(NumericsError, match='not finite'):
    draw(2, explodes=True)


@pytest.mark.parametrize(
  ('context', 'frames', 'sequences', 'expected'),
  [(5, 20, 3, 20), (5, 400, 3, 25), (5, 400, 1, 95), (5, 400, 99, 4), (9, 20, 4, 0), (0, 9, 4, 9)],
)
def test_frames_that_enough_sequences_have(context, frames, sequences, expected):
  lengths = np.array([30, 9, 100, 40])
  assert prediction.common_frames(lengths, context, frames, sequences) == expected
