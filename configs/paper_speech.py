"""The AVF paper's VRNN and SRNN on TIMIT at full size (Section 5.2, B.1 and its code).

As in the paper: frames of 200 samples, standardised, crops of 40 of which the first is given, 64 at
a time, bins [x, x + w] with 1e-6 added to each probability, Adam with rate 1e-3 for direct
inference and 1e-4 for AVF, x 0.999 per epoch, and gradients of variational EM. Otherwise: one Adam
that moves once per batch, where the paper's inference network moves after every step of a sequence;
the prior's heads begin at ±0.001, without which AVF diverges (see `paper_srnn`); VRNN is shown its
first frame. Sizes agree with the paper's code up to one LSTM bias vector, which PyTorch has twice.
"""

from ml_collections import config_dict

from afslvm.configs import common

BATCH, LENGTH = 64, 40
EPOCH = 69  # steps: 4,389 sentences, one crop of each
NUM_STEPS = 300 * EPOCH
LOG_SCALES = {'log_scale_low': -7.5, 'log_scale_high': 2.5}
SMALL_HEADS = {**LOG_SCALES, 'head_initialization': 'small'}
BINS = {
  'name': 'discretized_gaussian',
  'bins': 'avf_paper',
  'log_scale_bound': 'clip',
  'initialization': 'xavier',
}
VRNN_LAYERS = {'activation': 'relu', 'initialization': 'xavier', 'depth': 4}
SRNN_LAYERS = {
  'activation': 'clipped_leaky_relu',
  'initialization': 'xavier',
  'depth': 2,
  'features': 512,
}


def vrnn(num_iterations: int = 0):
  """With so many inference iterations, 0 is direct inference."""
  hidden = {**VRNN_LAYERS, 'features': 500}
  inference = {**hidden, **LOG_SCALES, 'layers': 0}
  if num_iterations:
    inference = {
      'name': 'iterative',
      **LOG_SCALES,
      'num_iterations': num_iterations,
      'update_rule': 'learned_sgd',
      'normalize_mean': True,
      'gradient_scale': 1 / BATCH,
      'head_initialization': '',
    }
  parts = {
    'observation_network': {**VRNN_LAYERS, 'features': 600},
    'latent_network': hidden,
    'recurrence': {'features': 2000},
    'prior': {**hidden, **SMALL_HEADS},
    'decoder': {**VRNN_LAYERS, 'features': 600},
    'encoder': {'depth': 0},
    'inference': inference,
    'likelihood': {**BINS, 'log_scale_low': -10.0, 'log_scale_high': 2.5},
  }
  model = common.vrnn(200, parts)
  return _experiment(model, 1e-4 if num_iterations else 1e-3)


def srnn(num_iterations: int = 0):
  """With so many inference iterations, 0 is direct inference."""
  inference = {**SRNN_LAYERS, **LOG_SCALES, 'layers': 0}
  if num_iterations:
    inference = {
      'name': 'iterative',
      **LOG_SCALES,
      'num_iterations': num_iterations,
      'head_initialization': '',
    }
  parts = {
    'embedding': {'depth': 0},
    'recurrence': {'features': 1024},
    'prior': {**SRNN_LAYERS, **SMALL_HEADS},
    'decoder': SRNN_LAYERS,
    'encoder': {'depth': 0},
    'inference': inference,
    'likelihood': {**BINS, 'log_scale_low': -5.0, 'log_scale_high': 2.5},
  }
  model = common.srnn(256, parts)
  config = _experiment(model, 1e-4 if num_iterations else 1e-3)
  config.optimizer.clip_norm = 1000.0
  config.objective.kl_initial_weight = 0.0
  config.objective.kl_warmup_power = 2.0
  config.objective.kl_warmup_steps = (50 if num_iterations else 20) * EPOCH
  return config


def _experiment(model: dict, learning_rate: float):
  config = common.experiment(
    data={**common.TIMIT, 'length': LENGTH, 'dequantisation': 'none'},
    model=model,
    objective={'first_scored': 1, 'gradients': 'em'},
    optimizer={'learning_rate': learning_rate, 'schedule': 'exponential', 'clip_norm': 0.0},
    train={
      'num_steps': NUM_STEPS,
      'batch_size': BATCH,
      'log_every': 100,
      'eval_every': 10 * EPOCH,
      'validation_batches': 100,
    },
  )
  epochs = config.train.get_ref('num_steps') / EPOCH
  config.optimizer.final_fraction = config_dict.FieldReference(0.999) ** epochs
  return config
