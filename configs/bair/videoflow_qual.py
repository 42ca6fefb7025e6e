"""VideoFlow with additive couplings, whose samples the paper shows, on BAIR robot pushing.

python launch/prepare_data.py --dataset=bair --source=bair_robot_pushing_dataset_v0.tar
python launch/train.py --config=configs/bair/videoflow_qual.py --workdir=runs/bair_videoflow_qual

Draw with --temperature=0.5, as the paper does.
"""

from afslvm.configs import common, paper_videoflow


def get_config():
  return paper_videoflow.get_config(common.BAIR, kind='qual')
