"""What a config's `optimizer` and `train` sections may say, with defaults."""

import dataclasses
from typing import ClassVar

from afslvm import fast_cpu
from afslvm.errors import ConfigError

SCHEDULES = ('constant', 'cosine', 'exponential')


@dataclasses.dataclass(frozen=True)
class OptimizerSettings:
  """Adam through optax.

  Attributes:
    learning_rate: peak rate.
    inference_learning_rate: peak rate of the inference's parameters, which then have an optimiser
      of their own, after the common clipping; 0 is one optimiser for all.
    schedule: `constant`, or `cosine` or `exponential` decay to `final_fraction` of the peak at the
      last step.
    warmup_steps: linear warm-up from zero.
    final_fraction: see `schedule`.
    clip_norm: global gradient norm above which gradients are scaled down; 0 is no clipping. The
      loss is in nats per step (frame), as in the papers' code.
    weight_decay: decoupled (AdamW), of the kernels of linear layers and convolutions only.
    b1: Adam's first decay.
    b2: Adam's second decay.
    eps: is added to the root of Adam's second moment.
    ema_decay: exponential moving average of the parameters, which is then evaluated; 0 is none.
  """

  learning_rate: float = 1e-4
  inference_learning_rate: float = 0.0
  schedule: str = 'constant'
  warmup_steps: int = 0
  final_fraction: float = 0.0
  clip_norm: float = 1.0
  weight_decay: float = 0.0
  b1: float = 0.9
  b2: float = 0.999
  eps: float = 1e-8
  ema_decay: float = 0.0

  choices: ClassVar = {'schedule': SCHEDULES}
  limits: ClassVar = {
    'learning_rate': (0.0, None),
    'inference_learning_rate': (0.0, None),
    'warmup_steps': (0, None),
    'final_fraction': (0.0, 1.0),
    'clip_norm': (0.0, None),
    'weight_decay': (0.0, None),
    'b1': (0.0, 1.0),
    'b2': (0.0, 1.0),
    'eps': (0.0, None),
    'ema_decay': (0.0, 0.999999),
  }


@dataclasses.dataclass(frozen=True)
class TrainSettings:
  """Budgets in optimiser steps, never epochs.

  Attributes:
    num_steps: batches consumed in all, the skipped ones included.
    batch_size: global, over all devices and processes.
    log_every: steps between lines of `metrics.jsonl`.
    eval_every: steps between validations, each of which also saves; 0 validates at the end only.
    checkpoint_every: steps between saves; 0 saves at validations and at the end only.
    keep_checkpoints: newest checkpoints kept, beside the best by validation.
    validation_batches: batches of the validation split that are scored.
    max_skipped: non-finite steps in a row after which the run stops.
    init_batches: batches, put together, from which data-dependent initial values are computed.
    accumulate: parts of each batch that go through the model one after another, for less memory;
      the step is that of the whole batch, but for batch statistics and dropout, which are by part.
    convolutions: how training computes them: `products` in the forms that are fast on CPU, `plain`
      by the backend's own operators, `auto` as products on CPU only. The sums are the same.
  """

  num_steps: int = 1000
  batch_size: int = 16
  log_every: int = 50
  eval_every: int = 0
  checkpoint_every: int = 0
  keep_checkpoints: int = 2
  validation_batches: int = 8
  max_skipped: int = 10
  init_batches: int = 1
  accumulate: int = 1
  convolutions: str = 'auto'

  choices: ClassVar = {'convolutions': fast_cpu.CHOICES}
  limits: ClassVar = {
    'num_steps': (1, None),
    'batch_size': (1, None),
    'log_every': (1, None),
    'eval_every': (0, None),
    'checkpoint_every': (0, None),
    'keep_checkpoints': (2, None),
    'validation_batches': (1, None),
    'max_skipped': (1, None),
    'init_batches': (1, None),
    'accumulate': (1, None),
  }

  def check(self, stateful: bool):
    """Raises ConfigError for a batch that can't be gone through in parts."""
    if self.batch_size % self.accumulate:
      raise ConfigError(
        f'train.accumulate={self.accumulate} does not divide train.batch_size={self.batch_size}; '
        'use a divisor'
      )
    if stateful and self.accumulate > 1:
      raise ConfigError(
        f'train.accumulate={self.accumulate} needs data.stateful=False: rows of a stream go on '
        'from batch to batch; use 1'
      )
