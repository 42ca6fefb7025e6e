"""2-AF on moving digits, 16 x 16.

python launch/train.py --config=configs/moving_digits/af2.py --workdir=runs/af2
"""

from configs.moving_digits import flows


def get_config():
  return flows.get_config(num_flows=2)
