"""JSB chorales: SRNN + AVF, one iteration, which also sees x_t and h_t, by the recipe.

python launch/prepare_data.py --dataset=jsb --source=PATH
python launch/train.py --config=configs/jsb/avf1_recipe_observation.py --workdir=runs/srnn
"""

from afslvm.configs import paper_srnn


def get_config():
  return paper_srnn.music('jsb', 'avf1_recipe_observation')
