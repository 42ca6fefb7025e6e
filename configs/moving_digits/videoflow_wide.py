"""VideoFlow with as many parameters as with flows in its priors, on moving digits, 16 x 16.

python launch/train.py --config=configs/moving_digits/videoflow_wide.py --workdir=runs/wide
"""

from afslvm.configs import common, small_videoflow


def get_config():
  return small_videoflow.get_config(
    'videoflow', common.MOVING_DIGITS, {'num_steps': 700}, levels=2, prior_width=72
  )
