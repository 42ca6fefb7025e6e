"""VRNN on spoken digits, AVF, one iteration, for two cores.

python launch/prepare_data.py --dataset=fsdd --source=FREE_SPOKEN_DIGITS
python launch/train.py --config=configs/fsdd/vrnn_avf1.py --workdir=runs/fsdd_vrnn_avf1
"""

from configs import small_speech


def get_config():
  data = {'name': 'fsdd', 'frame_size': 200}
  return small_speech.vrnn(small_speech.AVF, data, {'num_steps': 1200})
