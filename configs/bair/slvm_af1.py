"""SLVM + 1-AF on BAIR robot pushing, 64 x 64 x 3, at the paper's size: 10,582,092 parameters.

python launch/prepare_data.py --dataset=bair --source=bair_robot_pushing_dataset_v0.tar
python launch/train.py --config=configs/bair/slvm_af1.py --workdir=runs/bair_slvm_af1

The paper reaches at most 2.35 nats/dim (`af_paper`) after 200,000 steps, on a GPU.
"""

from afslvm.configs import common, paper_slvm


def get_config(boundary: str = 'context'):
  return paper_slvm.get_config(
    num_flows=1,
    boundary=boundary,
    data=common.BAIR,
    train={'num_steps': 200_000, 'batch_size': 8},
  )
