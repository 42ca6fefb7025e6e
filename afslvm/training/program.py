"""The two jitted programs of a training run: its first state, and the step."""

import contextlib
import ctypes
import os
import sys
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from afslvm import fast_cpu
from afslvm.objectives.objective import make_loss
from afslvm.training import distributed, randomness
from afslvm.training.experiment import Batch, Experiment
from afslvm.training.gradients import make_gradient
from afslvm.training.optimizer import make_optimizers
from afslvm.training.state import TrainState, create_state
from afslvm.training.step import make_train_step
from afslvm.transforms import preprocessing


def initial_batch(experiment: Experiment, mesh: Mesh) -> Batch:
  """Returns the first batches of training, put together, as global arrays.

  Args:
    experiment: what is trained; `train.init_batches` says how many.
    mesh: of all devices.
  """
  batches = experiment.training_batches()
  first = [next(batches) for _ in range(experiment.train.init_batches)]
  rows = {name: np.concatenate([batch[name] for batch in first]) for name in ('x', 'mask')}
  return distributed.to_devices(rows, mesh)


def first_state(experiment: Experiment, batch: Batch, mesh: Mesh) -> TrainState:
  """Parameters, statistics and moments before the first step, a copy on every device.

  Args:
    experiment: what is trained.
    batch: global arrays, from which data-dependent values are initialised.
    mesh: of all devices.
  """
  optimizer, online = make_optimizers(
    experiment.optimizer, experiment.train.num_steps, experiment.objective.is_online
  )

  def create(batch):
    key = randomness.stream(experiment.seed, 'first batch')
    x = preprocessing.dequantise(key, batch['x'], experiment.dequantisation)
    use_ema = experiment.optimizer.ema_decay > 0
    rows = experiment.stream_rows
    return create_state(
      experiment.model, optimizer, x, experiment.seed, use_ema, rows, online, batch['mask']
    )

  # This runs once: on CPU, optimising the draws of a hundred arrays takes far longer than drawing.
  on_cpu = jax.default_backend() == 'cpu'
  options = {'xla_backend_optimization_level': 0} if on_cpu else None
  whole = distributed.replicated(mesh)
  return jax.jit(create, out_shardings=whole, compiler_options=options)(batch)


def compiled_step(experiment: Experiment, mesh: Mesh) -> Any:
  """The jitted train step, `(state, batch) -> (state, metrics)`; the state given is used up.

  Args:
    experiment: what is trained.
    mesh: of all devices.
  """
  optimizer, online = make_optimizers(
    experiment.optimizer, experiment.train.num_steps, experiment.objective.is_online
  )
  model = experiment.model
  loss = make_loss(experiment.objective, model, experiment.dequantisation, online)
  settings = experiment.train
  gradient = make_gradient(loss, experiment.dequantisation, settings.accumulate)
  ema_decay = experiment.optimizer.ema_decay
  step = make_train_step(model, gradient, optimizer, experiment.seed, ema_decay)
  step = fast_cpu.choose(settings.convolutions)(step)  # it is traced later
  if jax.default_backend() == 'cpu':
    _keep_freed_memory()
  whole, parts = distributed.replicated(mesh), distributed.sharded(mesh)
  return jax.jit(step, in_shardings=(whole, parts), out_shardings=(whole, whole), donate_argnums=0)


def _keep_freed_memory():
  """Has glibc keep what is freed, unless its own variables are set.

  On CPU, XLA takes the memory of every step anew, and the kernel clears what it hands out.
  """
  given = 'GLIBC_TUNABLES' in os.environ or any(name.startswith('MALLOC_') for name in os.environ)
  if sys.platform != 'linux' or given:
    return
  with contextlib.suppress(OSError, AttributeError):  # other libraries have no mallopt
    library = ctypes.CDLL(None)
    library.mallopt(-4, 0)  # M_MMAP_MAX: nothing is mapped by itself, to be given back at once
    library.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: nor is the end of the heap, up to 2 GiB
