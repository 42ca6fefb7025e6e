"""VideoFlow on Moving MNIST, 64 x 64, at the published size.

python launch/prepare_data.py --dataset=moving_mnist --source=mnist_test_seq.npy
python launch/train.py --config=configs/moving_mnist/videoflow.py --workdir=runs/videoflow
"""

from afslvm.configs import paper_videoflow


def get_config():
  return paper_videoflow.get_config({'name': 'moving_mnist', 'published': True})
