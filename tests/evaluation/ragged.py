"""Sequences of different lengths as the pipeline gives them whole, by the plainest of means."""

import numpy as np


def buckets(sequences, batch_size=4, edges=(4, 100), order=None):
  """() -> batches {'x', 'mask', 'index'} of one bucket after the other, filled up."""

  def batches():
    longest = max(map(len, sequences))
    low = 0
    for high in edges:
      chosen = [i for i in order or range(len(sequences)) if low < len(sequences[i]) <= high]
      low = high
      for start in range(0, len(chosen), batch_size):
        index = np.full(batch_size, -1)
        index[: len(chosen[start:])] = chosen[start : start + batch_size]
        steps = min(high, longest)
        x = np.zeros((batch_size, steps, *sequences[0].shape[1:]), sequences[0].dtype)
        mask = np.zeros((batch_size, steps), bool)
        for row, i in enumerate(index):
          if i >= 0:
            x[row, : len(sequences[i])], mask[row, : len(sequences[i])] = sequences[i], True
        yield {'x': x, 'mask': mask, 'index': index}

  return batches
