"""MuseData: SRNN + AVF, one iteration, with the recipe that trains well.

python launch/prepare_data.py --dataset=muse_data --source=PATH
python launch/train.py --config=configs/muse_data/avf1_recipe.py --workdir=runs/srnn
"""

from afslvm.configs import paper_srnn


def get_config():
  return paper_srnn.music('muse_data', 'avf1_recipe')
