"""MuseData: SRNN with direct inference, variational EM: the AVF paper’s baseline.

python launch/prepare_data.py --dataset=muse_data --source=PATH
python launch/train.py --config=configs/muse_data/direct.py --workdir=runs/srnn

The paper reports 6.27 nats per step (Table 3), after as many steps as it does not say.
"""

from afslvm.configs import paper_srnn


def get_config():
  return paper_srnn.music('muse_data', 'direct')
