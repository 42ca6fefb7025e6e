"""Pictures of predicted sequences: rows under one another as PNG, side by side as GIF."""

from collections.abc import Mapping

import numpy as np

from afslvm.visualization import frames

MAX_SAMPLES = 8  # in a picture
PANEL_WIDTH = 84  # pixels of a panel of the animation, so that its caption fits


def rows(
  truth: np.ndarray, made: Mapping[str, np.ndarray], samples: np.ndarray, num_context: int
) -> dict[str, np.ndarray]:
  """Rows of one sequence by caption, from the first given frame on.

  Args:
    truth: [C + F', H, W, C], in [0, 1]; it may end before the predictions.
    made: more rows to show above the samples, [F, H, W, C].
    samples: [N, F, H, W, C]; the first `MAX_SAMPLES` are shown.
    num_context: C, how many frames are given.
  """
  context = truth[:num_context]
  drawn = {f'sample {n}': values for n, values in enumerate(samples[:MAX_SAMPLES], 1)}
  found = {name: np.concatenate([context, values]) for name, values in (made | drawn).items()}
  return {'truth': truth, **found}


def picture(shown: Mapping[str, np.ndarray], num_context: int) -> bytes:
  """A PNG file: rows aligned at the first frame, a mark where the model begins."""
  steps = max(map(len, shown.values()))
  strips = []
  for row in shown.values():
    blank = frames.transparent_strip(row, steps, num_context, align='first')
    visible = blank[..., 3:] / 255
    strip = visible * (blank[..., :3] / 255) + 1 - visible  # on white paper
    strips.append(np.pad(strip, [(0, 1), (0, 0), (0, 0)], constant_values=1.0))
  return frames.with_captions(np.concatenate(strips), list(shown))


def animation(shown: Mapping[str, np.ndarray], num_context: int) -> bytes:
  """A GIF file: panels in time with one another, framed blue where given, orange where made."""
  steps = max(map(len, shown.values()))
  panels = []
  for name, row in shown.items():
    panel = frames.framed(row, steps if name == 'truth' else num_context)
    ended = np.full((steps - len(row), *panel.shape[1:]), 255, np.uint8)
    panels.append(np.concatenate([panel, ended]))
  together = np.concatenate(panels, axis=2)  # [T, H, rows * W, 3]
  scale = max(1, round(PANEL_WIDTH / panels[0].shape[2]))
  together = together.repeat(scale, axis=1).repeat(scale, axis=2)
  below = frames.names_below(list(shown), together.shape[2] // len(shown))
  below = np.broadcast_to(below, (steps, *below.shape))
  return frames.gif(np.concatenate([together, below], axis=1))
