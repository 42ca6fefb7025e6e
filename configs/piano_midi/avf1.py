"""Piano-midi.de: SRNN + AVF, one inference iteration.

python launch/prepare_data.py --dataset=piano_midi --source=PATH
python launch/train.py --config=configs/piano_midi/avf1.py --workdir=runs/srnn

The paper reports 8.12 nats per step (Table 3), 8.14 once corrected for the steps it does not score,
after as many steps as it does not say.
"""

from afslvm.configs import paper_srnn


def get_config():
  return paper_srnn.music('piano_midi', 'avf1')
