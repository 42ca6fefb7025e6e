"""2-AF on Moving MNIST, 64 x 64, at the paper's size: 670,084 parameters.

python launch/train.py --config=configs/moving_mnist/af2.py --workdir=runs/moving_mnist_af2

`configs/moving_mnist/af2.py:learned` gives a density of all frames and the 686,468 parameters of
Table 3. Expected in the paper: 2.13 nats/dim (`af_paper`), on a GPU.
"""

from configs.moving_mnist import flows


def get_config(boundary: str = 'context'):
  return flows.get_config(num_flows=2, boundary=boundary)
