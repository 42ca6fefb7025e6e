"""MuseData: SRNN + AVF, one iteration, which sees x_t and h_t beside the gradients.

python launch/prepare_data.py --dataset=muse_data --source=PATH
python launch/train.py --config=configs/muse_data/avf1_observation.py --workdir=runs/srnn
"""

from afslvm.configs import paper_srnn


def get_config():
  return paper_srnn.music('muse_data', 'avf1_observation')
