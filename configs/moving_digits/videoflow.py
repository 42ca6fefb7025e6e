"""VideoFlow, on moving digits, 16 x 16.

python launch/train.py --config=configs/moving_digits/videoflow.py --workdir=runs/videoflow
"""

from afslvm.configs import common, small_videoflow


def get_config():
  return small_videoflow.get_config('videoflow', common.MOVING_DIGITS, {'num_steps': 700}, levels=2)
