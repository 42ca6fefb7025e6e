"""VideoFlow at its published size (Kumar et al. 2020, and the settings of its code).

Three levels of 24 steps of flow, priors by convolutions over space and time, Adam with β1 0.85,
β2 0.997 and ε 1e-6 at 3e-4 after a warm-up of 10,000 steps, gradients that are not clipped. What
differs: all frames of a crop of 13 are encoded at once and ten of them scored, where the code
encodes four to score one; frames are (v + u) / 256 with uniform u, where the code divides by 255;
initial values come from all frames of the first batch. The number of steps is not from the paper.
"""

from afslvm.configs import common

# The published `quant`, whose likelihood is reported, and `qual`, whose samples are shown.
GLOWS = {'quant': {}, 'qual': {'coupling': 'additive', 'width': 392}}


def get_config(data: dict, kind: str = 'quant'):
  model = common.videoflow(
    {**GLOWS[kind], 'remat': True}, {'log_scale_limit': 0.0}, {'name': 'conv3d'}
  )
  return common.experiment(
    data={'length': 13, 'dequantisation': 'uniform', **data},
    model=model,
    optimizer={
      'learning_rate': 3e-4,
      'warmup_steps': 10_000,
      'clip_norm': 0.0,
      'b1': 0.85,
      'b2': 0.997,
      'eps': 1e-6,
    },
    train={
      'num_steps': 600_000,
      'batch_size': 40,
      'log_every': 100,
      'eval_every': 5_000,
      'checkpoint_every': 1_000,
      'validation_batches': 16,
    },
  )
