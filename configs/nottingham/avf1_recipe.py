"""Nottingham: SRNN + AVF, one iteration, with the recipe that trains well.

python launch/prepare_data.py --dataset=nottingham --source=PATH
python launch/train.py --config=configs/nottingham/avf1_recipe.py --workdir=runs/srnn
"""

from afslvm.configs import paper_srnn


def get_config():
  return paper_srnn.music('nottingham', 'avf1_recipe')
