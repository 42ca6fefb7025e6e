"""SVG for KTH actions on two cores, by inference procedure.

Against the AVF paper's: DCGAN's networks, narrower ones, a smaller latent variable, the gradient
of the bound itself, probabilities of levels that sum to one, fewer and shorter sequences per step,
a higher learning rate with warm-up and cosine decay, and a divergence whose weight rises over the
first three tenths of training. The decoder sees the maps of the last frame (`skips`), since it is
always the next one that is predicted.
"""

from afslvm.configs import common

WIDTHS = (8, 16, 32, 64)
DIRECT = {'hidden': 128, 'layers': 1}
AVF = {
  'name': 'iterative',
  'num_iterations': 1,
  'features': 256,
  'depth': 1,
  'second_order': False,  # which would double the cost of a step
}


def get_config(inference: dict, skips: str = 'last'):
  heads = {'log_scale_low': -7.5, 'log_scale_high': 2.5}
  model = common.svg(
    32,
    {
      'frame_encoder': {'name': 'dcgan', 'widths': WIDTHS, 'features': 64},
      'decoder': {'widths': WIDTHS[::-1]},
      'prior': {'features': 128, 'head_initialization': 'small'},
      'predictor': {'features': 128},
      'inference': {**inference, **heads},
      'likelihood': {
        'name': 'discretized_gaussian',
        'bins': 'levels',
        'mean_activation': 'sigmoid',
      },
    },
    skips=skips,
  )
  config = common.experiment(
    data={**common.KTH, 'persons': 'svg', 'length': 13, 'dequantisation': 'discretised'},
    model=model,
    objective={'first_scored': 1, 'kl_initial_weight': 0.01},
    optimizer={'learning_rate': 3e-3, 'schedule': 'cosine'},
    train={'num_steps': 600, 'batch_size': 8, 'log_every': 25, 'eval_every': 300},
  )
  num_steps = config.train.get_ref('num_steps')
  config.objective.kl_warmup_steps = num_steps * 3 // 10
  config.optimizer.warmup_steps = num_steps * 3 // 100
  return config
