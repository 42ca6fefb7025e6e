"""Piano-midi.de: SRNN with direct inference that gives the difference to the prior (RES_q).

python launch/prepare_data.py --dataset=piano_midi --source=PATH
python launch/train.py --config=configs/piano_midi/direct_residual.py --workdir=runs/srnn
"""

from afslvm.configs import paper_srnn


def get_config():
  return paper_srnn.music('piano_midi', 'direct_residual')
