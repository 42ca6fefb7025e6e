"""Piano-midi.de: SRNN with direct inference, variational EM: the AVF paper’s baseline.

python launch/prepare_data.py --dataset=piano_midi --source=PATH
python launch/train.py --config=configs/piano_midi/direct.py --workdir=runs/srnn

The paper reports 8.19 nats per step (Table 3), 8.21 once corrected for the steps it does not score,
after as many steps as it does not say.
"""

from afslvm.configs import paper_srnn


def get_config():
  return paper_srnn.music('piano_midi', 'direct')
