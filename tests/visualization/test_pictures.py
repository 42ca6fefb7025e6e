import io

import jax
import numpy as np
import pytest
from PIL import Image

from afslvm.visualization import continuations, figures, frames, pictures


def rows_of(steps=5, late=3, size=4):
  x = np.zeros((2, steps, size, size, 1))
  x[:, -1] = 1.0
  return {'x': x, '1/shift': x[:, -late:], '1/y': 6 * x[:, -late:] - 3}


# ---- rows ----------------------------------------------------------------------------------------


def test_rows_are_aligned_at_the_last_step():
  picture = frames.stack_rows(rows_of(), index=0)
  assert picture.shape == (3 * 5, 5 * 5, 3)
  assert picture[:4, -5:-1].min() == 1.0  # x at the last step
  assert picture[5:9, -5:-1].min() == 1.0  # and the shift below it
  assert picture[5:9, 10:14].max() == 0.0  # its first step is the third
  assert picture[5:9, 5:9].min() == 1.0  # before it there is blank paper


def test_strips_have_nothing_before_the_first_frame():
  sequence = np.full((3, 4, 6, 1), 0.5)
  strip = frames.transparent_strip(sequence, steps=5, mark_after=2)
  assert strip.shape == (4, 5 * 7, 4)
  visible = strip[..., 3] > 0
  places = visible.reshape(4, 5, 7)
  assert not places[:, 0].any()
  assert places[:, 2:, :6].all()
  assert not places[:, 2:, 6].any()
  assert (strip[:, 2 * 7 - 1] == (*frames.MODEL_COLOUR, 255)).all()
  assert np.all(strip[0, 2 * 7, :3] == 128)


def test_display_ranges():
  values = np.array([-4.0, 0.0, 0.5, np.nan])
  assert frames.to_display(values, 'x').tolist() == [0.0, 0.0, 0.5, 0.0]
  assert frames.to_display(np.array([-3.0, 0.0, 3.0]), '2/y').tolist() == [0.0, 0.5, 1.0]
  assert frames.to_display(np.array([0.0, 0.1, 0.2]), '1/scale').tolist() == [0.0, 0.5, 1.0]
  signed = frames.to_display(np.array([-0.2, 0.0, 0.1]), '2/shift')
  np.testing.assert_allclose(signed, [0.0, 0.5, 0.75])


def test_captions_number_only_what_is_there_twice():
  two = dict.fromkeys(['x', '1/shift', '2/shift', '2/y'])
  assert [pictures.caption(label, two) for label in two] == ['x', 'shift 1', 'shift 2', 'y']


def test_variance_explained_by_the_shift():
  x = np.random.default_rng(0).normal(size=(2, 6, 4, 4, 1))
  assert pictures.explained({'x': x, '1/shift': x[:, 3:]}) == 1.0
  nothing = {'x': x - x.mean(), '1/shift': np.zeros_like(x)}
  assert abs(pictures.explained(nothing)) < 1e-12
  assert pictures.explained({'x': x}) is None
  half = {'x': x, '1/mean': np.where(np.arange(6)[:, None, None, None] < 3, x, x.mean())}
  assert 0.4 < pictures.explained(half, '1/mean') < 0.6


def test_a_mean_reconstructs_what_its_likelihood_is_of():
  one = ['x', '1/shift', '1/scale', '1/y', '2/mean']
  two = [*one[:-1], '2/shift', '2/scale', '2/y', '3/mean']
  assert pictures.meaning('1/mean', ['x', '1/mean']) == 'reconstruction of x'
  assert pictures.meaning('2/mean', one) == 'reconstruction of y'
  assert pictures.meaning('3/mean', two) == 'reconstruction of y 2'
  assert pictures.meaning('1/shift', one) == 'prediction'
  assert pictures.meaning('1/attention', ['x', '1/attention']) == ''


def test_rows_come_from_what_the_model_shows(digits_run):
  rows = pictures.visual_rows(digits_run, digits_run.sequences)
  assert list(rows) == ['x', '1/shift', '1/scale', '1/y', '2/shift', '2/scale', '2/y']
  assert [row.shape[1] for row in rows.values()] == [9, 6, 6, 6, 3, 3, 3]
  text = pictures.rows_of_sequence(digits_run, rows, 0)
  assert text.count('<img') == len(rows)
  assert 'shift 2' in text


def test_labelled_picture_is_enlarged_by_a_whole_number():
  rows = rows_of()
  captions = {label: pictures.caption(label, rows) for label in rows}
  data = frames.labelled_picture(rows, 0, captions, width=200)
  picture = np.asarray(Image.open(io.BytesIO(data)).convert('L'))
  assert picture.shape[0] == 8 * 15
  assert picture.shape[1] > 8 * 25
  assert picture[:, : picture.shape[1] - 8 * 25].min() < 100  # the captions


# ---- continuations -------------------------------------------------------------------------------


def test_continuations_begin_with_the_context(digits_run):
  x = digits_run.sequences.x
  rows = continuations.continuations(
    digits_run.model, digits_run.variables, x, num_samples=2, key=jax.random.key(0)
  )
  assert list(rows) == ['truth', 'mean path', 'sample 1', 'sample 2']
  assert continuations.context_length(digits_run.model) == 6
  for row in rows.values():
    assert row.shape == x.shape
    np.testing.assert_array_equal(row[:, :6], x[:, :6])
  assert np.abs(rows['sample 1'] - rows['sample 2'])[:, 6:].max() > 0
  # At its initialisation a flow is the identity, so the mean path is the mean of N(0, I).
  np.testing.assert_allclose(rows['mean path'][:, 6:], 0.0, atol=1e-6)


def test_animation_keeps_every_frame_and_marks_the_context():
  shades = np.linspace(0, 1, 5)[:, None, None, None] * np.ones((5, 4, 6, 1))
  data = frames.gif(frames.framed(shades, num_context=2))
  animation = Image.open(io.BytesIO(data))
  assert animation.format == 'GIF'
  assert animation.n_frames == 5
  assert animation.info['loop'] == 0
  corners, middles = [], []
  for index in range(5):
    animation.seek(index)
    shown = np.asarray(animation.convert('RGB'))
    assert shown.shape == (6, 8, 3)
    corners.append(tuple(int(v) for v in shown[0, 0]))
    middles.append(int(shown[3, 3, 0]))
  assert corners == [frames.CONTEXT_COLOUR] * 2 + [frames.MODEL_COLOUR] * 3
  assert middles == [0, 64, 128, 191, 255]


def test_colour_frames_are_shown_in_colour():
  red = np.zeros((2, 4, 4, 3))
  red[..., 0] = 1.0
  assert frames.transparent_strip(red, 2)[0, 0].tolist() == [255, 0, 0, 255]
  assert frames.framed(red, 1)[0, 1, 1].tolist() == [255, 0, 0]


# ---- charts --------------------------------------------------------------------------------------


@pytest.mark.parametrize('records', [{'train': []}, {'validation': []}], ids=['no train', 'no val'])
def test_training_curves_need_one_of_both(digits_run, records):
  import dataclasses

  run = dataclasses.replace(digits_run, records=dataclasses.replace(digits_run.records, **records))
  light, dark = figures.training_curves([run, digits_run])
  assert light.startswith(b'<?xml')
  assert light != dark
