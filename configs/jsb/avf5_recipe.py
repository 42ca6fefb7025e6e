"""JSB chorales: SRNN + AVF, five iterations, with the recipe that trains well.

python launch/prepare_data.py --dataset=jsb --source=PATH
python launch/train.py --config=configs/jsb/avf5_recipe.py --workdir=runs/srnn
"""

from afslvm.configs import paper_srnn


def get_config():
  return paper_srnn.music('jsb', 'avf5_recipe')
