"""Says what a config builds, or what a run holds, without training and without the data.

    python launch/describe.py --config=configs/moving_mnist/af1.py:learned [--json]
    python launch/describe.py --workdir=runs/smoke [--json]

A config's values can be overridden as in training: --config.model.conditioner.channels=32. With
--workdir the newest good checkpoint is restored, and its parameters are compared with what was
saved. --json prints one object: `parameters`, `event_shape`, `modules` and more; with --workdir
also `step` and `parameters_sha256`.
"""

import json
import sys
from typing import Any

from absl import flags

from afslvm import cli
from afslvm.errors import CheckpointError, ConfigError

cli.define_config(required=False)
flags.DEFINE_string('workdir', '', 'Folder of a run, instead of --config.')
flags.DEFINE_bool('json', False, 'Print one JSON object instead of a table.')


def main(argv: list[str]):
  """Prints the description."""
  del argv
  args = cli.FLAGS
  if bool(args.workdir) == (args.config is not None):
    raise ConfigError('give exactly one of --config=FILE and --workdir=DIR')
  description = _of_run(args.workdir) if args.workdir else _of_config(args.config)
  print(json.dumps(description, indent=1) if args.json else table(description))


def _of_config(config) -> dict[str, Any]:
  from afslvm import building

  return describe(building.build(config))


def _of_run(workdir: str) -> dict[str, Any]:
  """Adds the newest good checkpoint; damaged ones that are newer are named on stderr."""
  from afslvm import runs
  from afslvm.training import checkpoint

  run = runs.load_run(workdir, 'latest')
  newest, directory = run.checkpoint['step'], run.path / 'checkpoints'
  # Every file is as it was written; this asks whether that is what training had in memory.
  sha256 = checkpoint.tree_sha256(run.parameters())
  if sha256 != run.checkpoint['parameters_sha256']:
    raise CheckpointError(
      f'{directory / str(newest)} is damaged: its parameters have sha256 {sha256[:12]}…, not what '
      'its manifest says; restore the folder from a copy'
    )
  damaged = {}
  for step in checkpoint.all_steps(directory):
    what = checkpoint.problem(directory / str(step))
    if step > newest and what.startswith('damaged'):
      damaged[str(step)] = what
      print(f'checkpoint {step} is {what}; this is step {newest}', file=sys.stderr)
  return {
    **describe(run.built),
    'workdir': str(run.path),
    'step': newest,
    'parameters_sha256': sha256,
    checkpoint.METRIC: run.checkpoint[checkpoint.METRIC],
    'damaged': damaged,
  }


def describe(parts) -> dict[str, Any]:
  """What `building.build` gives, as plain values; nothing is computed, only shapes are."""
  from afslvm import building
  from afslvm.evaluation import published

  model = parts.model
  label = building.label(parts.config['model'])
  modules, variables = _modules(model, parts.length)
  parameters = building.count_parameters(variables)
  paper = published.size_of(label, parts.dataset.name, tuple(model.event_shape), parameters)
  return {
    'model': label,
    'parameters': parameters,
    'published': paper and paper._asdict(),
    'statistics': sum(sum(m['statistics'].values()) for m in modules),
    'event_shape': list(model.event_shape),
    'bound': model.bound,
    'num_context': model.num_context,
    'min_context': model.min_context,
    'data': {
      'name': building.dataset_label(parts.dataset),
      'data_space': parts.dataset.data_space,
      'dequantisation': parts.dequantisation,
      'event_shape': list(parts.dataset.event_shape),
      'length': parts.length,
    },
    'modules': modules,
  }


def _modules(model, length: int) -> tuple[list[dict[str, Any]], Any]:
  """Every module that the model calls, from the outside in, and the model's abstract variables."""
  import flax.linen as nn
  import jax

  from afslvm import building

  found: dict[tuple[str, ...], dict[str, Any]] = {}

  def record(call, args, kwargs, context):
    module = context.module
    entry = found.setdefault(module.path, {'class': type(module).__name__, 'output': None})
    result = call(*args, **kwargs)
    if context.method_name == '__call__' and isinstance(result, jax.Array):
      entry['output'] = list(result.shape)
    return result

  with nn.intercept_methods(record):
    variables = building.abstract_variables(model, length)
  return [_module(path, entry, variables) for path, entry in found.items()], variables


def _module(path: tuple[str, ...], entry: dict[str, Any], variables) -> dict[str, Any]:
  """`parameters` are the module's own, so that they add up; `subtotal` counts those below too."""
  import jax

  trees = {name: _at(tree, path) for name, tree in variables.items()}
  params = trees.pop('params', {})
  own = {k: list(v.shape) for k, v in params.items() if hasattr(v, 'shape')}
  statistics = {k: v for tree in trees.values() for k, v in tree.items() if hasattr(v, 'shape')}
  return {
    'path': '/'.join(path),
    'class': entry['class'],
    'parameters': sum(params[name].size for name in own),
    'subtotal': sum(leaf.size for leaf in jax.tree.leaves(params)),
    'shapes': own,
    'statistics': {k: v.size for k, v in statistics.items()},
    'output': entry['output'],
  }


def _at(tree, path: tuple[str, ...]):
  for name in path:
    tree = tree.get(name, {})
  return tree


def table(description: dict[str, Any]) -> str:
  """The description for people: modules that hold parameters, then totals and what is scored."""
  rows = [('module', 'class', 'parameters', 'shapes')]
  for module in description['modules']:
    if module['parameters']:
      shapes = (f'{k} {"x".join(map(str, v))}' for k, v in module['shapes'].items())
      count = f'{module["parameters"]:,}'
      rows.append((module['path'], module['class'], count, ', '.join(shapes)))
  widths = [max(len(row[i]) for row in rows) for i in range(3)]
  lines = [
    f'{a.ljust(widths[0])}  {b.ljust(widths[1])}  {c.rjust(widths[2])}  {d}' for a, b, c, d in rows
  ]
  data = description['data']
  lines += [
    '',
    f'{description["model"]}: {description["parameters"]:,} parameters, '
    f'{description["statistics"]:,} running statistics',
    *_published(description['published']),
    f'data: {data["name"]}, steps of shape {tuple(data["event_shape"])}, {data["data_space"]}, '
    f'{data["dequantisation"]} noise, {data["length"]} steps in training',
    f'likelihood: {description["bound"]}, after {description["num_context"]} steps of context; '
    f'samples need {description["min_context"]}',
  ]
  if 'step' in description:
    lines.append(f'step {description["step"]}, sha256 {description["parameters_sha256"]}')
  return '\n'.join(lines)


def _published(paper: dict[str, Any] | None) -> list[str]:
  if paper is None:
    return []
  why = f' ({paper["why_different"]})' if paper['why_different'] else ', the same'
  return [f'AF paper, Table 3, {paper["dataset"]}: {paper["thousands"]}k{why}']


if __name__ == '__main__':
  cli.run(main)
