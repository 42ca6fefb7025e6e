"""The recipe for the Nottingham database: SRNN whose notes depend on the lower ones (NADE).

python launch/train.py --config=configs/nottingham/best.py --workdir=runs/nottingham-best
"""

from afslvm.configs import common, small_srnn


def get_config():
  return small_srnn.get_config(
    'nade', common.MUSIC['nottingham'], {'num_steps': 4000}, dropout=0.2, weight_decay=0.01
  )
