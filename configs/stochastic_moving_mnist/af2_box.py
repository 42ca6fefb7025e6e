"""2-AF box on stochastic moving MNIST, 32 x 32, from MNIST files.

The flow nearest the data is box-logistic: it fits levels and their uniform noise exactly.

DATA=stochastic_moving_mnist
python launch/prepare_data.py --dataset=$DATA --options=frame_size=32 --source=mnist.npz
python launch/train.py --config=configs/stochastic_moving_mnist/af2_box.py --workdir=runs/af2_box
python launch/evaluate.py --workdir=runs/af2_box --protocol=discrete
"""

from afslvm.configs import common, small_flows


def get_config():
  return small_flows.get_config(
    num_flows=2,
    data={**common.STOCHASTIC_MOVING_MNIST, 'frame_size': 32, 'dequantisation': 'uniform'},
    train={'num_steps': 800},
    transform='box_logistic',
  )
