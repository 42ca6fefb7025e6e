"""A temporal flow around a Glow of independent frames, on moving digits, 16 x 16.

python launch/train.py --config=configs/moving_digits/glow_af1.py --workdir=runs/glow_af1
"""

from afslvm.configs import common, small_videoflow


def get_config():
  return small_videoflow.get_config('glow_af1', common.MOVING_DIGITS, {'num_steps': 700}, levels=2)
