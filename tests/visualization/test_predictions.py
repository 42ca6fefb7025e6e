import io

import numpy as np
from PIL import Image

from afslvm.visualization import frames, predictions

CONTEXT, SIZE = 2, 6


def shown(num_samples=3, truth_steps=4, steps=5):
  truth = np.zeros((truth_steps, SIZE, SIZE, 1))
  samples = np.full((num_samples, steps - CONTEXT, SIZE, SIZE, 1), 0.5)
  return predictions.rows(truth, {'mean path': samples[0]}, samples, CONTEXT)


def test_rows_begin_with_what_is_given():
  found = shown()
  assert list(found) == ['truth', 'mean path', 'sample 1', 'sample 2', 'sample 3']
  assert [len(row) for row in found.values()] == [4, 5, 5, 5, 5]
  assert found['sample 2'][:CONTEXT].max() == 0
  assert found['sample 2'][CONTEXT:].min() == 0.5
  assert len(shown(num_samples=50)) == 2 + predictions.MAX_SAMPLES


def test_strips_mark_where_the_model_begins_and_where_the_truth_ends():
  picture = np.asarray(Image.open(io.BytesIO(predictions.picture(shown(), CONTEXT))))
  scale = picture.shape[0] // (5 * (SIZE + 1))
  left = picture.shape[1] - 5 * (SIZE + 1) * scale

  def pixel(row, column):
    return picture[row * scale + scale // 2, left + column * scale + scale // 2].tolist()

  assert pixel(0, CONTEXT * (SIZE + 1) - 1) == list(frames.MODEL_COLOUR)
  assert pixel(0, 3 * (SIZE + 1)) == [0, 0, 0]  # the last frame of the truth
  assert pixel(0, 4 * (SIZE + 1)) == [255, 255, 255]  # there is no truth of the last step
  assert pixel(SIZE + 1, 4 * (SIZE + 1)) == [128, 128, 128]
  assert pixel(0, SIZE) == [255, 255, 255]  # a gap


def test_animation_frames_what_is_given_and_what_is_made():
  found = {name: row.copy() for name, row in shown().items()}
  for row in found.values():
    row += np.linspace(0, 0.4, len(row))[:, None, None, None]  # so that no two steps are equal
  animation = Image.open(io.BytesIO(predictions.animation(found, CONTEXT)))
  assert animation.n_frames == 5
  width = animation.size[0] // len(found)
  borders = []
  for step in range(5):
    animation.seek(step)
    picture = np.asarray(animation.convert('RGB')).astype(int)
    borders.append([picture[0, place * width] for place in range(len(found))])
  given, made = np.array(frames.CONTEXT_COLOUR), np.array(frames.MODEL_COLOUR)
  for step in range(5):
    truth, path = borders[step][:2]
    np.testing.assert_allclose(path, given if step < CONTEXT else made, atol=8)
    np.testing.assert_allclose(truth, given if step < 4 else [255] * 3, atol=8)
