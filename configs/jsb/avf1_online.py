"""JSB chorales: SRNN + AVF, the paper's update after every step of a sequence.

python launch/prepare_data.py --dataset=jsb --source=PATH
python launch/train.py --config=configs/jsb/avf1_online.py --workdir=runs/srnn
"""

from afslvm.configs import paper_srnn


def get_config():
  return paper_srnn.music('jsb', 'avf1_online')
