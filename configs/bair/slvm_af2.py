"""SLVM + 2-AF on BAIR robot pushing, 64 x 64 x 3, at the paper's size: 10,920,594 parameters.

python launch/prepare_data.py --dataset=bair --source=bair_robot_pushing_dataset_v0.tar
python launch/train.py --config=configs/bair/slvm_af2.py --workdir=runs/bair_slvm_af2

The paper shows this model on Moving MNIST only (Figure 7), without a number.
"""

from afslvm.configs import common, paper_slvm


def get_config(boundary: str = 'context'):
  return paper_slvm.get_config(
    num_flows=2,
    boundary=boundary,
    data=common.BAIR,
    train={'num_steps': 200_000, 'batch_size': 8},
  )
