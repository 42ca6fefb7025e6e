"""VideoFlow inside a box-logistic temporal flow, on moving digits, 16 x 16.

python launch/train.py --config=configs/moving_digits/videoflow_af1_box.py --workdir=runs/box
"""

from afslvm.configs import common, small_videoflow


def get_config():
  return small_videoflow.get_config(
    'videoflow_af1_box', common.MOVING_DIGITS, {'num_steps': 700}, levels=2
  )
