"""JSB chorales: SRNN with direct inference, whose heads begin small as AVF's recipe has them.

python launch/prepare_data.py --dataset=jsb --source=PATH
python launch/train.py --config=configs/jsb/direct_recipe.py --workdir=runs/srnn
"""

from afslvm.configs import paper_srnn


def get_config():
  return paper_srnn.music('jsb', 'direct_recipe')
