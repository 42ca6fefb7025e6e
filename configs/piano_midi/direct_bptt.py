"""Piano-midi.de: SRNN with direct inference, trained on the bound itself.

python launch/prepare_data.py --dataset=piano_midi --source=PATH
python launch/train.py --config=configs/piano_midi/direct_bptt.py --workdir=runs/srnn
"""

from afslvm.configs import paper_srnn


def get_config():
  return paper_srnn.music('piano_midi', 'direct_bptt')
