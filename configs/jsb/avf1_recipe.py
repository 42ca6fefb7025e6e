"""JSB chorales: SRNN + AVF, one iteration, with the recipe that trains well.

python launch/prepare_data.py --dataset=jsb --source=PATH
python launch/train.py --config=configs/jsb/avf1_recipe.py --workdir=runs/srnn
"""

from afslvm.configs import paper_srnn


def get_config():
  return paper_srnn.music('jsb', 'avf1_recipe')
