"""JSB chorales: SRNN + AVF, one iteration that starts from a direct RES_q posterior.

python launch/prepare_data.py --dataset=jsb --source=PATH
python launch/train.py --config=configs/jsb/avf1_from_residual.py --workdir=runs/srnn
"""

from afslvm.configs import paper_srnn


def get_config():
  return paper_srnn.music('jsb', 'avf1_from_residual')
