"""SRNN with Bernoulli notes on the JSB chorales.

python launch/train.py --config=configs/jsb/srnn.py --workdir=runs/jsb
"""

from afslvm.configs import common, small_srnn


def get_config():
  return small_srnn.get_config('bernoulli', common.MUSIC['jsb'], {'num_steps': 4000})
