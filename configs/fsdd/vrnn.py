"""VRNN on spoken digits, direct inference, for two cores.

python launch/prepare_data.py --dataset=fsdd --source=FREE_SPOKEN_DIGITS
python launch/train.py --config=configs/fsdd/vrnn.py --workdir=runs/fsdd_vrnn
"""

from afslvm.configs import common, small_speech


def get_config():
  return small_speech.vrnn(small_speech.DIRECT, common.FSDD, {'num_steps': 400})
