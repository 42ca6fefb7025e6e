import numpy as np
import pytest
from scipy import stats

from afslvm.evaluation import references
from afslvm.evaluation.references import COPY_LAST, STATIC
from tests.evaluation import known_models as known

FIRST = 2


def walk(seed=0, sequences=12):
  """Sequences that move, float32 [B, T, *event]."""
  steps = np.random.default_rng(seed).normal(0.1, 0.5, (sequences, known.STEPS, *known.EVENT))
  return np.cumsum(steps, axis=1).astype(np.float32)


def fit(x, batch_size=8):
  return references.fit(known.batches_of(x, batch_size)('train'), 'none', FIRST)


def test_fit_is_that_of_all_sequences_at_once():
  x = walk().astype(np.float64)
  fitted = fit(walk())
  now, before = x[:, FIRST:], x[:, FIRST - 1 : -1]
  np.testing.assert_allclose(fitted.mean, now.mean(axis=(0, 1)), rtol=1e-5)
  np.testing.assert_allclose(fitted.variance, now.var(axis=(0, 1)), rtol=1e-5)
  np.testing.assert_allclose(fitted.change, ((now - before) ** 2).mean(axis=(0, 1)), rtol=1e-5)


OTHERS = {
  'higher': (STATIC, lambda r: r._replace(mean=r.mean + 0.02)),
  'lower': (STATIC, lambda r: r._replace(mean=r.mean - 0.02)),
  'wider': (STATIC, lambda r: r._replace(variance=r.variance * 1.03)),
  'narrower': (STATIC, lambda r: r._replace(variance=r.variance * 0.97)),
  'more change': (COPY_LAST, lambda r: r._replace(change=r.change * 1.03)),
  'less change': (COPY_LAST, lambda r: r._replace(change=r.change * 0.97)),
}


@pytest.mark.parametrize('name', OTHERS)
def test_fit_is_the_maximum_likelihood(name):
  which, change = OTHERS[name]
  x = walk().astype(np.float64)
  fitted = fit(walk())
  best, other = (
    r.log_likelihoods(x, np.ones(x.shape[:2], bool), FIRST)[which].sum()
    for r in (fitted, change(fitted))
  )
  assert other < best


def test_log_likelihoods_against_scipy():
  x = walk(seed=1).astype(np.float64)
  fitted = fit(walk())
  found = fitted.log_likelihoods(x, np.ones(x.shape[:2], bool), FIRST)
  static = stats.norm(fitted.mean, np.sqrt(fitted.variance)).logpdf(x[:, FIRST:])
  copied = stats.norm(x[:, FIRST - 1 : -1], np.sqrt(fitted.change)).logpdf(x[:, FIRST:])
  np.testing.assert_allclose(found[STATIC], static.reshape(len(x), -1).sum(axis=1))
  np.testing.assert_allclose(found[COPY_LAST], copied.reshape(len(x), -1).sum(axis=1))


def test_padding_is_neither_fitted_nor_scored():
  x = walk().astype(np.float64)
  mask = np.ones(x.shape[:2], bool)
  mask[:, -2:] = False
  padded = np.where(mask.reshape(*mask.shape, *(1,) * (x.ndim - 2)), x, 1e6)
  short = references.fit([{'x': x[:, :-2], 'mask': mask[:, :-2]}], 'none', FIRST)
  fitted = references.fit([{'x': padded, 'mask': mask}], 'none', FIRST)
  for a, b in zip(short, fitted, strict=True):
    np.testing.assert_allclose(a, b)
  expected = short.log_likelihoods(x[:, :-2], mask[:, :-2], FIRST)
  found = fitted.log_likelihoods(padded, mask, FIRST)
  for name in expected:
    np.testing.assert_allclose(found[name], expected[name])


@pytest.mark.parametrize('batch_size', [5, 12])
def test_batches_do_not_matter(batch_size):
  for a, b in zip(fit(walk()), fit(walk(), batch_size), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize(('kind', 'factor'), [('gauss256', 1), ('uniform', 1 / 12)])
def test_the_noise_of_the_protocol_is_in_the_fit(kind, factor):
  """In frames that never change, noise is all there is, and twice in a difference."""
  x = known.still_frames(sequences=400)
  fitted = references.fit(known.batches_of(x, 100)('train'), kind, FIRST)
  np.testing.assert_allclose(fitted.variance.mean(), factor / 256**2, rtol=0.05)
  np.testing.assert_allclose(fitted.change.mean(), 2 * factor / 256**2, rtol=0.05)
