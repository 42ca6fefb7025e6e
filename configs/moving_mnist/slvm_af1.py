"""SLVM + 1-AF on Moving MNIST, 64 x 64, at the paper's size: 10,572,484 parameters.

python launch/prepare_data.py --dataset=moving_mnist --source=mnist_test_seq.npy
python launch/train.py --config=configs/moving_mnist/slvm_af1.py --workdir=runs/mnist_slvm_af1

The paper reaches at most 1.86 nats/dim (`af_paper`) after 100,000 steps, on a GPU.
"""

from afslvm.configs import paper_slvm


def get_config(boundary: str = 'context'):
  return paper_slvm.get_config(
    num_flows=1,
    boundary=boundary,
    data={'name': 'moving_mnist', 'published': True},
    train={'num_steps': 100_000, 'batch_size': 16},
  )
