"""Piano-midi.de: SRNN + AVF, the paper's update after every step of a sequence.

python launch/prepare_data.py --dataset=piano_midi --source=PATH
python launch/train.py --config=configs/piano_midi/avf1_online.py --workdir=runs/srnn
"""

from afslvm.configs import paper_srnn


def get_config():
  return paper_srnn.music('piano_midi', 'avf1_online')
