"""SLVM on Moving MNIST, 64 x 64, at the paper's size: 11,289,090 parameters.

python launch/prepare_data.py --dataset=moving_mnist --source=mnist_test_seq.npy
python launch/train.py --config=configs/moving_mnist/slvm.py --workdir=runs/mnist_slvm

The paper reaches at most 1.92 nats/dim (`af_paper`) after 200,000 steps, on a GPU.
"""

from afslvm.configs import paper_slvm


def get_config():
  return paper_slvm.get_config(
    num_flows=0,
    boundary='context',
    data={'name': 'moving_mnist', 'published': True},
    train={'num_steps': 200_000, 'batch_size': 16},
  )
