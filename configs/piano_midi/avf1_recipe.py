"""Piano-midi.de: SRNN + AVF, one iteration, with the recipe that trains well.

python launch/prepare_data.py --dataset=piano_midi --source=PATH
python launch/train.py --config=configs/piano_midi/avf1_recipe.py --workdir=runs/srnn
"""

from afslvm.configs import paper_srnn


def get_config():
  return paper_srnn.music('piano_midi', 'avf1_recipe')
