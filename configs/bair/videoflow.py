"""VideoFlow on BAIR robot pushing, 64 x 64 x 3: 67,374,722 parameters.

python launch/prepare_data.py --dataset=bair --source=bair_robot_pushing_dataset_v0.tar
python launch/train.py --config=configs/bair/videoflow.py --workdir=runs/bair_videoflow

The paper reaches 1.87 bits/dim for 10 frames given 3 (`discrete`), on GPUs; never measured here.
"""

from afslvm.configs import common, paper_videoflow


def get_config():
  return paper_videoflow.get_config(common.BAIR)
