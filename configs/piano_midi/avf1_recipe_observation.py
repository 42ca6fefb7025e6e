"""Piano-midi.de: SRNN + AVF, one iteration, which also sees x_t and h_t, by the recipe.

python launch/prepare_data.py --dataset=piano_midi --source=PATH
python launch/train.py --config=configs/piano_midi/avf1_recipe_observation.py --workdir=runs/srnn
"""

from afslvm.configs import paper_srnn


def get_config():
  return paper_srnn.music('piano_midi', 'avf1_recipe_observation')
