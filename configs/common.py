"""Pieces that configs share. Every key can be overridden: --config.section.key=value."""

from ml_collections import ConfigDict

from afslvm.errors import ConfigError, nearest

MOVING_DIGITS = {
  'name': 'moving_digits',
  'frame_size': 16,
  'num_digits': 1,
  'num_frames': 20,
  'bounces': 'deterministic',
}


def experiment(
  *, data: dict, model: dict, optimizer: dict, train: dict, seed: int = 0
) -> ConfigDict:
  """A whole config; `data` gets the keys that every data set has."""
  data = {'data_dir': '', 'source': '', 'length': 13, 'dequantisation': 'gauss256', **data}
  optimizer = {
    'learning_rate': 1e-4,
    'schedule': 'constant',
    'warmup_steps': 0,
    'final_fraction': 0.0,
    'clip_norm': 1.0,
    'weight_decay': 0.0,
    'ema_decay': 0.0,
    **optimizer,
  }
  train = {
    'num_steps': 1000,
    'batch_size': 16,
    'log_every': 50,
    'eval_every': 0,
    'checkpoint_every': 0,
    'keep_checkpoints': 2,
    'validation_batches': 8,
    'max_skipped': 10,
    **train,
  }
  return ConfigDict(
    {'seed': seed, 'data': data, 'model': model, 'optimizer': optimizer, 'train': train}
  )


def standard_normal() -> dict:
  """The base of standalone flows."""
  return {'name': 'standard_normal'}


def temporal_flows(base: dict, conditioner: dict, flows: list[dict]) -> dict:
  """Temporal flows around `base`, nearest the data first, with one kind of conditioner."""
  for flow in reversed(flows):
    base = {'name': 'temporal_flow', **flow, 'conditioner': dict(conditioner), 'base': base}
  return base


def choose(argument: str, variants: dict, file: str):
  """The variant that 'FILE.py:ARGUMENT' names."""
  if argument not in variants:
    hint = nearest(argument, variants) or f'; it has {", ".join(sorted(variants))}'
    raise ConfigError(f'{file} has no variant {argument!r}{hint}')
  return variants[argument]
