"""VideoFlow of your own videos, 32 x 32 in colour.

python launch/prepare_data.py --dataset=video_folder --options=frame_size=32 --source=FOLDER
python launch/train.py --config=configs/video_folder/videoflow.py --workdir=runs/videoflow

`configs/video_folder/videoflow.py:NAME` is the same for videoflow_af (flows in its priors),
videoflow_af1 (a flow around it), glow_af1 and glow. For other sides change data.frame_size, here
and in --options, and model.glow.levels (model.base.glow.levels under a flow): 2 for 16 pixels, 4
for 64. Grey videos: data.color=grey, in both.
"""

from afslvm.configs import common, small_videoflow


def get_config(variant: str = 'videoflow'):
  common.choose(variant, small_videoflow.VARIANTS, 'configs/video_folder/videoflow.py')
  return small_videoflow.get_config(
    variant,
    {**common.VIDEO_FOLDER, 'frame_size': 32},
    {'num_steps': 1500, 'batch_size': 8},
    levels=3,
  )
