"""The two programs of a training run: the one that makes its first state, and the step."""

from typing import Any

import jax
from jax.sharding import Mesh

from afslvm.objectives.objective import make_loss
from afslvm.training import distributed, randomness
from afslvm.training.experiment import Batch, Experiment
from afslvm.training.gradients import make_gradient
from afslvm.training.optimizer import make_optimizer
from afslvm.training.state import TrainState, create_state
from afslvm.training.step import make_train_step
from afslvm.transforms import preprocessing


def first_state(experiment: Experiment, batch: Batch, mesh: Mesh) -> TrainState:
  """Parameters, statistics and moments before the first step, a copy on every device.

  Args:
    experiment: what is trained.
    batch: global arrays, from which data-dependent values are initialised.
    mesh: of all devices.
  """
  optimizer = make_optimizer(experiment.optimizer, experiment.train.num_steps)

  def create(batch):
    key = randomness.stream(experiment.seed, 'first batch')
    x = preprocessing.dequantise(key, batch['x'], experiment.dequantisation)
    use_ema = experiment.optimizer.ema_decay > 0
    rows = experiment.stream_rows
    return create_state(experiment.model, optimizer, x, experiment.seed, use_ema, rows)

  # This runs once: on CPU, optimising the draws of a hundred arrays takes far longer than drawing.
  on_cpu = jax.default_backend() == 'cpu'
  options = {'xla_backend_optimization_level': 0} if on_cpu else None
  whole = distributed.replicated(mesh)
  return jax.jit(create, out_shardings=whole, compiler_options=options)(batch)


def compiled_step(experiment: Experiment, mesh: Mesh, after_loops: bool = True) -> Any:
  """The jitted train step, `(state, batch) -> (state, metrics)`; the state given is used up.

  Args:
    experiment: what is trained.
    mesh: of all devices.
    after_loops: see `make_gradient`.
  """
  loss = make_loss(experiment.objective, experiment.model, experiment.dequantisation)
  settings = experiment.train
  gradient = make_gradient(loss, experiment.dequantisation, settings.accumulate, after_loops)
  optimizer = make_optimizer(experiment.optimizer, settings.num_steps)
  step = make_train_step(gradient, optimizer, experiment.seed, experiment.optimizer.ema_decay)
  whole, parts = distributed.replicated(mesh), distributed.sharded(mesh)
  return jax.jit(step, in_shardings=(whole, parts), out_shardings=(whole, whole), donate_argnums=0)
