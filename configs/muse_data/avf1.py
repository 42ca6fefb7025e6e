"""MuseData: SRNN + AVF, one inference iteration.

python launch/prepare_data.py --dataset=muse_data --source=PATH
python launch/train.py --config=configs/muse_data/avf1.py --workdir=runs/srnn

The paper reports 5.99 nats per step (Table 3), after as many steps as it does not say.
"""

from afslvm.configs import paper_srnn


def get_config():
  return paper_srnn.music('muse_data', 'avf1')
