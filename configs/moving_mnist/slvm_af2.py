"""SLVM + 2-AF on Moving MNIST, 64 x 64, at the paper's size: 10,907,526 parameters.

python launch/prepare_data.py --dataset=moving_mnist --source=mnist_test_seq.npy
python launch/train.py --config=configs/moving_mnist/slvm_af2.py --workdir=runs/mnist_slvm_af2

The paper shows this model on Moving MNIST only (Figure 7), without a number.
Its code uses batch 4, the paper states 16.
"""

from afslvm.configs import paper_slvm


def get_config(boundary: str = 'context'):
  return paper_slvm.get_config(
    num_flows=2,
    boundary=boundary,
    data={'name': 'moving_mnist', 'published': True},
    train={'num_steps': 100_000, 'batch_size': 4},
  )
