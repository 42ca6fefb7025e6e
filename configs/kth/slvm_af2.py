"""SLVM + 2-AF on KTH Actions, 64 x 64, at the paper's size: 10,907,526 parameters.

python launch/prepare_data.py --dataset=kth --source=KTH_VIDEOS
python launch/train.py --config=configs/kth/slvm_af2.py --workdir=runs/kth_slvm_af2

The paper shows this model on Moving MNIST only (Figure 7), without a number.
"""

from afslvm.configs import common, paper_slvm


def get_config(boundary: str = 'context'):
  return paper_slvm.get_config(
    num_flows=2,
    boundary=boundary,
    data=common.KTH,
    train={'num_steps': 90_000, 'batch_size': 8},
  )
