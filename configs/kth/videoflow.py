"""VideoFlow on KTH Actions, 64 x 64, at the published size.

python launch/prepare_data.py --dataset=kth --source=KTH_VIDEOS
python launch/train.py --config=configs/kth/videoflow.py --workdir=runs/kth_videoflow
"""

from afslvm.configs import common, paper_videoflow


def get_config():
  return paper_videoflow.get_config(common.KTH)
