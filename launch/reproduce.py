r"""Reproduces the AF paper's tables and figures, at any scale.

    python launch/reproduce.py --table=af_1 --dataset=moving_digits --scale=small --seeds=3 \
        --workdir=runs/digits --jobs=2
    python launch/reproduce.py --figure=af_4 --workdir=runs/digits

A table trains and evaluates every model and seed in WORKDIR/ROW-SEED, with launch/train.py and
launch/evaluate.py, and writes WORKDIR/table.md and table.json. Run again, it resumes what was
interrupted and skips what is done; with other --rows or --seeds it adds to the table. Scales: quick
(a few steps, to try it), small (two cores), paper (a GPU).

Figures are drawn from runs that are there: af_4 and af_6 (KTH) show a flow alone and one under
SLVM, af_7 both flows of SLVM + 2-AF.
"""

import logging
import pathlib
import shlex
import sys

from absl import flags

from afslvm import cli

log = logging.getLogger('afslvm.reproduce')

flags.DEFINE_string('table', '', 'af_1.')
flags.DEFINE_string('figure', '', 'af_4, af_6 or af_7.')
flags.DEFINE_string('workdir', None, 'Folder of all runs, the table and figures.', required=True)
flags.DEFINE_string('dataset', '', 'Of the table.')
flags.DEFINE_string('scale', 'small', 'quick, small or paper.')
flags.DEFINE_integer('seeds', 1, 'Seeds 0 to so many less one.', lower_bound=1)
flags.DEFINE_list('rows', [], 'Some of af1, af2, slvm, slvm_af1, slvm_af2; default all.')
flags.DEFINE_integer('jobs', 1, 'Runs at a time.', lower_bound=1)
flags.DEFINE_multi_string('override', [], 'Of every config: --override=train.num_steps=500.')
flags.DEFINE_string('model', '', 'Only this row in the figure.')
flags.DEFINE_integer('sequence_seed', 0, 'Chooses the sequence of a figure.', lower_bound=0)

TABLE_NAMES, FIGURE_NAMES = ('af_1',), ('af_4', 'af_6', 'af_7')


def main(argv: list[str]) -> int:
  """Makes a table or a figure."""
  del argv
  from afslvm.errors import ConfigError, nearest

  args = cli.FLAGS
  if bool(args.table) == bool(args.figure):
    raise ConfigError('give exactly one of --table=af_1 and --figure=af_4, af_6 or af_7')
  name, known = (args.table, TABLE_NAMES) if args.table else (args.figure, FIGURE_NAMES)
  if name not in known:
    kind = 'table' if args.table else 'figure'
    raise ConfigError(f'--{kind}={name} is not one of {", ".join(known)}{nearest(name, known)}')
  return _table() if args.table else _figure()


# ---- tables --------------------------------------------------------------------------------------


def _table() -> int:
  from afslvm.reproduction import folders, plan, saved, schedule

  args, workdir = cli.FLAGS, pathlib.Path(cli.FLAGS.workdir).expanduser()
  overrides = plan.overrides(args.scale, args.override)
  folder = plan.config_folder(args.dataset, args.scale)
  asked = [(row, seed) for row in plan.rows(args.rows) for seed in range(args.seeds)]
  about = {
    'dataset': args.dataset,
    'scale': args.scale,
    'overrides': plan.portable(overrides),
  }
  saved.check(workdir, about)
  pairs = plan.in_order({*asked, *plan.found(workdir)})
  runs = _planned(pairs, folder, overrides, workdir)
  for run in runs.values():
    folders.check(run)
  chains = [schedule.chain(runs[pair]) for pair in asked]
  if code := schedule.Schedule(chains, args.jobs, workdir / 'logs').run():
    log.warning('to continue, run the same command again')
    return code
  done = {pair: folders.finished(run) for pair, run in runs.items()}
  for pair in (pair for pair, run in done.items() if run is None):
    log.warning('%s is not finished and not in the table', plan.folder_name(*pair))
  finished = [run for run in done.values() if run is not None]
  table = saved.write(workdir, finished, about, _command(workdir))
  print(table)
  print(workdir / saved.MARKDOWN)
  return 0


def _command(workdir: pathlib.Path) -> str:
  """This command as it can be repeated elsewhere: places of this machine are left out."""
  kept = []
  for word in sys.argv[1:]:
    if word.startswith('--workdir') and workdir.is_absolute():
      word = f'--workdir=runs/{workdir.name}'
    if not word.startswith(('--override=data.data_dir=', '--override=data.source=')):
      kept.append(word)
  return shlex.join(['python', 'launch/reproduce.py', *kept])


def _planned(pairs, folder: str, overrides, workdir: pathlib.Path) -> dict:
  """Checks every config and the data, before anything starts; {(row, seed): PlannedRun}."""
  from afslvm import build
  from afslvm.reproduction import plan

  runs, data = {}, None
  for row, seed in pairs:
    file = f'{folder}/{row}.py'
    config = cli.load_overridden(str(plan.ROOT / file), [*overrides, f'seed={seed}'])
    parts = build.parts(config)
    data = data or _data(parts)
    variables = build.abstract_variables(parts.model, parts.data['length'])
    runs[row, seed] = plan.PlannedRun(
      row=row,
      seed=seed,
      label=build.label(parts.config['model']),
      parameters=build.count_parameters(variables),
      num_context=parts.model.num_context,
      config_file=file,
      overrides=overrides,
      config=parts.config,
      path=workdir / plan.folder_name(row, seed),
      data=data,
    )
  return runs


def _data(parts):
  """Opens the data; if they are not prepared, the error names the command that prepares them."""
  from afslvm import build
  from afslvm.data import prepare
  from afslvm.reproduction import plan

  builder = parts.dataset
  num_test = len(prepare.open_split(builder, 'test'))
  return plan.Data(
    name=builder.name,
    label=build.dataset_label(builder),
    config=f'{builder.name}/{builder.config_name()}',
    event_shape=tuple(builder.event_shape),
    data_space=builder.data_space,
    fingerprint=prepare.fingerprint(builder),
    num_scored={'train': num_test},
  )


# ---- figures -------------------------------------------------------------------------------------


def _figure() -> int:
  from afslvm.reproduction import figures

  args, workdir = cli.FLAGS, pathlib.Path(cli.FLAGS.workdir).expanduser()
  panels = figures.panels(args.figure, args.model)
  shown = [_rows(figures.run_folder(workdir, panel.row), args.figure) for panel in panels]
  path = workdir / f'{args.figure}{f"_{args.model}" if args.model else ""}.png'
  path.write_bytes(figures.draw(panels, shown))
  print(path)
  return 0


def _rows(folder: pathlib.Path, figure: str):
  """What a trained model makes of one sequence of the test split, the same for all models."""
  import jax
  import numpy as np

  from afslvm import runs
  from afslvm.data import prepare
  from afslvm.evaluation import visuals
  from afslvm.reproduction import figures
  from afslvm.transforms import preprocessing

  seed = cli.FLAGS.sequence_seed
  run = runs.open_run(str(folder))
  figures.check_data(figure, run.parts.dataset.name, run.parts.dataset.event_shape)
  source = prepare.open_split(run.parts.dataset, 'test')
  index = figures.choose(source, seed)
  stored = source[index][None, : figures.LAST_STEP]
  key = jax.random.key(seed)
  x = np.asarray(preprocessing.dequantise(key, stored, run.parts.data['dequantisation']))
  return visuals.visual_rows(run.parts.model, run.variables(), x, key)


if __name__ == '__main__':
  cli.run(main)
