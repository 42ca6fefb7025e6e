"""What one training step of an experiment costs on this machine."""

import dataclasses
import math
import statistics
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from afslvm import fast_cpu
from afslvm.models.base import SequenceModel
from afslvm.performance import flops, slowest
from afslvm.training import distributed, program, receipt
from afslvm.training.experiment import Experiment

GROUPS = 5  # of steps that are timed one after another


class Cost(NamedTuple):
  """Of a training step, its optimiser included.

  Attributes:
    compile_seconds: of tracing the step and compiling it.
    step_seconds: the median over `GROUPS` groups of steps.
    step_seconds_range: of the fastest and the slowest group.
    sequences: in the global batch.
    frames: in the global batch, those that are given included.
    flops: of matrix products and convolutions in a step (`flops.of_function`), over all devices,
      whatever form they are computed in.
    flops_xla: what XLA's cost analysis says, which takes the body of a loop once; 0 if nothing.
    program_megabytes: arguments, results and temporary values of the program on one device.
    peak_megabytes: of the device, or of this process where the device doesn't say.
    devices: that share the batch.
  """

  compile_seconds: float
  step_seconds: float
  step_seconds_range: tuple[float, float]
  sequences: int
  frames: int
  flops: int
  flops_xla: float
  program_megabytes: float
  peak_megabytes: float
  devices: int

  @property
  def frames_per_second(self) -> float:
    """Returns the frames that training goes through in a second."""
    return self.frames / self.step_seconds

  def utilisation(self, peak: float) -> float:
    """Achieved FLOP/s over those of as many devices that reach `peak`."""
    return self.flops / self.step_seconds / (peak * self.devices)


def measure(
  experiment: Experiment, seconds: float, profile: bool = False
) -> tuple[Cost, list[slowest.Operation]]:
  """Compiles the step, runs it for about `seconds`, and says what its operations take.

  Args:
    experiment: of which the first batch is used over and over.
    seconds: of the timed steps; at least `GROUPS` steps are made.
    profile: whether one more step is traced; else no operations are returned.
  """
  mesh = distributed.make_mesh()
  distributed.check_batch_size(experiment.train.batch_size, mesh)
  batch = distributed.to_devices(next(experiment.training_batches()), mesh)
  state = program.first_state(experiment, program.initial_batch(experiment, mesh), mesh)
  step = program.compiled_step(experiment, mesh)
  began = time.perf_counter()
  lowered = step.lower(state, batch)
  compiled = lowered.compile()
  compile_seconds = time.perf_counter() - began
  plain = dataclasses.replace(experiment.train, convolutions='plain')
  plain_step = program.compiled_step(dataclasses.replace(experiment, train=plain), mesh)
  count = flops.of_function(plain_step, state, batch)

  def run(state, steps):
    for _ in range(steps):
      state, _ = compiled(state, batch)
    return jax.block_until_ready(state)

  state, _ = _timed(run, state, 1)  # the first is slower
  state, once = _timed(run, state, 1)
  steps, times = max(1, round(seconds / once / GROUPS)), []
  for _ in range(GROUPS):
    state, spent = _timed(run, state, steps)
    times.append(spent / steps)
  cost = Cost(
    compile_seconds=compile_seconds,
    step_seconds=statistics.median(times),
    step_seconds_range=(min(times), max(times)),
    sequences=experiment.train.batch_size,
    frames=experiment.train.batch_size * experiment.length,
    flops=count,
    flops_xla=float((compiled.cost_analysis() or {}).get('flops', 0.0)),
    program_megabytes=_program_megabytes(compiled),
    peak_megabytes=receipt.peak_memory_mb(),
    devices=mesh.size,
  )
  return cost, slowest.operations(compiled, lambda: compiled(state, batch)) if profile else []


def decoder_pass(experiment: Experiment, seconds: float, at_once: bool) -> tuple[float, int]:
  """Seconds and FLOPs of the decoder for all frames of a batch, forward and backward.

  The yardstick for an iteration of AVF, which goes back to z_t, not to the weights.

  Args:
    experiment: of which only shapes matter.
    seconds: of the timed passes.
    at_once: all frames together; else those of one step after another, as iterations must.
  """
  model, steps = experiment.model, experiment.length - experiment.model.min_context
  rounds = 1 if at_once else steps
  count = experiment.train.batch_size * steps // rounds
  mesh = distributed.make_mesh()
  state = program.first_state(experiment, program.initial_batch(experiment, mesh), mesh)

  def inputs(model):
    core, mask = model.core, jnp.ones((count, 1), bool)
    first, x = core.initial_state(count), jnp.zeros((count, 1, *core.event_shape))
    seen = jax.tree.map(lambda value: value[:, 0], core.observe(first.memory, x, mask)[1])
    return jnp.zeros((count, core.latent_size)), first.latent, seen

  def loss(params, inputs):
    def emit(model):
      z, latent, seen = inputs
      return model.core.emission(latent, z, seen, jnp.ones(count, bool))

    variables = {'params': params, **state.carried.collections}
    features, _ = model.apply(variables, method=emit, mutable=['batch_stats'])
    return sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(features))

  variables = {'params': state.params, **state.carried.collections}
  shapes = jax.eval_shape(lambda: model.apply(variables, method=inputs))
  gradient = jax.jit(jax.grad(loss, argnums=(0, 1)))
  arguments = state.params, jax.tree.map(lambda v: jnp.ones(v.shape, v.dtype), shapes)
  jax.block_until_ready(gradient(*arguments))
  times, end = [], time.perf_counter() + seconds
  while not times or time.perf_counter() < end:
    began = time.perf_counter()
    jax.block_until_ready(gradient(*arguments))
    times.append(time.perf_counter() - began)
  with fast_cpu.choose('plain'):
    count = flops.of_function(jax.grad(loss, argnums=(0, 1)), *arguments)
  return rounds * statistics.median(times), rounds * count


def _timed(run: Any, state: Any, steps: int) -> tuple[Any, float]:
  began = time.perf_counter()
  state = run(state, steps)
  return state, time.perf_counter() - began


def _program_megabytes(compiled: Any) -> float:
  memory = compiled.memory_analysis()
  if memory is None:
    return 0.0
  used = memory.argument_size_in_bytes + memory.output_size_in_bytes
  return (used - memory.alias_size_in_bytes + memory.temp_size_in_bytes) / 1e6


def plain_scan(model: SequenceModel) -> SequenceModel:
  """The same model, scored by a scan of its step: nothing is computed before or after it."""

  class PlainScan(type(model)):  # type: ignore[misc]
    sequence_terms = SequenceModel.sequence_terms

  fields = {field.name for field in dataclasses.fields(model)} - {'parent', 'name'}
  return PlainScan(**{name: getattr(model, name) for name in fields})


def exponent(sizes: list[float], seconds: list[float]) -> float:
  """The slope of log seconds over log size, two or more, by least squares: 1 where it is linear."""
  x, y = ([math.log(value) for value in values] for values in (sizes, seconds))
  return statistics.linear_regression(x, y).slope
