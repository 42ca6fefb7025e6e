"""VRNN and SRNN for speech on two cores, direct or AVF, trained on the bound itself.

Against the paper's (`paper_speech`): narrower, every step scored, probabilities of the bins around
the samples, a higher rate with warm-up and cosine decay, a KL weight that rises over the first
eighth of training, small heads, which keep the chain of latent variables quiet at first, and
averaged parameters. Direct inference gives the difference to the prior (RES_q); AVF also sees the
observation, as the paper found necessary for speech.
"""

from afslvm.configs import common

LAYERS = {'features': 256, 'activation': 'relu'}
HEADS = {'log_scale_low': -7.5, 'log_scale_high': 2.5, 'head_initialization': 'small'}
DIRECT = {**LAYERS, **HEADS, 'depth': 2, 'layers': 0, 'residual': True}
AVF = {
  'name': 'iterative',
  'num_iterations': 1,
  'observation': True,
  'features': 256,
  'depth': 2,
  'gate_bias': 1.0,
}
LIKELIHOOD = {'name': 'discretized_gaussian', 'log_scale_low': -8.0, 'log_scale_high': 2.5}


def vrnn(inference: dict, data: dict, train: dict):
  parts = {
    'observation_network': {**LAYERS, 'depth': 2},
    'latent_network': {**LAYERS, 'depth': 1},
    'recurrence': {'features': 256},
    'prior': {**LAYERS, **HEADS, 'depth': 2},
    'decoder': {**LAYERS, 'depth': 2},
    'encoder': {'depth': 0},
    'inference': inference,
    'likelihood': LIKELIHOOD,
  }
  return _experiment(common.vrnn(32, parts), data, train)


def srnn(inference: dict, data: dict, train: dict):
  parts = {
    'embedding': {**LAYERS, 'depth': 2},
    'recurrence': {'features': 256},
    'prior': {**LAYERS, **HEADS, 'depth': 2},
    'decoder': {**LAYERS, 'depth': 2},
    'encoder': {'depth': 0},
    'inference': inference,
    'likelihood': LIKELIHOOD,
  }
  return _experiment(common.srnn(32, parts, posterior_sees_latent=True), data, train)


def _experiment(model: dict, data: dict, train: dict):
  config = common.experiment(
    data={'length': 24, 'min_length': 8, 'dequantisation': 'none', **data},
    model=model,
    objective={'kl_initial_weight': 0.1},
    optimizer={
      'learning_rate': 1e-3,
      'schedule': 'cosine',
      'final_fraction': 0.01,
      'clip_norm': 200.0,  # of a loss of hundreds of nats per step
      'ema_decay': 0.995,
    },
    train={
      'batch_size': 32,
      'log_every': 100,
      'eval_every': 500,
      'validation_batches': 100,
      **train,
    },
  )
  config.objective.kl_warmup_steps = config.train.get_ref('num_steps') // 8
  config.optimizer.warmup_steps = 100
  return config
