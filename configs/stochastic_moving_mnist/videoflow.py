"""VideoFlow, on stochastic moving MNIST, 32 x 32.

DATA=stochastic_moving_mnist
python launch/prepare_data.py --dataset=$DATA --options=frame_size=32 --source=mnist.npz
python launch/train.py --config=configs/stochastic_moving_mnist/videoflow.py --workdir=runs/smm
"""

from afslvm.configs import common, small_videoflow


def get_config():
  return small_videoflow.get_config(
    'videoflow',
    {**common.STOCHASTIC_MOVING_MNIST, 'frame_size': 32},
    {'num_steps': 1500, 'batch_size': 8},
    levels=3,
  )
