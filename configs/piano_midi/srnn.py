"""SRNN with Bernoulli notes on Piano-midi.de.

python launch/train.py --config=configs/piano_midi/srnn.py --workdir=runs/piano_midi
"""

from afslvm.configs import common, small_srnn


def get_config():
  return small_srnn.get_config('bernoulli', common.MUSIC['piano_midi'], {'num_steps': 4000})
