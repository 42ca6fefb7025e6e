"""The recipe for MuseData: SRNN whose notes depend on the lower ones (NADE).

python launch/train.py --config=configs/muse_data/best.py --workdir=runs/muse_data-best
"""

from afslvm.configs import common, small_srnn


def get_config():
  return small_srnn.get_config(
    'nade', common.MUSIC['muse_data'], {'num_steps': 4000}, dropout=0.2, weight_decay=0.01
  )
