"""MuseData: SRNN + AVF, one iteration that starts from a direct RES_q posterior.

python launch/prepare_data.py --dataset=muse_data --source=PATH
python launch/train.py --config=configs/muse_data/avf1_from_residual.py --workdir=runs/srnn
"""

from afslvm.configs import paper_srnn


def get_config():
  return paper_srnn.music('muse_data', 'avf1_from_residual')
