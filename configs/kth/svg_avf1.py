"""SVG on KTH Actions, 64 x 64, with AVF, one iteration, at the paper's size: 27,906,626 parameters.

python launch/prepare_data.py --dataset=kth --source=KTH_VIDEOS
python launch/train.py --config=configs/kth/svg_avf1.py --workdir=runs/kth_svg_avf1

The paper reports 11,714 nats per frame (Table 2), after as many steps as it does not say, on a GPU.
"""

from afslvm.configs import paper_svg


def get_config():
  return paper_svg.get_config(paper_svg.AVF, train={'num_steps': 1000 * paper_svg.EPOCH})
