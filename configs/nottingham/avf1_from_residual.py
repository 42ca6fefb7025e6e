"""Nottingham: SRNN + AVF, one iteration that starts from a direct RES_q posterior.

python launch/prepare_data.py --dataset=nottingham --source=PATH
python launch/train.py --config=configs/nottingham/avf1_from_residual.py --workdir=runs/srnn
"""

from afslvm.configs import paper_srnn


def get_config():
  return paper_srnn.music('nottingham', 'avf1_from_residual')
