"""From labelled rows of frames to pictures: strips, one picture of several rows, animations."""

import io
from collections.abc import Mapping, Sequence

import numpy as np

CONTEXT_COLOUR, MODEL_COLOUR = (59, 130, 246), (249, 115, 22)
FRAME_MILLISECONDS, LAST_MILLISECONDS = 160, 700


def display_range(row: np.ndarray, label: str) -> tuple[float, float]:
  """The values of a row that are shown black and white.

  Frames, and predictions and reconstructions of them: 0 and 1. Scales: 0 and the greatest. Noise y
  and what is made of it: -3 and 3 standard deviations. Anything else: its greatest absolute value
  and minus it, so that zero is grey.
  """
  name = label.split('/')[-1]
  if label in ('x', '1/shift', '1/mean', '1/prediction'):
    return 0.0, 1.0
  if name in ('y', 'mean', 'prediction'):
    return -3.0, 3.0
  greatest = max(float(np.nanmax(np.abs(row), initial=0.0)), 1e-6)
  return (0.0 if name == 'scale' else -greatest), greatest


def to_display(row: np.ndarray, label: str) -> np.ndarray:
  """Maps `display_range` of a row to [0, 1] for showing; what isn't a number becomes 0."""
  low, high = display_range(row, label)
  return np.nan_to_num(np.clip((row - low) / (high - low), 0.0, 1.0))


def stack_rows(rows: Mapping[str, np.ndarray], index: int, gap: int = 1) -> np.ndarray:
  """One picture [H, W, 3] in [0, 1]: a row of frames per entry, aligned at the last step."""
  steps = max(row.shape[1] for row in rows.values())
  strips = []
  for label, row in rows.items():
    shown = to_display(row[index], label)
    missing = steps - shown.shape[0]
    blank = np.ones((missing, *shown.shape[1:]))  # as the gaps between frames
    strips.append(strip(np.concatenate([blank, shown]), gap))
  return np.concatenate(strips, axis=0)


def strip(sequence: np.ndarray, gap: int = 1) -> np.ndarray:
  """Frames [T, H, W, C] side by side, [H + gap, T (W + gap), 3]."""
  sequence = to_rgb(sequence)
  padded = np.pad(sequence, [(0, 0), (0, gap), (0, gap), (0, 0)], constant_values=1.0)
  return np.concatenate(list(padded), axis=1)


def to_rgb(sequence: np.ndarray) -> np.ndarray:
  """Frames [T, H, W, 1 or 3] with three channels; of any other number, the first as grey."""
  if sequence.shape[-1] == 3:
    return sequence
  return np.repeat(sequence[..., :1], 3, axis=-1)


# ---- for the page --------------------------------------------------------------------------------


def transparent_strip(
  sequence: np.ndarray, steps: int, mark_after: int = 0, align: str = 'last'
) -> np.ndarray:
  """Frames [T, H, W, C] in [0, 1] side by side, uint8 [H, steps (W + 1), 4].

  Args:
    sequence: at most `steps` frames.
    steps: places; those without a frame and the gaps between frames are transparent.
    mark_after: the gap after this many places is coloured.
    align: 'last', the frames end at the last place, or 'first', they begin at the first.
  """
  _, height, width, _ = sequence.shape
  picture = np.zeros((steps, height, width + 1, 4), np.uint8)
  first = steps - len(sequence) if align == 'last' else 0
  places = slice(first, first + len(sequence))
  picture[places, :, :width, :3] = np.round(255 * to_rgb(sequence))
  picture[places, :, :width, 3] = 255
  if mark_after:
    picture[mark_after - 1, :, width] = (*MODEL_COLOUR, 255)
  return np.concatenate(list(picture), axis=1)


def png(picture: np.ndarray) -> bytes:
  """A PNG file of uint8 [H, W, 3 or 4]."""
  from PIL import Image

  file = io.BytesIO()
  Image.fromarray(picture).save(file, 'PNG', optimize=True)
  return file.getvalue()


def framed(sequence: np.ndarray, num_context: int) -> np.ndarray:
  """uint8 [T, H + 2, W + 2, 3] with a border that says whether a frame is given or drawn."""
  shown = np.round(255 * to_rgb(sequence)).astype(np.uint8)
  bordered = np.zeros((len(shown), shown.shape[1] + 2, shown.shape[2] + 2, 3), np.uint8)
  bordered[:num_context] = CONTEXT_COLOUR
  bordered[num_context:] = MODEL_COLOUR
  bordered[:, 1:-1, 1:-1] = shown
  return bordered


def gif(frames: np.ndarray) -> bytes:
  """An animation without end of uint8 frames [T, H, W, 3]; it rests at the last one."""
  from PIL import Image

  pictures = [Image.fromarray(f).convert('P', palette=Image.Palette.ADAPTIVE) for f in frames]
  durations = [FRAME_MILLISECONDS] * (len(pictures) - 1) + [LAST_MILLISECONDS]
  file = io.BytesIO()
  pictures[0].save(
    file, 'GIF', save_all=True, append_images=pictures[1:], duration=durations, loop=0, disposal=1
  )
  return file.getvalue()


def labelled_picture(
  rows: Mapping[str, np.ndarray], index: int, captions: Mapping[str, str], width: int = 1000
) -> bytes:
  """A PNG file of `stack_rows` with each row's caption at its left, about `width` pixels wide.

  Args:
    rows: [B, T, H, W, C] by label.
    index: of the sequence.
    captions: by label.
    width: of the frames; they are enlarged by a whole number.
  """
  picture = stack_rows(rows, index)
  return with_captions(picture, [captions[label] for label in rows], width)


def with_captions(picture: np.ndarray, captions: Sequence[str], width: int = 1000) -> bytes:
  """A PNG file of rows of equal height, each with its caption at its left.

  Args:
    picture: [H, W, 3] in [0, 1].
    captions: from top to bottom.
    width: the frames are enlarged by a whole number, to about so many pixels.
  """
  from PIL import Image, ImageDraw, ImageFont

  shown = np.round(255 * picture).astype(np.uint8)
  scale = max(1, round(width / shown.shape[1]))
  shown = shown.repeat(scale, axis=0).repeat(scale, axis=1)
  row_height = len(shown) // len(captions)
  font = ImageFont.load_default(size=min(22, max(11, row_height // 3)))
  margin = 16 + max(round(font.getlength(caption)) for caption in captions)
  canvas = Image.new('RGB', (margin + shown.shape[1], len(shown)), 'white')
  canvas.paste(Image.fromarray(shown), (margin, 0))
  pen = ImageDraw.Draw(canvas)
  for place, caption in enumerate(captions):
    middle = (place + 0.5) * row_height
    pen.text((margin - 10, middle), caption, fill='black', font=font, anchor='rm')
  file = io.BytesIO()
  canvas.save(file, 'PNG', optimize=True)
  return file.getvalue()


def names_below(names: Sequence[str], width: int, height: int = 18) -> np.ndarray:
  """uint8 [height, width * names, 3]: each name in the middle of its `width` pixels."""
  from PIL import Image, ImageDraw, ImageFont

  canvas = Image.new('RGB', (width * len(names), height), 'white')
  pen = ImageDraw.Draw(canvas)
  for place, name in enumerate(names):
    size = 13
    while size > 6 and ImageFont.load_default(size=size).getlength(name) > width - 4:
      size -= 1
    middle = ((place + 0.5) * width, height / 2)
    pen.text(middle, name, fill='black', font=ImageFont.load_default(size=size), anchor='mm')
  return np.asarray(canvas)
