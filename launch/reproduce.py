r"""Reproduces tables and figures of the papers, at any scale.

    python launch/reproduce.py --table=af_1 --dataset=moving_digits --scale=small --seeds=3 \
        --workdir=runs/digits --jobs=2
    python launch/reproduce.py --figure=af_4 --workdir=runs/digits
    python launch/reproduce.py --table=avf_3 --dataset=jsb --workdir=runs/jsb --jobs=2
    python launch/reproduce.py --figure=avf_3 --workdir=runs/jsb

A table trains and evaluates every model and seed in WORKDIR/ROW-SEED, with launch/train.py and
launch/evaluate.py, and writes WORKDIR/table.md and table.json. Run again, it resumes what was
interrupted and skips what is done; with other --rows or --seeds it adds to the table. Tables: af_1
(moving_digits, stochastic_moving_mnist, moving_mnist, kth, bair), avf_1 (fsdd, timit), avf_2 (kth)
and avf_3 (jsb, piano_midi, muse_data, nottingham) are the papers'; box compares box-logistic with
affine flows (moving_digits, stochastic_moving_mnist), videoflow compares VideoFlow alone, with
flows in its priors and inside one (moving_digits, stochastic_moving_mnist, kth). Scales: quick (a
few steps, to try it), small (two cores), paper (the paper's sizes: a GPU, except avf_3, which two
cores can do).

Figures are drawn from runs that are there: af_4 and af_6 (KTH) show a flow alone and one under
SLVM, af_7 both flows of SLVM + 2-AF; avf_3 evaluates runs of iterative inference with 0 to 8
iterations and draws their free energies; avf_4 shows predictions and reconstructions of a test
sequence.
"""

import functools
import logging
import pathlib
import shlex
import sys

from absl import flags

from afslvm import cli

log = logging.getLogger('afslvm.reproduce')

flags.DEFINE_string('table', '', 'af_1, box, avf_1, avf_2, avf_3 or videoflow.')
flags.DEFINE_string('figure', '', 'af_4, af_6, af_7, avf_3 or avf_4.')
flags.DEFINE_string('workdir', None, 'Folder of all runs, the table and figures.', required=True)
flags.DEFINE_string('dataset', '', 'Of the table.')
flags.DEFINE_string('scale', '', 'quick, small or paper; default small, of avf_3 paper.')
flags.DEFINE_integer('seeds', 1, 'Seeds 0 to so many less one.', lower_bound=1)
flags.DEFINE_list('rows', [], 'Some of the rows, by the names of their configs; default all.')
flags.DEFINE_integer('jobs', 1, 'Runs at a time.', lower_bound=1)
flags.DEFINE_multi_string('override', [], 'Of every config: --override=train.num_steps=500.')
flags.DEFINE_string('model', '', 'Only this row in the figure.')
flags.DEFINE_integer('sequence_seed', 0, 'Chooses the sequence of a figure.', lower_bound=0)

TABLE_NAMES = ('af_1', 'box', 'avf_1', 'avf_2', 'avf_3', 'videoflow')
FIGURE_NAMES = ('af_4', 'af_6', 'af_7', 'avf_3', 'avf_4')


def main(argv: list[str]) -> int:
  """Makes a table or a figure."""
  del argv
  from afslvm.errors import ConfigError, nearest

  args = cli.FLAGS
  if bool(args.table) == bool(args.figure):
    raise ConfigError('give exactly one of --table, such as af_1, and --figure, such as af_4')
  name, known = (args.table, TABLE_NAMES) if args.table else (args.figure, FIGURE_NAMES)
  if name not in known:
    kind = 'table' if args.table else 'figure'
    raise ConfigError(f'--{kind}={name} is not one of {", ".join(known)}{nearest(name, known)}')
  if args.table:
    return _table()
  drawn = {'avf_3': _free_energies, 'avf_4': _predictions}
  return drawn.get(args.figure, _figure)()


# ---- tables --------------------------------------------------------------------------------------


def _table() -> int:
  from afslvm.reproduction import folders, plan, saved, schedule, tables

  args, workdir = cli.FLAGS, pathlib.Path(cli.FLAGS.workdir).expanduser()
  table = tables.find(args.table)
  scale = args.scale or table.scale
  overrides = plan.overrides(scale, [*table.overrides, *args.override])
  folder = table.config_folder(args.dataset, scale)
  rows = plan.rows(table, args.rows, folder)
  if without := [row for row in table.rows if row not in rows and not args.rows]:
    log.info('left out, for %s has no config of them: %s', folder, ', '.join(without))
  asked = [(row, seed) for row in rows for seed in range(args.seeds)]
  about = {
    'table': table.name,
    'dataset': args.dataset,
    'scale': scale,
    'overrides': plan.portable(overrides),
  }
  saved.check(workdir, about)
  pairs = plan.in_order({*asked, *plan.found(workdir, table.rows)}, table.rows)
  load = functools.partial(_loaded, folder, overrides)
  runs = _planned(table, scale, {pair: load(*pair) for pair in pairs}, overrides, workdir)
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
  print(saved.write(workdir, finished, about, _command(workdir)))
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


def _loaded(folder: str, overrides, row: str, seed: int) -> tuple:
  """A row's config file, and its parts: every config is checked before anything starts."""
  from afslvm import building
  from afslvm.reproduction import plan

  file = f'{folder}/{row}.py'
  config = cli.load_overridden(str(plan.ROOT / file), [*overrides, f'seed={seed}'])
  return file, building.build(config)


def _planned(table, scale: str, loaded: dict, overrides, workdir: pathlib.Path) -> dict:
  """{(row, seed): PlannedRun}; `loaded` has (config file, parts) of each."""
  from afslvm import building
  from afslvm.reproduction import plan

  runs, data = {}, None
  for (row, seed), (file, parts) in loaded.items():
    data = data or _data(table, scale, parts)
    variables = building.abstract_variables(parts.model, parts.length)
    runs[row, seed] = plan.PlannedRun(
      table=table,
      row=row,
      seed=seed,
      label=building.label(parts.config['model']),
      parameters=building.count_parameters(variables),
      num_context=parts.model.num_context,
      measure=parts.model.measure,
      config_file=file,
      overrides=overrides,
      config=parts.config,
      path=workdir / plan.folder_name(row, seed),
      data=data,
    )
  return runs


def _data(table, scale: str, parts):
  """Opens the data; if they are not prepared, the error names the command that prepares them."""
  from afslvm import building
  from afslvm.data import prepare
  from afslvm.reproduction import plan

  builder = parts.dataset
  test = prepare.open_split(builder, 'test')
  return plan.Data(
    name=builder.name,
    label=building.dataset_label(builder),
    config=f'{builder.name}/{builder.config_name()}',
    event_shape=tuple(builder.event_shape),
    data_space=builder.data_space,
    fingerprint=prepare.fingerprint(builder),
    num_scored=plan.num_scored(table, scale, len(test)),
    resolution=builder.resolution,
    test_lengths=() if test.lengths is None else tuple(map(int, test.lengths)),
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
  """Returns what a trained model makes of one test sequence, the same for all models."""
  import jax
  import numpy as np

  from afslvm import runs
  from afslvm.data import prepare
  from afslvm.evaluation import visuals
  from afslvm.reproduction import figures
  from afslvm.transforms import preprocessing

  seed = cli.FLAGS.sequence_seed
  run = runs.load_run(str(folder))
  figures.check_data(figure, run.built.dataset.name, run.built.dataset.event_shape)
  source = prepare.open_split(run.built.dataset, 'test')
  index = figures.choose(source, seed)
  stored = source[index][None, : figures.LAST_STEP]
  key = jax.random.key(seed)
  x = np.asarray(preprocessing.dequantise(key, stored, run.built.dequantisation))
  return visuals.visual_rows(run.built.model, run.variables, x, key)


# ---- figures of the AVF paper --------------------------------------------------------------------


def _free_energies() -> int:
  """Evaluates runs with other numbers of inference iterations than they were trained with."""
  from afslvm import runs as runs_lib
  from afslvm.reproduction import avf_figures, saved, schedule, tables

  args, workdir = cli.FLAGS, pathlib.Path(cli.FLAGS.workdir).expanduser()
  about = saved.read(workdir)
  table = tables.find(about['table'])
  loaded = {
    pair: ('', runs_lib.load_run(str(folder)).built)
    for pair, folder in avf_figures.run_folders(workdir, table, args.model).items()
  }
  runs = _planned(table, about['scale'], loaded, (), workdir)
  found = [(r, avf_figures.columns(r)) for r in runs.values() if avf_figures.iterations(r)]
  if not found:
    raise avf_figures.no_iterations(workdir, table)
  chains = [schedule.Chain(run.name, schedule.evaluations(run, asked)) for run, asked in found]
  if code := schedule.Schedule(chains, args.jobs, workdir / 'logs').run():
    log.warning('to continue, run the same command again')
    return code
  _write_figure(workdir, avf_figures.free_energies(found))
  return 0


def _predictions() -> int:
  """One sequence of the test split, predicted and reconstructed by one model."""
  import jax
  import numpy as np

  from afslvm import runs as runs_lib
  from afslvm.data import prepare
  from afslvm.reproduction import avf_figures, saved, tables
  from afslvm.transforms import preprocessing
  from afslvm.visualization import events, figures

  args, workdir = cli.FLAGS, pathlib.Path(cli.FLAGS.workdir).expanduser()
  table = tables.find(saved.read(workdir)['table'])
  folder = next(iter(avf_figures.run_folders(workdir, table, args.model).values()))
  run = runs_lib.load_run(str(folder))
  event = events.event_of(run.built.dataset)
  source = prepare.open_split(run.built.dataset, 'test')
  seed, kind = args.sequence_seed, run.built.dequantisation
  stored = avf_figures.choose(source, event, seed)
  x = np.asarray(preprocessing.dequantise(jax.random.key(seed), stored, kind))
  rows = avf_figures.predictions(run.built.model, run.variables, x, seed)
  _write_figure(workdir, figures.prediction_and_reconstruction(rows, event))
  return 0


def _write_figure(workdir: pathlib.Path, inks: tuple[bytes, bytes]):
  """Two SVG files, for light and for dark pages."""
  name = f'{cli.FLAGS.figure}{f"_{cli.FLAGS.model}" if cli.FLAGS.model else ""}'
  for suffix, content in zip(('', '_dark'), inks, strict=True):
    path = workdir / f'{name}{suffix}.svg'
    path.write_bytes(content)
    print(path)


if __name__ == '__main__':
  cli.run(main)
