"""SVG with a direct posterior, on KTH actions, 64 x 64 grey, SVG's persons, with reduced widths.

python launch/prepare_data.py --dataset=kth --options=persons=svg --source=KTH_VIDEOS
python launch/train.py --config=configs/kth_small/svg.py --workdir=runs/kth_svg

`configs/kth_small/svg.py:context` (or `:none`) has other skip connections.
"""

from afslvm.configs import small_svg


def get_config(skips: str = 'last'):
  return small_svg.get_config(small_svg.DIRECT, skips)
