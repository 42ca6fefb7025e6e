import math

import jax
import numpy as np
import pytest

from afslvm.evaluation import likelihood, references
from afslvm.evaluation.contract import ContractError, LikelihoodResult, table
from afslvm.transforms import preprocessing
from tests.evaluation import known_models as known

NOISE = 1 / 256**2
SCORED_DIMS = 4 * known.DIMS


def by_kind(evaluation):
  return {(r.name, r.kind): r for r in likelihood.evaluate(evaluation)}


def pure_noise(x):
  """The model that knows the picture and the noise's variance: no model is better."""
  return known.Gaussian(known.EVENT, mean=known.as_tuple(x[0, 0] / 255.0), variance=NOISE)


@pytest.mark.parametrize(('dequantisation', 'kind'), [('gauss256', 'exact'), ('uniform', 'elbo')])
def test_a_uniform_density_scores_log_256(dequantisation, kind):
  model, x = known.Uniform(known.EVENT), known.moving_frames()
  found = by_kind(known.evaluation(model, x, dequantisation))['known', kind]
  np.testing.assert_allclose(found.nats_per_dim, math.log(256), rtol=1e-6)
  np.testing.assert_allclose(found.bits_per_dim, 8, rtol=1e-6)


def test_gaussian_noise_alone_scores_its_entropy():
  x = known.still_frames(sequences=64)
  found = by_kind(known.evaluation(pure_noise(x), x))['known', 'exact']
  error = 1 / math.sqrt(2 * 64 * SCORED_DIMS)  # of half a mean of squares
  np.testing.assert_allclose(found.nats_per_dim, 1.419, atol=4 * error)
  np.testing.assert_allclose(found.standard_error, error, rtol=0.4)


def test_a_normal_scores_a_quarter_of_a_bit_on_uniform_noise():
  """The one that knows every level: ½ log2(2πe / 12), of which the table tells."""
  x = known.still_frames(sequences=64)
  middle = known.as_tuple((x[0, 0] + 0.5) / 256.0)
  best = known.Gaussian(known.EVENT, mean=middle, variance=NOISE / 12)
  results = likelihood.evaluate(known.evaluation(best, x, 'uniform'))
  # By quadrature, not by the formula of the entropy.
  u = (np.arange(100_000) + 0.5) / 100_000 - 0.5
  expected = np.mean(6 * u**2 + 0.5 * np.log(2 * np.pi / 12)) / math.log(2)
  np.testing.assert_allclose(results[0].bits_per_dim, expected, atol=0.03)
  assert results[0].normal_on_data
  assert LikelihoodResult.from_json(results[0].to_json()) == results[0]
  line = table(results).splitlines()[-1]
  assert f'{expected:.4f} bits/dim' in line
  assert line.endswith('normal are known, static Gaussian, copy-last Gaussian')


@pytest.mark.parametrize(('dequantisation', 'said'), [('uniform', True), ('gauss256', False)])
def test_nothing_is_said_of_other_models_and_other_noise(dequantisation, said):
  x, model = known.moving_frames(), known.Uniform(known.EVENT)
  results = likelihood.evaluate(known.evaluation(model, x, dequantisation))
  assert 'normal_on_data' not in results[0].to_json()
  line = table(results).splitlines()[-1]
  assert ('normal are static Gaussian' in line) == said
  assert 'known' not in line


def test_a_model_that_is_too_good_is_refused():
  with pytest.raises(ContractError, match='below the floor'):
    likelihood.evaluate(known.evaluation(known.TooGood(known.EVENT), known.moving_frames()))


def test_padding_sequences_do_not_count():
  """21 sequences in batches of 8: three empty ones, to which this model gives no chance at all."""
  x = known.still_frames(sequences=21)
  found = by_kind(known.evaluation(pure_noise(x), x))['known', 'exact']
  assert found.num_sequences == 21
  assert found.nats_per_dim < 1.6
  np.testing.assert_allclose(found.nats_per_sequence, found.nats_per_dim * SCORED_DIMS, rtol=1e-6)


@pytest.mark.parametrize(('dequantisation', 'kind'), [('gauss256', 'exact'), ('uniform', 'elbo')])
def test_references_see_the_noise_that_the_model_sees(dequantisation, kind):
  """A model that is the static reference scores what the reference scores, to rounding."""
  x = known.moving_frames()
  fitted = references.fit(known.batches_of(x)('train'), dequantisation, known.SCORED[0])
  values = {name: known.as_tuple(getattr(fitted, name)) for name in ('mean', 'variance')}
  model = known.Gaussian(known.EVENT, **values)
  found = by_kind(known.evaluation(model, x, dequantisation, num_samples=2))
  ours, theirs = found['known', kind], found[references.STATIC, kind]
  np.testing.assert_allclose(ours.nats_per_dim, theirs.nats_per_dim, rtol=1e-5)
  np.testing.assert_allclose(ours.standard_error, theirs.standard_error, rtol=1e-3)
  assert ours.contract == theirs.contract


def test_the_seed_decides_the_noise():
  x = known.moving_frames()
  model = known.Gaussian(known.EVENT, mean=0.5, variance=0.1)
  evaluations = [known.evaluation(model, x, seed=seed) for seed in (0, 0, 1)]
  scores = [by_kind(evaluation)['known', 'exact'].nats_per_dim for evaluation in evaluations]
  assert scores[0] == scores[1] != scores[2]


# ---- several draws -------------------------------------------------------------------------------


def test_log_mean_exp_is_tighter_than_the_mean():
  x = known.still_frames()
  model = known.Gaussian(known.EVENT, mean=known.as_tuple((x[0, 0] + 0.5) / 256), variance=NOISE)
  found = by_kind(known.evaluation(model, x, 'uniform', num_samples=4))
  mean, tighter = found['known', 'elbo'], found['known', 'iwae-4']
  assert tighter.nats_per_dim < mean.nats_per_dim
  assert (mean.num_samples, tighter.num_samples) == (4, 4)


def test_log_mean_exp_by_hand():
  """From draws of the same keys, whose noise is made here again."""
  x = known.still_frames(sequences=8)
  evaluation = known.evaluation(
    known.Gaussian(known.EVENT, mean=0.5, variance=0.05), x, 'uniform', num_samples=3
  )
  draws = []
  for sample in range(3):
    noise_key = evaluation.keys(0, sample)[0]
    noisy = np.asarray(preprocessing.dequantise(noise_key, x, 'uniform'), np.float64)[:, 2:]
    draws.append(-0.5 * ((noisy - 0.5) ** 2 / 0.05 + np.log(2 * np.pi * 0.05)).sum((1, 2, 3, 4)))
  expected = np.log(np.mean(np.exp(draws), axis=0)).mean() / SCORED_DIMS
  found = by_kind(evaluation)['known', 'iwae-3']
  np.testing.assert_allclose(found.nats_per_dim, math.log(256) - expected, rtol=1e-6)


def test_several_draws_of_an_exact_model_are_one_number():
  x = known.moving_frames().astype(np.float32) / 255
  model = known.Gaussian(known.EVENT, mean=0.5, variance=0.1)
  once = by_kind(known.evaluation(model, x, 'none', num_samples=1))
  found = by_kind(known.evaluation(model, x, 'none', num_samples=3))
  assert found.keys() == once.keys()
  assert found['known', 'exact'].nats_per_dim == once['known', 'exact'].nats_per_dim


def test_draws_of_the_papers_noise_are_averaged_only():
  """The best of several noisy copies would be below the floor: they are other data."""
  x = known.still_frames()
  found = by_kind(known.evaluation(pure_noise(x), x, 'gauss256', num_samples=8))
  assert [kind for name, kind in found if name == 'known'] == ['exact']
  np.testing.assert_allclose(found['known', 'exact'].nats_per_dim, 1.419, atol=0.03)


def test_one_draw_has_one_result():
  evaluation = known.evaluation(known.Uniform(known.EVENT), known.moving_frames(), 'uniform')
  names = ['known', references.STATIC, references.COPY_LAST]
  assert list(by_kind(evaluation)) == [(name, 'elbo') for name in names]


def test_every_draw_has_a_key_of_its_own():
  """But the noise of gauss256 is part of the data: all draws share it."""
  for kind, different in (('uniform', 9), ('gauss256', 3)):
    model = known.Uniform(known.EVENT)
    evaluation = known.evaluation(model, known.moving_frames(), kind)
    pairs = [evaluation.keys(batch, sample) for batch in range(3) for sample in range(3)]
    noise, samples = (
      {tuple(map(int, jax.random.key_data(key))) for key in keys}
      for keys in zip(*pairs, strict=True)
    )
    assert (len(noise), len(samples)) == (different, 9)
    assert not noise & samples


# ---- what the flows leave ------------------------------------------------------------------------


def test_decorrelation_of_white_noise():
  x = known.moving_frames(sequences=16, steps=30)
  evaluation = known.evaluation(known.Uniform(known.EVENT), x, scored_frames=(2, 29))
  (values,) = likelihood.decorrelation(evaluation).values()
  assert abs(values['temporal_correlation']) < 0.1
  np.testing.assert_allclose(values['standard_deviation'], np.sqrt(1 / 12), rtol=0.05)
