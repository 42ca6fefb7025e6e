"""2-AF on BAIR robot pushing, 64 x 64 x 3, at the paper's size: 677,004 parameters.

python launch/prepare_data.py --dataset=bair --source=bair_robot_pushing_dataset_v0.tar
python launch/train.py --config=configs/bair/af2.py --workdir=runs/bair_af2

The paper reaches 2.90 nats/dim (`af_paper`) after 200,000 steps, on a GPU.
"""

from afslvm.configs import common, paper_flows


def get_config(boundary: str = 'context'):
  return paper_flows.get_config(
    num_flows=2,
    boundary=boundary,
    data=common.BAIR,
    train={'num_steps': 200_000, 'batch_size': 8},
  )
