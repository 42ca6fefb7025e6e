"""SRNN with Bernoulli notes on the Nottingham database.

python launch/train.py --config=configs/nottingham/srnn.py --workdir=runs/nottingham
"""

from afslvm.configs import common, small_srnn


def get_config():
  return small_srnn.get_config('bernoulli', common.MUSIC['nottingham'], {'num_steps': 4000})
