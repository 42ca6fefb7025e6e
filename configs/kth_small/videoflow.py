"""VideoFlow, on KTH actions, 64 x 64 grey, SVG's persons.

python launch/prepare_data.py --dataset=kth --options=persons=svg --source=KTH_VIDEOS
python launch/train.py --config=configs/kth_small/videoflow.py --workdir=runs/videoflow
"""

from afslvm.configs import common, small_videoflow


def get_config():
  return small_videoflow.get_config(
    'videoflow',
    {**common.KTH, 'persons': 'svg'},
    {'num_steps': 1000, 'batch_size': 4, 'init_batches': 4},
    levels=4,
    remat=True,
  )
