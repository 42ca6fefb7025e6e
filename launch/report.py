"""Makes a page about trained runs: python launch/report.py WORKDIR... [--output=FILE].

The page is one HTML file without any connection to the outside: results, training curves, what each
model shows of held-out sequences, continuations, correlations, configs and receipts. Music and
speech are drawn, and players on the page sound them.
"""

import logging
import pathlib

from absl import flags

from afslvm import cli

log = logging.getLogger('afslvm.report')

flags.DEFINE_string('output', '', 'The page; default FIRST_WORKDIR/report/index.html.')
flags.DEFINE_string('picture', '', 'Also write the rows of the first sequence as this PNG file.')
flags.DEFINE_integer('num_sequences', 3, 'Held-out sequences to show.', lower_bound=1)
flags.DEFINE_integer(
  'seed',
  0,
  'Chooses the sequences, their noise and the samples.',
  lower_bound=0,
  upper_bound=2**31 - 1,
)
flags.DEFINE_float(
  'step_seconds', 0.25, 'How long a step of music is played.', lower_bound=0.01, upper_bound=10.0
)
flags.DEFINE_string('data_dir', '', 'Where the data lie, if they have moved since training.')

SPLIT = 'test'


@cli.takes_arguments
def main(argv: list[str]):
  """Writes the page and prints the results."""
  from afslvm.errors import ConfigError

  workdirs = list(dict.fromkeys(argv[1:]))
  if not workdirs:
    raise ConfigError('no run is given; for instance: python launch/report.py runs/quickstart/af1')
  args = cli.FLAGS
  output = pathlib.Path(args.output or f'{workdirs[0]}/report/index.html')
  if output.is_dir():
    raise ConfigError(f'--output={output} is a folder; name a file, such as {output}/index.html')
  runs = open_runs(workdirs)

  from afslvm.visualization import report, results

  try:
    if args.picture:
      report.write_picture(pathlib.Path(args.picture), runs[0])
    report.write(output, runs, on_run=lambda title: log.info('pictures of %s', title))
  except OSError as error:
    raise ConfigError(f'{error.filename} can not be written ({error.strerror})') from error
  print(results.text_tables(runs) or 'no run has been evaluated yet; see the page for the command')
  print(output)


def open_runs(workdirs: list[str]) -> list:
  """Opens every run at its best checkpoint, as plain `records.Run`s.

  Raises:
    ConfigError: a folder that holds no run.
    CheckpointError: no checkpoint verifies.
  """
  from afslvm import building, runs

  trained = [runs.load_run(workdir, data_dir=cli.FLAGS.data_dir) for workdir in workdirs]
  labels = [building.label(run.built.config['model']) for run in trained]
  names = [run.path.resolve().name for run in trained]
  titles = []
  for label, name, workdir in zip(labels, names, workdirs, strict=True):
    if labels.count(label) > 1:
      label = f'{label} ({name if names.count(name) == 1 else workdir})'
    titles.append(label)
  return [_plain(*each) for each in zip(trained, titles, workdirs, strict=True)]


def _plain(run, title: str, workdir: str):
  from afslvm import building
  from afslvm.errors import DataError
  from afslvm.visualization import events, records

  event = events.event_of(run.built.dataset, cli.FLAGS.step_seconds)
  try:
    sequences, why = _held_out(run, event), ''
  except DataError as error:
    sequences, why = None, str(error)
    log.warning('%s: no pictures, %s', title, error)
  parts = run.built
  return records.Run(
    title=title,
    workdir=workdir,
    model=parts.model,
    variables=run.variables,
    checkpoint=run.checkpoint,
    parameters=run.num_parameters(),
    config=parts.config,
    dataset=building.dataset_label(parts.dataset),
    data_config=f'{parts.dataset.name}/{parts.dataset.config_name()}',
    num_frames=parts.dataset.num_frames,
    event=event,
    records=records.read(run.path),
    sequences=sequences,
    no_sequences=why,
  )


def _held_out(run, event):
  """Random sequences of the test split, the same for all runs on the same data.

  Of music and speech their beginnings, as long as half of the sequences are or a page shows.
  """
  import jax
  import numpy as np

  from afslvm.data import prepare
  from afslvm.transforms import preprocessing
  from afslvm.visualization.records import Sequences

  source, seed = prepare.open_split(run.built.dataset, SPLIT), cli.FLAGS.seed
  rng = np.random.default_rng(seed)
  candidates = np.arange(len(source))
  shown = run.built.length
  if event.shown_steps is not None:
    shown = source.num_frames if source.lengths is None else int(np.median(source.lengths))
    shown = min(shown, event.shown_steps)
  if source.lengths is not None:  # ragged: those that are long enough
    candidates = np.flatnonzero(source.lengths >= shown)
  size = min(cli.FLAGS.num_sequences, len(candidates))
  indices = [int(index) for index in rng.choice(candidates, size=size, replace=False)]
  sequences = [source[index] for index in indices]
  lengths = [len(x) for x in sequences]
  shortest = min(lengths, default=0) if event.shown_steps is None else shown
  stored = np.stack([x[:shortest] for x in sequences])
  x = preprocessing.dequantise(jax.random.key(seed), stored, run.built.dequantisation)
  return Sequences(indices, np.asarray(x), SPLIT, seed, lengths if event.is_heard else [])


if __name__ == '__main__':
  cli.run(main)
