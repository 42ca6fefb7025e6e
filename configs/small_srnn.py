"""SRNN for music on two cores; what is not the paper's is in `get_config`'s defaults."""

from configs import common

LAYERS = {'features': 500, 'activation': 'clipped_leaky_relu'}


def get_config(data: dict, train: dict, inference: dict | None = None, **changes):
  dropout = changes.get('dropout', 0.0)
  layers = {**LAYERS, 'dropout': dropout}
  direct = {
    **layers,
    'depth': 1,
    'layers': 0,
    'residual': True,
    'log_scale_low': -7.5,
    'log_scale_high': 2.5,
    'head_initialization': 'small',
  }
  parts = {
    'embedding': {'depth': 0},
    'recurrence': {'features': 300},
    'prior': {**layers, 'depth': 1, 'head_initialization': 'small'},
    'decoder': {**layers, 'depth': 2},
    'encoder': {'depth': 0},
    'inference': inference or direct,
    'likelihood': {'name': 'bernoulli', 'initial_rate': 0.04},
  }
  model = common.srnn(
    100, parts, posterior_sees_latent=True, dropout=dropout, unroll=changes.get('unroll', 4)
  )
  config = common.experiment(
    data={'length': 25, 'dequantisation': 'none', 'transpose': 6, **data},
    model=model,
    objective={'kl_initial_weight': 0.0},
    optimizer={
      'learning_rate': 2e-3,
      'schedule': 'cosine',
      'final_fraction': 0.01,
      'clip_norm': 5.0,
      'ema_decay': 0.995,
      'weight_decay': changes.get('weight_decay', 0.0),
    },
    train={
      'batch_size': 16,
      'log_every': 100,
      'eval_every': 500,
      'validation_batches': 100,
      **train,
    },
  )
  num_steps = config.train.get_ref('num_steps')
  config.objective.kl_warmup_steps = num_steps // 8
  config.optimizer.warmup_steps = 100
  return config
