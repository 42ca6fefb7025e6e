"""Nottingham: SRNN with direct inference, trained on the bound itself.

python launch/prepare_data.py --dataset=nottingham --source=PATH
python launch/train.py --config=configs/nottingham/direct_bptt.py --workdir=runs/srnn
"""

from afslvm.configs import paper_srnn


def get_config():
  return paper_srnn.music('nottingham', 'direct_bptt')
