"""The AVF paper's SRNN on music, at full size (B.2 and its code), by inference procedure."""

from configs import common

ACTIVATION = {'activation': 'clipped_leaky_relu', 'initialization': 'xavier'}
LAYERS = {'features': 500, **ACTIVATION}


def music(inference: str, num_iterations: int, data: dict, train: dict):
  parts = {
    'embedding': {'depth': 0},
    'recurrence': {'features': 300},
    'prior': {**LAYERS, 'depth': 1},
    'decoder': {**LAYERS, 'depth': 2},
    'encoder': {'depth': 0},
    'inference': {**LAYERS, 'depth': 1, 'layers': 0, 'log_scale_low': -7.5, 'log_scale_high': 2.5},
    'likelihood': {'name': 'bernoulli', 'initialization': 'xavier'},
  }
  if inference == 'avf':
    parts['inference'] = {
      'name': 'iterative',
      'num_iterations': num_iterations,
      'update': 'learned_sgd',
      'normalize_mean': True,
      'gradient_scale': 1 / 16,
    }
  model = common.srnn(100, parts, gradients='em', unroll=1)
  return common.experiment(
    data={'length': 25, 'dequantisation': 'none', **data},
    model=model,
    objective={'kl_initial_weight': 0.0, 'kl_warmup_steps': 750, 'kl_warmup_power': 2.0},
    optimizer={'learning_rate': 1e-4, 'clip_norm': 0.0},
    train={'batch_size': 16, **train},
  )
