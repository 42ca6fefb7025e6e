"""VRNN on spoken digits, AVF, one iteration, for two cores.

python launch/prepare_data.py --dataset=fsdd --source=FREE_SPOKEN_DIGITS
python launch/train.py --config=configs/fsdd/vrnn_avf1.py --workdir=runs/fsdd_vrnn_avf1
"""

from afslvm.configs import common, small_speech


def get_config():
  return small_speech.vrnn(small_speech.AVF, common.FSDD, {'num_steps': 400})
