import dataclasses

import numpy as np
import pytest
from scipy import stats

from afslvm.evaluation import sequence_references as references
from afslvm.evaluation.references import COPY_LAST, STATIC
from tests.evaluation.ragged import buckets
from tests.evaluation.test_sequences import contract

BINARY = contract(data_space='binary', measure='probability', resolution=None)
LEVELS = dataclasses.replace(BINARY, data_space='8bit', dequantisation='discretised')


def rolls(seed=0, count=12):
  rng = np.random.default_rng(seed)
  return [(rng.random((rng.integers(2, 9), 5)) < 0.3).astype(np.uint8) for _ in range(count)]


def per_step(fitted, sequences, edges=(4, 100)):
  """{name: nats [steps] of all real steps}, by sequence."""
  found = {}
  for batch in buckets(sequences, 3, edges)():
    x = batch['x'].astype(np.float64)
    for name, values in fitted.log_likelihoods(x).items():
      for row, index in enumerate(batch['index']):
        if index >= 0:
          found.setdefault(name, {})[index] = values[row, batch['mask'][row]]
  return {name: np.concatenate([v for _, v in sorted(d.items())]) for name, d in found.items()}


# ---- notes ---------------------------------------------------------------------------------------


def test_notes_by_hand():
  """Two songs of one note: 1 1 0 and 0 0."""
  songs = [np.array([[1], [1], [0]], np.uint8), np.array([[0], [0]], np.uint8)]
  fitted = references.fit(buckets(songs)(), BINARY)
  np.testing.assert_allclose(fitted.on, 2.5 / 6)
  np.testing.assert_allclose(fitted.stays, 1.5 / 3)
  np.testing.assert_allclose(fitted.starts, 0.5 / 2)
  found = per_step(fitted, songs)
  on, off = np.log(2.5 / 6), np.log(3.5 / 6)
  np.testing.assert_allclose(found[references.INDEPENDENT], [on, on, off, off, off])
  np.testing.assert_allclose(found[references.MARKOV], np.log([2.5 / 6, 0.5, 0.5, 3.5 / 6, 0.75]))


def test_buckets_do_not_matter():
  a, b = (references.fit(buckets(rolls(), *how)(), BINARY) for how in ((3,), (12, (50,))))
  for one, other in zip(a, b, strict=True):
    np.testing.assert_allclose(one, other)


@pytest.mark.parametrize(
  ('name', 'independent', 'markov'), [('piano_midi', 11.046, 8.262), ('jsb', 11.060, 10.469)]
)
def test_music_scores_what_others_measured(name, independent, markov, shared_data):
  """Nats per step of all test steps; a song's first step by the note frequencies."""
  with np.load(shared_data / f'music_{name}.npz') as file:
    x = np.unpackbits(file['packed'], axis=1)[:, :88]
    songs = np.split(x, np.cumsum(file['lengths'])[:-1])
    train, test = ([s for s, k in zip(songs, file['split'], strict=True) if k == w] for w in (0, 2))
  edges = (200, 1000, 10000)
  fitted = references.fit(buckets(train, 8, edges)(), BINARY)
  found = per_step(fitted, test, edges)
  assert round(-found[references.INDEPENDENT].mean(), 3) == pytest.approx(independent)
  assert round(-found[references.MARKOV].mean(), 3) == pytest.approx(markov)


# ---- Gaussians -----------------------------------------------------------------------------------


def waves(resolution=0.01):
  rng = np.random.default_rng(1)
  walks = [np.cumsum(rng.normal(0, 0.3, (rng.integers(2, 9), 3)), axis=0) for _ in range(9)]
  return [(np.round(w / resolution) * resolution).astype(np.float32) for w in walks]


def deviations():
  x = waves()
  stacked = np.concatenate(x).astype(np.float64)
  changes = np.concatenate([np.diff(w.astype(np.float64), axis=0) for w in x])
  return x, stacked.mean(axis=0), stacked.std(axis=0), np.sqrt((changes**2).mean(axis=0))


@pytest.mark.parametrize('measure', ['density', 'probability'])
def test_gaussians_against_scipy(measure):
  x, mean, std, change = deviations()
  fitted = references.fit(buckets(x)(), contract(measure=measure))
  found = per_step(fitted, x)

  def score(x, loc, scale):
    if measure == 'density':
      return stats.norm.logpdf(x, loc, scale)
    return np.log(stats.norm.cdf(x + 0.005, loc, scale) - stats.norm.cdf(x - 0.005, loc, scale))

  static = [score(w, mean, std).sum(axis=1) for w in x]
  copied = [
    np.concatenate([s[:1], score(w[1:], w[:-1], change).sum(axis=1)])
    for s, w in zip(static, x, strict=True)
  ]
  np.testing.assert_allclose(found[STATIC], np.concatenate(static), rtol=1e-4, atol=1e-4)
  np.testing.assert_allclose(found[COPY_LAST], np.concatenate(copied), rtol=1e-4, atol=1e-4)


def test_levels_sum_to_one():
  """Also of a pixel that never changed in training."""
  frames = np.random.default_rng(0).integers(0, 256, (6, 4, 2, 2, 1)).astype(np.uint8)
  frames[:, :, 0, 0] = 255
  fitted = references.fit(buckets(list(frames))(), LEVELS)
  assert (fitted.width, fitted.levels) == (1 / 255, True)
  grid = np.broadcast_to(np.arange(256)[:, None, None, None, None] / 255.0, (256, 1, 2, 2, 1))
  values = references._log_prob(grid, fitted.mean, 0.5 * np.log(fitted.variance), 1 / 255, True)
  np.testing.assert_allclose(np.exp(np.asarray(values)).sum(axis=0), 1, rtol=1e-4)


def test_padding_is_not_fitted():
  x = [np.full((2, 1), 3.0, np.float32), np.full((7, 1), 5.0, np.float32)]
  fitted = references.fit(buckets(x, 2, (60,))(), contract())
  np.testing.assert_allclose(fitted.mean, (2 * 3 + 7 * 5) / 9)
  np.testing.assert_allclose(fitted.change, 0, atol=1e-6)
