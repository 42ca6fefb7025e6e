"""Small videos that tests write."""

import numpy as np


def write_video(path, frames, codec='mpeg4', size=(160, 120)):
  """Writes uint8 levels [T] as constant frames, or pictures [T, H, W, 3] as they are."""
  import av

  if np.ndim(frames) == 1:
    frames = [np.full((size[1], size[0], 3), level, np.uint8) for level in frames]
  path.parent.mkdir(parents=True, exist_ok=True)
  with av.open(str(path), 'w') as container:
    stream = container.add_stream(codec, rate=25)
    stream.height, stream.width = frames[0].shape[:2]
    stream.pix_fmt = 'rgb8' if codec == 'gif' else 'yuv420p'
    stream.codec_context.qmin = stream.codec_context.qmax = 2
    for frame in frames:
      container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format='rgb24')))
    container.mux(stream.encode())
  return path
