"""Temporal flows small enough for two cores, by number of transforms.

Against the paper's (Appendix B): 16 channels instead of 64 at half the resolution, a sigmoid shift
on the data (a linear one learns slowly where a constant background has a tiny scale), a learning
rate of 3e-3 with warm-up and cosine decay, crops of 16 frames whatever the number of flows.
"""

from afslvm.configs import common

LENGTH = 16
CONDITIONER = {'channels': 16, 'encoder_depth': 2, 'decoder_depth': 3, 'patch': 2}


def flows(num_flows: int, transform: str = 'affine') -> list[dict]:
  """From the data inwards: frames lie in [0, 1], what a flow passes on is centred at zero.

  `transform` is that of the flow nearest the data.
  """
  on_data = {'transform': transform, 'shift_activation': 'sigmoid', 'shift_offset': -3.0}
  on_noise = {'shift_activation': 'linear'}
  return ([on_data] + [on_noise] * (num_flows - 1))[:num_flows]


def get_config(num_flows: int, data: dict, train: dict, transform: str = 'affine'):
  on_data = flows(num_flows, transform)
  model = common.temporal_flows(common.standard_normal(), CONDITIONER, on_data)
  config = common.experiment(
    data={'length': LENGTH, **data},
    model=model,
    optimizer={'learning_rate': 3e-3, 'schedule': 'cosine'},
    train={'batch_size': 16, 'log_every': 25, 'eval_every': 250, **train},
  )
  config.optimizer.warmup_steps = config.train.get_ref('num_steps') * 3 // 100
  return config
