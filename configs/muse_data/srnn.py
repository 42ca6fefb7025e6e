"""SRNN with Bernoulli notes on MuseData.

python launch/train.py --config=configs/muse_data/srnn.py --workdir=runs/muse_data
"""

from afslvm.configs import common, small_srnn


def get_config():
  return small_srnn.get_config('bernoulli', common.MUSIC['muse_data'], {'num_steps': 4000})
