"""SLVM on KTH actions, 64 x 64 grey, SVG's persons, with reduced widths.

python launch/prepare_data.py --dataset=kth --options=persons=svg --source=KTH_VIDEOS
python launch/train.py --config=configs/kth_small/slvm.py --workdir=runs/kth_slvm
"""

from afslvm.configs import small_kth


def get_config():
  return small_kth.get_config(num_flows=0, latent=True)
