"""The recipe for the JSB chorales: SRNN whose notes depend on the lower ones (NADE).

python launch/train.py --config=configs/jsb/best.py --workdir=runs/jsb-best
"""

from afslvm.configs import common, small_srnn


def get_config():
  return small_srnn.get_config(
    'nade', common.MUSIC['jsb'], {'num_steps': 3000}, dropout=0.2, weight_decay=0.01
  )
