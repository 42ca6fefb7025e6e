"""2-AF on moving digits, 16 x 16: a minute or two on two cores.

python launch/train.py --config=configs/moving_digits/af2.py --workdir=runs/af2
"""

from afslvm.configs import common, small_flows


def get_config():
  return small_flows.get_config(num_flows=2, data=common.MOVING_DIGITS, train={'num_steps': 1500})
