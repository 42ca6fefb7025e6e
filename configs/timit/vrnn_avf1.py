"""VRNN on TIMIT at the AVF paper's size, AVF, one iteration.

python launch/prepare_data.py --dataset=timit --source=TIMIT_DIRECTORY
python launch/train.py --config=configs/timit/vrnn_avf1.py --workdir=runs/timit_vrnn_avf1

The paper reports 1,105 nats per step (Table 1), after as many steps as it does not say, on a GPU.
"""

from afslvm.configs import paper_speech


def get_config():
  return paper_speech.vrnn(1)
