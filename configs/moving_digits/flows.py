"""The temporal flows of the quickstart, by number of transforms.

Smaller than the paper's (16 channels instead of 64, at half resolution), with a sigmoid shift,
faster learning and a schedule, so that minutes on two cores are enough.
"""

from configs import common

CONDITIONER = {
  'name': 'conv',
  'window': 3,
  'channels': 16,
  'encoder_depth': 2,
  'decoder_depth': 3,
  'normalization': 'batch',
  'patch': 2,
  'initialization': 'lecun',
  'head_initialization': 'zeros',
}


def get_config(num_flows: int):
  bounds = {'boundary': 'context', 'log_scale_low': -7.0, 'log_scale_high': 2.0}
  on_data = {**bounds, 'shift_activation': 'sigmoid'}
  on_noise = {**bounds, 'shift_activation': 'linear'}
  model = common.temporal_flows(
    common.standard_normal(), CONDITIONER, [on_data] + [on_noise] * (num_flows - 1)
  )
  return common.experiment(
    data={'name': 'moving_digits', 'length': 3 * num_flows + 10},
    model=model,
    optimizer={
      'learning_rate': 3e-3,
      'schedule': 'cosine',
      'warmup_steps': 50,
    },
    train={
      'num_steps': 1500,
      'batch_size': 16,
      'log_every': 25,
      'eval_every': 250,
    },
  )
