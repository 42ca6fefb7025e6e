"""The AVF paper's SRNN on music at full size (Section 5.3, B.2 and its code), by row of Table 3.

As in the paper: LSTM of 300 units on raw x_{t-1}, 100 latent variables, one layer of 500 units in
prior and posterior and two in the decoder, clips of 25 steps of which the first one is given, 16 at
a time, a KL weight that rises with the square of time, and gradients of variational EM. Otherwise,
and the same for all rows: a rate of 1e-3 with warm-up and cosine decay instead of 1e-4, clipped
gradients, averaged parameters, rare notes from the start and a warm-up over the first quarter, so
that a thousand steps, which two cores can do, lead somewhere (the paper does not say how many it
took); one Adam that moves once per batch, where the paper's inference network moves after every
step of a sequence, as the rows `*_online` do at a rate of 3e-4; the prior's heads begin at ±0.001.
The given step has latent variables here too, drawn from a posterior that in variational EM nothing
trains.

The rows `*_recipe` are what makes AVF train well here, and what `Iterative` does by default: the
gated update of the paper's equations, no normalisation of the mean, and heads that begin at ±0.001,
so that the first posterior is near the prior; `direct_recipe` has such heads, too. With the update
of the paper's code, `learned_sgd` with normalised means and Xavier heads, the first posterior is a
hundred nats from it.
"""

from typing import NamedTuple

from afslvm.configs import common

BATCH, LENGTH = 16, 25
LAYERS = {'features': 500, 'activation': 'clipped_leaky_relu', 'initialization': 'xavier'}
LOG_SCALES = {'log_scale_low': -7.5, 'log_scale_high': 2.5}
LEARNED_SGD = {
  'update_rule': 'learned_sgd',
  'normalize_mean': True,
  'gradient_scale': 1 / BATCH,
  'head_initialization': '',
}
HIGHWAY = {'update_rule': 'highway', 'head_initialization': ''}
RECIPE = {
  'update_rule': 'highway',
  'normalize_mean': False,
  'gradient_scale': 1.0,
  'head_initialization': 'small',
}
DIRECT = {**LAYERS, **LOG_SCALES, 'depth': 1, 'layers': 0}
RESIDUAL = {**DIRECT, 'residual': True, 'head_initialization': 'small'}


class MusicSet(NamedTuple):
  """What differs by data set."""

  avf: dict  # as in the paper's code
  num_steps: int


SETS = {
  'jsb': MusicSet(LEARNED_SGD, 1000),
  'piano_midi': MusicSet(LEARNED_SGD, 1000),
  'muse_data': MusicSet(HIGHWAY, 1500),
  'nottingham': MusicSet(HIGHWAY, 1500),
}
# Row of the table -> inference (of the paper's update), and what else of the model differs from the
# paper; GRADIENTS are those of rows that `em` does not train.
ROWS = {
  'direct': (DIRECT, {}),
  'direct_bptt': (DIRECT, {}),
  'direct_residual': (RESIDUAL, {'posterior_sees_latent': True}),
  'avf1': ({'num_iterations': 1}, {}),
  'avf2': ({'num_iterations': 2}, {}),
  'avf5': ({'num_iterations': 5}, {}),
  'avf1_bptt': ({'num_iterations': 1}, {}),
  'avf1_observation': ({'num_iterations': 1, 'observation': True}, {}),
  'avf1_online': ({'num_iterations': 1}, {}),
  'direct_recipe': ({**DIRECT, 'head_initialization': 'small'}, {}),
  'avf1_recipe': ({**RECIPE, 'num_iterations': 1}, {}),
  'avf5_recipe': ({**RECIPE, 'num_iterations': 5}, {}),
  'avf1_recipe_observation': ({**RECIPE, 'num_iterations': 1, 'observation': True}, {}),
  'avf1_recipe_online': ({**RECIPE, 'num_iterations': 1}, {}),
  # Layer normalisation of the mean would undo what q begins with, so it is never on here; gates
  # that are mostly shut keep it at first.
  'avf1_from_residual': (
    {
      'num_iterations': 1,
      'start': RESIDUAL,
      'update_rule': 'highway',
      'normalize_mean': False,
      'gradient_scale': 1.0,
      'gate_bias': 3.0,
    },
    {'posterior_sees_latent': True},
  ),
}

ONLINE_RATE = 3e-4  # of 24 steps of Adam per batch
GRADIENTS = {
  'direct_bptt': 'bptt',
  'avf1_bptt': 'bptt',
  'avf1_online': 'em_online',
  'avf1_recipe_online': 'em_online',
}


def music(name: str, row: str):
  """A row of the table on one of the four data sets."""
  inference, changes = ROWS[row]
  if 'num_iterations' in inference:
    inference = {'name': 'iterative', **LOG_SCALES, **SETS[name].avf, **inference}
  parts = {
    'embedding': {'depth': 0},
    'recurrence': {'features': 300},
    'prior': {**LAYERS, **LOG_SCALES, 'depth': 1, 'head_initialization': 'small'},
    'decoder': {**LAYERS, 'depth': 2},
    'encoder': {'depth': 0},
    'inference': inference,
    'likelihood': {'name': 'bernoulli', 'initial_rate': 0.04, 'initialization': 'xavier'},
  }
  config = common.experiment(
    data={**common.MUSIC[name], 'length': LENGTH, 'dequantisation': 'none'},
    model=common.srnn(100, parts, **changes),
    objective={
      'gradients': GRADIENTS.get(row, 'em'),
      'first_scored': 1,
      'kl_initial_weight': 0.0,
      'kl_warmup_power': 2.0,
    },
    optimizer={
      'learning_rate': 1e-3,
      'schedule': 'cosine',
      'final_fraction': 0.01,
      'warmup_steps': 100,
      'clip_norm': 5.0,
      'ema_decay': 0.99,
    },
    train={
      'num_steps': SETS[name].num_steps,
      'batch_size': BATCH,
      'log_every': 100,
      'eval_every': 250,
      'validation_batches': 100,
    },
  )
  # It follows --config.train.num_steps.
  config.objective.kl_warmup_steps = config.train.get_ref('num_steps') // 4
  if config.objective.gradients == 'em_online':
    config.optimizer.inference_learning_rate = ONLINE_RATE
  return config
