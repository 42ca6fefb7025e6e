"""SLVM + 1-AF on KTH Actions, 64 x 64, at the paper's size: 10,572,484 parameters.

python launch/prepare_data.py --dataset=kth --source=KTH_VIDEOS
python launch/train.py --config=configs/kth/slvm_af1.py --workdir=runs/kth_slvm_af1

The paper reaches at most 2.39 nats/dim (`af_paper`) after 90,000 steps, on a GPU.
"""

from afslvm.configs import common, paper_slvm


def get_config(boundary: str = 'context'):
  return paper_slvm.get_config(
    num_flows=1,
    boundary=boundary,
    data=common.KTH,
    train={'num_steps': 90_000, 'batch_size': 8},
  )
