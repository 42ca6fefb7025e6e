"""SLVM on moving digits, 16 x 16, with uniform noise.

python launch/train.py --config=configs/moving_digits/slvm_uniform.py --workdir=runs/slvm
"""

from afslvm.configs import common, small_slvm


def get_config():
  return small_slvm.get_config(
    num_flows=0,
    data={**common.MOVING_DIGITS, 'dequantisation': 'uniform'},
    train={'num_steps': 1500},
  )
