"""Measures what a training step costs: time, operations, utilisation and memory.

    python launch/benchmark.py --config=configs/moving_mnist/af1.py --config.train.batch_size=2
    python launch/benchmark.py --config=FILE --sweep=data.length=7,13,26 --sweep=model.unroll=1,4,16
    python launch/benchmark.py --config=FILE --plain_scan --slowest=10 --json

It needs no data: the batch is random. Utilisation is the rate of matrix products and convolutions
over the best rate of matrix products that is measured in the same run, on the same device. A sweep
measures the config at each value of a key, all else as given, and says with which power of the
value the time grows. A sweep over model.inference.num_iterations says what one more of them costs.
"""

import dataclasses
import itertools
import json
import sys
from typing import Any

from absl import flags

from afslvm import cli
from afslvm.errors import ConfigError
from afslvm.reproduction import grid

ITERATIONS = 'model.inference.num_iterations'

cli.define_config()
flags.DEFINE_float('seconds', 10.0, 'Of timed steps for each measurement.', lower_bound=0.1)
flags.DEFINE_multi_string('sweep', [], 'KEY=VALUE,VALUE,...: measure at each value; repeatable.')
flags.DEFINE_bool('plain_scan', False, 'Measure also the model as a scan of its single steps.')
flags.DEFINE_integer('slowest', 0, 'Name this many of the slowest operations.', lower_bound=0)
flags.DEFINE_enum('peak_dtype', 'float32', ['float32', 'bfloat16'], 'Of the matrix products.')
flags.DEFINE_bool('json', False, 'Print one JSON object instead of tables.')


def main(argv: list[str]):
  """Prints the costs."""
  del argv
  args = cli.FLAGS
  sweeps = [grid.axis(given, '--sweep') for given in args.sweep]
  import jax

  from afslvm import building

  jax.config.update('jax_enable_compilation_cache', False)  # compiling is measured
  points = _points(sweeps)
  parts = [
    building.build(config) for config in points.values()
  ]  # every mistake before any compiling

  if args.plain_scan and parts[0].model.sees_future:
    raise ConfigError('--plain_scan: single steps see no later ones; use inference.smoothing=0')

  from afslvm.performance import benchmark, peak, slowest
  from afslvm.training import receipt

  peaks, costs, named = [peak.matmul_flops_per_second(args.peak_dtype)], {}, []
  for point, built in zip(points, parts, strict=True):
    print(f'benchmark: {point or "config"}', file=sys.stderr, flush=True)
    profile = not point and args.slowest > 0
    costs[point], found = benchmark.measure(_experiment(built), args.seconds, profile)
    named = found or named
  if args.plain_scan:
    given = _experiment(parts[0])
    given = dataclasses.replace(given, model=benchmark.plain_scan(given.model))
    costs['plain scan'], _ = benchmark.measure(given, args.seconds)
  iterations = _iterations(sweeps, costs, parts[0], args.seconds)
  peaks.append(peak.matmul_flops_per_second(args.peak_dtype))
  report = {
    'config': cli.given_config(),
    'peak_flops_per_second': max(peaks),
    'peak_dtype': args.peak_dtype,
    'measurements': {k: _as_json(cost, max(peaks)) for k, cost in costs.items()},
    'growth': {key: _growth(key, values, costs) for key, values in sweeps},
    'iterations': iterations,
    'share_of_products': slowest.share_of_products(named) if named else None,
    'slowest': [operation._asdict() for operation in named[: args.slowest]],
    'device': receipt.device(),
    'versions': receipt.versions(),
    'git_commit': receipt.git_commit(),
  }
  print(json.dumps(report, indent=1) if args.json else text(report))


def _points(sweeps: list[grid.Axis]) -> dict[str, Any]:
  """{'': the config, 'key=value': the config with that value}."""
  path, overrides = cli.given_config()
  points = {'': cli.FLAGS.config}
  for key, values in sweeps:
    for value in values:
      point = f'{key}={value}'
      points[point] = cli.load_overridden(path, [*overrides, point])
  return points


def _experiment(parts):
  """An experiment on one random batch: what a step costs does not depend on the values."""
  import numpy as np

  from afslvm.training.experiment import Experiment

  shape = (parts.train.batch_size, parts.length, *parts.dataset.event_shape)
  rng = np.random.default_rng(parts.seed)
  if parts.dataset.data_space in ('8bit', 'binary'):
    x = rng.integers(0, 256 if parts.dataset.data_space == '8bit' else 2, shape, np.uint8)
  else:
    x = rng.standard_normal(shape, np.float32)
  batch = {'x': x, 'mask': np.ones(shape[:2], bool)}
  if parts.stateful:
    batch['reset'] = np.ones(shape[:1], bool)
  return Experiment(
    model=parts.model,
    objective=parts.objective,
    dequantisation=parts.dequantisation,
    length=parts.length,
    seed=parts.seed,
    train=parts.train,
    optimizer=parts.optimizer,
    training_batches=lambda: itertools.repeat(batch),
    validation_batches=lambda: iter([]),
    fingerprint='',
    stateful=parts.stateful,
    config=parts.config,
  )


def _as_json(cost, peak: float) -> dict[str, Any]:
  return {
    **cost._asdict(),
    'frames_per_second': cost.frames_per_second,
    'flops_per_second': cost.flops / cost.step_seconds,
    'utilisation': cost.utilisation(peak),
  }


def _growth(key: str, values: list[str], costs: dict[str, Any]) -> float | None:
  """The power of the value with which a step's time grows; None where values are no numbers."""
  from afslvm.performance import benchmark

  try:
    sizes = [float(value) for value in values]
  except ValueError:
    return None
  seconds = [costs[f'{key}={value}'].step_seconds for value in values]
  return benchmark.exponent(sizes, seconds) if len(set(sizes)) > 1 and min(sizes) > 0 else None


def _iterations(sweeps, costs, parts, seconds: float) -> dict[str, float] | None:
  """Returns what one more inference iteration and a decoder's pass cost; None if not swept."""
  import statistics

  from afslvm.performance import benchmark

  values = dict(sweeps).get(ITERATIONS, [])
  if len(values) < 2:
    return None
  counts, swept = [float(v) for v in values], [costs[f'{ITERATIONS}={v}'] for v in values]
  slopes = [
    statistics.linear_regression(counts, [getattr(cost, name) for cost in swept]).slope
    for name in ('step_seconds', 'flops')
  ]
  at_once, flops = benchmark.decoder_pass(_experiment(parts), seconds, at_once=True)
  in_steps, _ = benchmark.decoder_pass(_experiment(parts), seconds, at_once=False)
  keys = ('seconds', 'flops', 'decoder_seconds', 'decoder_seconds_in_steps', 'decoder_flops')
  return dict(zip(keys, (*slopes, at_once, in_steps, flops), strict=True))


def text(report: dict[str, Any]) -> str:
  """The report for people."""
  rows = [
    (
      *('measured', 'compile', 'ms/step', '(range)', 'steps/s', 'frames/s', 'GFLOP/step'),
      *('(XLA)', 'GFLOP/s', 'of peak', 'program MB', 'peak MB'),
    )
  ]
  for name, value in report['measurements'].items():
    low, high = (1e3 * seconds for seconds in value['step_seconds_range'])
    rows.append(
      (
        name or 'config',
        f'{value["compile_seconds"]:.1f} s',
        f'{1e3 * value["step_seconds"]:.1f}',
        f'({low:.1f} to {high:.1f})',
        f'{1 / value["step_seconds"]:.2f}',
        f'{value["frames_per_second"]:,.0f}',
        f'{value["flops"] / 1e9:.2f}',
        f'({value["flops_xla"] / 1e9:.2f})',
        f'{value["flops_per_second"] / 1e9:.1f}',
        f'{value["utilisation"]:.1%}',
        f'{value["program_megabytes"]:,.0f}',
        f'{value["peak_megabytes"]:,.0f}',
      )
    )
  widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
  lines = ['  '.join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
  device, peak = report['device'], report['peak_flops_per_second'] / 1e9
  lines += [
    '',
    f'{device["count"]} {device["kind"]} ({device["platform"]}); the best matrix product in this '
    f'run: {peak:,.1f} GFLOP/s ({report["peak_dtype"]})',
    'GFLOP are of matrix products and convolutions; XLA counts the body of a loop once',
  ]
  for key, power in report['growth'].items():
    if power is not None:
      lines.append(f'a step’s time grows with the power {power:.2f} of {key}')
  if one := report['iterations']:
    spent, all_once, in_steps = (
      1e3 * one[name] for name in ('seconds', 'decoder_seconds', 'decoder_seconds_in_steps')
    )
    lines.append(
      f'one more iteration takes {spent:.1f} ms and {one["flops"] / 1e9:.2f} GFLOP; the decoder, '
      f'forward and backward, {all_once:.1f} ms for all frames at once, {in_steps:.1f} ms for '
      f'those of one step after another, and {one["decoder_flops"] / 1e9:.2f} GFLOP: '
      f'{spent / all_once:.2f}, {spent / in_steps:.2f} and '
      f'{one["flops"] / one["decoder_flops"]:.2f} times as much'
    )
  if share := report['share_of_products']:
    reached = report['measurements']['']['utilisation'] / share
    lines.append(
      f'matrix products and convolutions, with the copies made for them, take {share:.1%} of the '
      f'time, and reach {reached:.1%} of the peak meanwhile'
    )
  for operation in report['slowest']:
    share, spent = operation['share'], 1e3 * operation['seconds']
    lines.append(f'{share:6.1%} {spent:9.2f} ms  {operation["name"]}  {operation["place"]}')
  return '\n'.join(lines)


if __name__ == '__main__':
  cli.run(main)
