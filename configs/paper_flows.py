"""The AF paper's temporal flows at full size (Appendix B), by number of transforms.

Optimiser of the paper and its code: Adam 1e-4, gradient norm clipped at 1, crops of 13 and 16
frames. Deviations: batch statistics are pooled over the frames of a sequence, not taken per time
step; frames are encoded once, not once per window slot.
"""

from afslvm.configs import common

CONDITIONER = {
  'channels': 64,
  'encoder_depth': 4,
  'decoder_depth': 4,
  'initialization': 'pytorch',
  'head_initialization': 'pytorch',
}


def get_config(num_flows: int, boundary: str, data: dict, train: dict):
  flow = {'boundary': boundary, 'shift_activation': 'linear', 'log_scale_bound': 'paper'}
  model = common.temporal_flows(common.standard_normal(), CONDITIONER, [flow] * num_flows)
  return common.experiment(
    data={'length': 3 * num_flows + 10, **data},
    model=model,
    optimizer={'learning_rate': 1e-4, 'clip_norm': 1.0},
    train={
      'log_every': 100,
      'eval_every': 5_000,
      'checkpoint_every': 1_000,
      'validation_batches': 32,
      **train,
    },
  )
