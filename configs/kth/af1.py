"""1-AF on KTH Actions, 64 x 64, at the paper's size: 335,042 parameters.

python launch/prepare_data.py --dataset=kth --source=KTH_VIDEOS
python launch/train.py --config=configs/kth/af1.py --workdir=runs/kth_af1

The paper reaches 3.34 nats/dim (`af_paper`) after 90,000 steps, on a GPU.
"""

from afslvm.configs import common, paper_flows


def get_config(boundary: str = 'context'):
  return paper_flows.get_config(
    num_flows=1,
    boundary=boundary,
    data=common.KTH,
    train={'num_steps': 90_000, 'batch_size': 8},
  )
