"""1-AF on Moving MNIST, 64 x 64, at the paper's size: 335,042 parameters.

python launch/prepare_data.py --dataset=moving_mnist --source=mnist_test_seq.npy
python launch/train.py --config=configs/moving_mnist/af1.py --workdir=runs/moving_mnist_af1

`configs/moving_mnist/af1.py:learned` gives a density of all frames and the 343,234 parameters of
Table 3. The paper reaches 2.15 nats/dim (`af_paper`) after 100,000 steps, on a GPU.
"""

from afslvm.configs import paper_flows


def get_config(boundary: str = 'context'):
  return paper_flows.get_config(
    num_flows=1,
    boundary=boundary,
    data={'name': 'moving_mnist', 'published': True},
    train={'num_steps': 100_000, 'batch_size': 16},
  )
