"""The recipe for Piano-midi.de: SRNN whose notes depend on the lower ones (NADE).

python launch/train.py --config=configs/piano_midi/best.py --workdir=runs/piano_midi-best
"""

from afslvm.configs import common, small_srnn


def get_config():
  return small_srnn.get_config(
    'nade', common.MUSIC['piano_midi'], {'num_steps': 4000}, dropout=0.3, weight_decay=0.01
  )
