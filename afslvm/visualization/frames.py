"""From labelled rows of frames to one picture."""

import numpy as np


def to_display(row: np.ndarray, label: str) -> np.ndarray:
  """Scales a row to [0, 1] for showing.

  Frames and shifts in data space are shown as they are; scales from 0 to their greatest value;
  noise from -3 to 3 standard deviations.
  """
  name = label.split('/')[-1]
  if name == 'y':
    return np.clip(row / 6.0 + 0.5, 0.0, 1.0)
  if name == 'scale':
    return row / max(float(row.max()), 1e-6)
  if label in ('x', '1/shift'):
    return np.clip(row, 0.0, 1.0)
  low, high = float(row.min()), float(row.max())
  return (row - low) / max(high - low, 1e-6)


def stack_rows(rows: dict[str, np.ndarray], index: int, gap: int = 1) -> np.ndarray:
  """One picture [H, W, 3] in [0, 1]: a row of frames per entry, aligned at the last step."""
  steps = max(row.shape[1] for row in rows.values())
  strips = []
  for label, row in rows.items():
    shown = to_display(row[index], label)
    missing = steps - shown.shape[0]
    blank = np.full((missing, *shown.shape[1:]), 0.5)
    strips.append(strip(np.concatenate([blank, shown]), gap))
  return np.concatenate(strips, axis=0)


def strip(sequence: np.ndarray, gap: int = 1) -> np.ndarray:
  """Frames [T, H, W, C] side by side, [H + gap, T (W + gap), 3]."""
  if sequence.shape[-1] == 1:
    sequence = np.repeat(sequence, 3, axis=-1)
  padded = np.pad(sequence, [(0, 0), (0, gap), (0, gap), (0, 0)], constant_values=1.0)
  return np.concatenate(list(padded), axis=1)
