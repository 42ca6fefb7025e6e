"""2-AF on Moving MNIST, 64 x 64, at the paper's size: 670,084 parameters.

python launch/prepare_data.py --dataset=moving_mnist --source=mnist_test_seq.npy
python launch/train.py --config=configs/moving_mnist/af2.py --workdir=runs/moving_mnist_af2

`configs/moving_mnist/af2.py:learned` gives a density of all frames and the 686,468 parameters of
Table 3. The paper reaches 2.13 nats/dim (`af_paper`) after 100,000 steps, on a GPU; it states batch
16, its code uses 8.
"""

from afslvm.configs import paper_flows


def get_config(boundary: str = 'context'):
  return paper_flows.get_config(
    num_flows=2,
    boundary=boundary,
    data={'name': 'moving_mnist', 'published': True},
    train={'num_steps': 100_000, 'batch_size': 8},
  )
