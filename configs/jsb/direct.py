"""JSB chorales: SRNN with direct inference, variational EM: the AVF paper’s baseline.

python launch/prepare_data.py --dataset=jsb --source=PATH
python launch/train.py --config=configs/jsb/direct.py --workdir=runs/srnn

The paper reports 6.92 nats per step (Table 3), 7.05 once corrected for the steps it does not score,
after as many steps as it does not say.
"""

from afslvm.configs import paper_srnn


def get_config():
  return paper_srnn.music('jsb', 'direct')
