r"""Trains a config at every point of a grid, and makes one table of the results.

    python launch/sweep.py --config=configs/moving_digits/slvm.py --sweep_dir=runs/sweep \
        --grid=optimizer.learning_rate=1e-3,3e-4 --grid=model.latent_shape=8,16 --seeds=0,1 --jobs=2

Each run is launch/train.py in SWEEP_DIR/learning_rate=1e-3_latent_shape=8_seed=0 and so on. Run
again, it resumes what was interrupted and skips what is done, also with more values or seeds.
Every config is checked before anything starts. At the end the table is printed, and lies in
SWEEP_DIR/results.md and results.json: validation, the test split where launch/evaluate.py has
scored it, speed, parameters. A run whose numbers stop being finite doesn't stop the others.

--print_commands prints one command for each run instead, for a cluster; --collect then makes the
table of what there is.
"""

import contextlib
import itertools
import json
import logging
import math
import pathlib
import shlex
import sys
from typing import Any, NamedTuple

from absl import flags

from afslvm import cli
from afslvm.errors import ConfigError

log = logging.getLogger('afslvm.sweep')

cli.define_config()
flags.DEFINE_multi_string('grid', [], 'section.key=VALUE,VALUE,...; repeat it for more keys.')
flags.DEFINE_list('seeds', [], 'Seeds of every point; default: the seed of the config.')
flags.DEFINE_string('sweep_dir', None, 'Folder of all runs and of the table.', required=True)
flags.DEFINE_integer('jobs', 1, 'Runs at a time.', lower_bound=1)
flags.DEFINE_bool('print_commands', False, 'Print a command for each run, and run nothing.')
flags.DEFINE_bool('collect', False, 'Run nothing; make the table of what there is.')


class Point(NamedTuple):
  """A point of the grid with a seed: its folder, what the grid says, all overrides, its config."""

  name: str
  settings: dict[str, str]
  overrides: tuple[str, ...]
  config: Any


def main(argv: list[str]) -> int:
  """Runs the sweep, prints its commands, or makes its table."""
  del argv
  args = cli.FLAGS
  if args.print_commands and args.collect:
    raise ConfigError('give --print_commands, then --collect; not both at once')
  from afslvm.reproduction import grid

  folder = pathlib.Path(args.sweep_dir).expanduser()
  path, overrides = cli.given_config()
  axes = [grid.axis(given) for given in args.grid]
  points = _points(grid.points(axes), path, overrides)

  from afslvm.reproduction import schedule, sweep, sweep_results

  runs, built = _planned(points, folder, path)
  sweep.check(runs)
  if args.print_commands:
    for run in runs:
      print(shlex.join(['python', *run.command()]))
    return 0
  if not args.collect:
    log.info('%d runs in %s, %d at a time', len(runs), folder, args.jobs)
    chains = sweep.chains(runs)
    if code := schedule.Schedule(chains, args.jobs, folder / 'logs', sweep.TOLERATED).run():
      log.warning('to continue, run the same command again')
      return code
  about = {
    'config': path,
    'overrides': overrides,
    'grid': dict(axes),
    'seeds': args.seeds,
    **_unit(built),
  }
  command = ['python', 'launch/sweep.py', *sys.argv[1:]]
  print(sweep_results.write(folder, runs, about, command))
  print(folder / sweep_results.MARKDOWN)
  return 0


def _points(combinations: list[dict[str, str]], path: str, overrides: list[str]) -> list[Point]:
  """Every combination with every seed; a mistake in one is found here, before jax is loaded."""
  from afslvm.reproduction import grid

  seeds = cli.FLAGS.seeds or [str(cli.load_overridden(path, overrides).seed)]
  found = []
  for settings, seed in itertools.product(combinations, seeds):
    name = grid.folder_name(settings, seed)
    given = (*overrides, *(f'{key}={value}' for key, value in settings.items()), f'seed={seed}')
    with _named(name):
      found.append(Point(name, settings, given, cli.load_overridden(path, given)))
  return found


@contextlib.contextmanager
def _named(name: str):
  """Says in which run a mistake is."""
  try:
    yield
  except ConfigError as error:
    raise ConfigError(f'{name}: {error}') from None


def _planned(points: list[Point], folder: pathlib.Path, path: str):
  """The runs, and what the first of their configs builds; all are checked before data are read."""
  from afslvm import building
  from afslvm.reproduction import sweep

  built = []
  for point in points:
    with _named(point.name):
      built.append(building.build(point.config))
  known: dict[str, sweep.Data] = {}
  runs = []
  for point, parts in zip(points, built, strict=True):
    key = json.dumps(parts.config['data'])
    known[key] = known.get(key) or _data(parts)
    runs.append(
      sweep.SweepRun(
        settings=point.settings,
        config_file=path,
        overrides=point.overrides,
        config=parts.config,
        path=folder / point.name,
        data=known[key],
        num_context=parts.model.num_context,
        bound=parts.model.bound,
      )
    )
  return runs, built[0]


def _data(parts):
  """Opens the data; if they are not prepared, the error names the command that prepares them."""
  from afslvm import building
  from afslvm.data import prepare
  from afslvm.reproduction import sweep

  builder = parts.dataset
  count = len(prepare.open_split(builder, 'validation'))
  return sweep.Data(building.dataset_label(builder), prepare.fingerprint(builder), count)


def _unit(parts) -> dict:
  """Music and sound are scored per step, all else per dimension, as in the log of training."""
  from afslvm import building

  if parts.dataset.data_space in building.WHOLE:
    return {'unit': 'nats/step', 'dims_per_unit': math.prod(parts.model.event_shape)}
  return {'unit': 'nats/dim', 'dims_per_unit': 1}


if __name__ == '__main__':
  cli.run(main)
