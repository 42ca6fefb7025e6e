"""Temporal flows small enough for two cores, by number of transforms.

Against the paper's (Appendix B): 16 channels instead of 64 at half the resolution, a sigmoid shift
on the data (a linear one learns slowly where a constant background has a tiny scale), a learning
rate of 3e-3 with warm-up and cosine decay.
"""

from configs import common

CONDITIONER = {'channels': 16, 'encoder_depth': 2, 'decoder_depth': 3, 'patch': 2}


def flows(num_flows: int) -> list[dict]:
  """From the data inwards: frames lie in [0, 1], what a flow passes on is centred at zero."""
  on_data = {'shift_activation': 'sigmoid', 'shift_offset': -3.0}
  on_noise = {'shift_activation': 'linear'}
  return ([on_data] + [on_noise] * (num_flows - 1))[:num_flows]


def get_config(num_flows: int, data: dict, train: dict):
  model = common.temporal_flows(common.standard_normal(), CONDITIONER, flows(num_flows))
  return common.experiment(
    data={'length': 3 * num_flows + 10, **data},
    model=model,
    optimizer={'learning_rate': 3e-3, 'schedule': 'cosine', 'warmup_steps': 50},
    train={'batch_size': 16, 'log_every': 25, 'eval_every': 250, **train},
  )
