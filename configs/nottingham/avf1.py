"""Nottingham: SRNN + AVF, one inference iteration.

python launch/prepare_data.py --dataset=nottingham --source=PATH
python launch/train.py --config=configs/nottingham/avf1.py --workdir=runs/srnn

The paper reports 3.13 nats per step (Table 3), after as many steps as it does not say.
"""

from afslvm.configs import paper_srnn


def get_config():
  return paper_srnn.music('nottingham', 'avf1')
