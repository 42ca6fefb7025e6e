"""VideoFlow inside a box-logistic temporal flow, on stochastic moving MNIST, 32 x 32.

DATA=stochastic_moving_mnist
python launch/prepare_data.py --dataset=$DATA --options=frame_size=32 --source=mnist.npz
CONFIG=configs/stochastic_moving_mnist/videoflow_af1_box.py
python launch/train.py --config=$CONFIG --workdir=runs/smm
"""

from afslvm.configs import common, small_videoflow


def get_config():
  return small_videoflow.get_config(
    'videoflow_af1_box',
    {**common.STOCHASTIC_MOVING_MNIST, 'frame_size': 32},
    {'num_steps': 1500, 'batch_size': 8},
    levels=3,
  )
