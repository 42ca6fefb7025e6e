"""SLVM on KTH Actions, 64 x 64, at the paper's size: 11,289,090 parameters.

python launch/prepare_data.py --dataset=kth --source=KTH_VIDEOS
python launch/train.py --config=configs/kth/slvm.py --workdir=runs/kth_slvm

The paper reaches at most 4.63 nats/dim (`af_paper`) after 90,000 steps, on a GPU.
"""

from afslvm.configs import common, paper_slvm


def get_config():
  return paper_slvm.get_config(
    num_flows=0,
    boundary='context',
    data=common.KTH,
    train={'num_steps': 90_000, 'batch_size': 8},
  )
