"""SLVM + 1-AF box on moving digits, 16 x 16: a minute or two on two cores.

The flow nearest the data is box-logistic: it fits levels and their uniform noise exactly.

python launch/train.py --config=configs/moving_digits/slvm_af1_box.py --workdir=runs/slvm_af1_box
python launch/evaluate.py --workdir=runs/slvm_af1_box --protocol=discrete
"""

from afslvm.configs import common, small_slvm


def get_config():
  return small_slvm.get_config(
    num_flows=1,
    data={**common.MOVING_DIGITS, 'dequantisation': 'uniform'},
    train={'num_steps': 1500},
    transform='box_logistic',
  )
