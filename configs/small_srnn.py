"""SRNN for music on two cores, trained on the bound itself.

Against the AVF paper's (`paper_srnn`): the posterior gives the difference to the prior's mean and
sees z_{t-1}; heads that begin at ±0.001, without which the chain of latent variables runs away;
every step is scored; clips are transposed by up to six semitones; a rate of 2e-3 with warm-up and
cosine decay; averaged parameters; notes that are rare from the start. `nade` lets each note of a
chord depend on the lower ones, and leaves little for the latent variables to tell.
"""

from afslvm.configs import common

LAYERS = {'features': 500, 'activation': 'clipped_leaky_relu'}
HEADS = {'log_scale_low': -7.5, 'log_scale_high': 2.5, 'head_initialization': 'small'}
RATE = {'initial_rate': 0.04}
LIKELIHOODS = {
  'bernoulli': {'name': 'bernoulli', **RATE},
  'nade': {'name': 'nade', 'hidden': 100, **RATE},
}


def get_config(
  likelihood: str, data: dict, train: dict, dropout: float = 0.0, weight_decay: float = 0.0
):
  layers = {**LAYERS, 'dropout': dropout}
  parts = {
    'embedding': {'depth': 0},
    'recurrence': {'features': 300},
    'prior': {**layers, **HEADS, 'depth': 1},
    'decoder': {**layers, 'depth': 2},
    'encoder': {'depth': 0},
    'inference': {**LAYERS, **HEADS, 'depth': 1, 'layers': 0, 'residual': True},
    'likelihood': LIKELIHOODS[likelihood],
  }
  config = common.experiment(
    data={'length': 25, 'dequantisation': 'none', 'transpose': 6, **data},
    model=common.srnn(100, parts, posterior_sees_latent=True, dropout=dropout),
    objective={'kl_initial_weight': 0.0},
    optimizer={
      'learning_rate': 2e-3,
      'schedule': 'cosine',
      'final_fraction': 0.01,
      'warmup_steps': 100,
      'clip_norm': 5.0,
      'weight_decay': weight_decay,
      'ema_decay': 0.995,
    },
    train={
      'batch_size': 16,
      'log_every': 100,
      'eval_every': 500,
      'validation_batches': 100,
      **train,
    },
  )
  # It follows --config.train.num_steps.
  config.objective.kl_warmup_steps = config.train.get_ref('num_steps') // 8
  return config
