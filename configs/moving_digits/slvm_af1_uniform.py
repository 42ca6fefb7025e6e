"""SLVM + 1-AF on moving digits, 16 x 16, with uniform noise.

python launch/train.py --config=configs/moving_digits/slvm_af1_uniform.py --workdir=runs/slvm_af1
"""

from afslvm.configs import common, small_slvm


def get_config():
  return small_slvm.get_config(
    num_flows=1,
    data={**common.MOVING_DIGITS, 'dequantisation': 'uniform'},
    train={'num_steps': 1500},
  )
