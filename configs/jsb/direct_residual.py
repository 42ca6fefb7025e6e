"""JSB chorales: SRNN with direct inference that gives the difference to the prior (RES_q).

python launch/prepare_data.py --dataset=jsb --source=PATH
python launch/train.py --config=configs/jsb/direct_residual.py --workdir=runs/srnn
"""

from afslvm.configs import paper_srnn


def get_config():
  return paper_srnn.music('jsb', 'direct_residual')
