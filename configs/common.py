"""Pieces that configs share. Every key can be overridden: --config.section.key=value."""

from ml_collections import ConfigDict

from afslvm.errors import ConfigError, nearest

# Every option stands here with its default, because only keys that a config has can be overridden.
# A test holds these tables to the fields of the classes they describe.
CONV = {
  'name': 'conv',
  'window': 3,
  'channels': 64,
  'encoder_depth': 4,
  'decoder_depth': 4,
  'normalization': 'batch',
  'patch': 1,
  'initialization': 'lecun',
  'head_initialization': 'zeros',
  'compute_dtype': 'float32',
}
DENSE = {
  'name': 'dense',
  'window': 3,
  'features': 64,
  'depth': 2,
  'constant_scale': False,
  'head_initialization': 'zeros',
}
FLOW = {
  'boundary': 'context',
  'shift_activation': 'linear',
  'shift_offset': -3.0,
  'log_scale_bound': 'smooth',
  'log_scale_low': -7.0,
  'log_scale_high': 2.0,
}
OPTIMIZER = {
  'learning_rate': 1e-4,
  'schedule': 'constant',
  'warmup_steps': 0,
  'final_fraction': 0.0,
  'clip_norm': 1.0,
  'weight_decay': 0.0,
  'b1': 0.9,
  'b2': 0.999,
  'ema_decay': 0.0,
}
TRAIN = {
  'num_steps': 1000,
  'batch_size': 16,
  'log_every': 50,
  'eval_every': 0,
  'checkpoint_every': 0,
  'keep_checkpoints': 2,
  'validation_batches': 8,
  'max_skipped': 10,
}
DATA = {'data_dir': '', 'source': '', 'length': 13, 'dequantisation': 'gauss256'}
MOVING_DIGITS = {
  'name': 'moving_digits',
  'frame_size': 16,
  'num_digits': 1,
  'num_frames': 20,
  'bounces': 'deterministic',
  'speed': 0.15,
  'num_train': 4000,
  'num_validation': 256,
  'num_test': 512,
  'seed': 0,
}
STOCHASTIC_MOVING_MNIST = {
  'name': 'stochastic_moving_mnist',
  'frame_size': 64,
  'num_digits': 2,
  'num_frames': 20,
  'num_train': 8000,
  'num_validation': 500,
  'num_test': 1000,
  'seed': 0,
}


def experiment(
  *, data: dict, model: dict, optimizer: dict, train: dict, seed: int = 0
) -> ConfigDict:
  """A whole config; what isn't given has the defaults above."""
  return ConfigDict(
    {
      'seed': seed,
      'data': {**DATA, **data},
      'model': model,
      'optimizer': {**OPTIMIZER, **optimizer},
      'train': {**TRAIN, **train},
    }
  )


def standard_normal() -> dict:
  """The base of standalone flows."""
  return {'name': 'standard_normal'}


def temporal_flows(base: dict, conditioner: dict, flows: list[dict]) -> dict:
  """Temporal flows around `base`, nearest the data first, with one `CONV` or `DENSE` network."""
  defaults = DENSE if conditioner.get('name') == 'dense' else CONV
  for flow in reversed(flows):
    own = {**FLOW, **flow, 'conditioner': {**defaults, **conditioner}}
    base = {'name': 'temporal_flow', **own, 'base': base}
  return base


def choose(argument: str, variants: dict, file: str):
  """The variant that 'FILE.py:ARGUMENT' names."""
  if argument not in variants:
    hint = nearest(argument, variants) or f'; it has {", ".join(sorted(variants))}'
    raise ConfigError(f'{file} has no variant {argument!r}{hint}')
  return variants[argument]
