"""SVG on KTH Actions, 64 x 64, with the AVF paper's baseline posterior: 20,170,818 parameters.

python launch/prepare_data.py --dataset=kth --source=KTH_VIDEOS
python launch/train.py --config=configs/kth/svg.py --workdir=runs/kth_svg

The paper reports 15,097 nats per frame (Table 2), after as many steps as it does not say, on a GPU.
"""

from afslvm.configs import paper_svg


def get_config():
  return paper_svg.get_config(paper_svg.DIRECT, train={'num_steps': 1000 * paper_svg.EPOCH})
