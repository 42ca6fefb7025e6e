"""Temporal correlation: how much of a step the one before still tells (AF paper Section 3.1)."""

import numpy as np


def temporal_correlation(x: np.ndarray) -> float:
  """The mean over dimensions of the correlation of successive steps.

  Mean and variance are per dimension, over sequences and steps, as in the AF paper's code; that
  code also counted unscored steps as zeros, this doesn't: pass scored steps only.

  Args:
    x: [B, T, *event]. Dimensions that never vary are left out.
  """
  x = np.asarray(x, np.float64)
  centred = x - x.mean(axis=(0, 1))
  variance = np.mean(centred**2, axis=(0, 1))
  covariance = np.mean(centred[:, :-1] * centred[:, 1:], axis=(0, 1))
  varies = variance > 0
  return float(np.mean(covariance[varies] / variance[varies])) if varies.any() else 0.0
