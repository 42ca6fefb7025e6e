"""Continues held-out sequences: python launch/generate.py --workdir=runs/smoke [--num_context=5].

Writes the values (npz), a strip (PNG) and an animation (GIF) of each sequence with the truth beside
them, and metrics.json: PSNR and SSIM of the samples' mean, of the best of them, of the mean path,
and of the last given frame, repeated. Music becomes piano rolls (PNG), MIDI and wav files, speech
waveforms (PNG) and wav files; these, and data of any other kind, are scored by squared errors.
--compare_temperatures=0,0.5,1 adds a strip and an animation of one sample at each temperature.
"""

import dataclasses
import io
import logging
import pathlib
from typing import NamedTuple

from absl import flags

from afslvm import cli

log = logging.getLogger('afslvm.generate')

flags.DEFINE_string('workdir', None, 'Folder of the run.', required=True)
flags.DEFINE_integer(
  'num_context', None, 'Steps that are given; default 5, of music 16.', lower_bound=0
)
flags.DEFINE_integer(
  'num_frames',
  None,
  'Steps to predict after them; default 20, of music 48, of speech 40.',
  lower_bound=1,
)
flags.DEFINE_integer('num_samples', 8, 'Continuations of each sequence.', lower_bound=1)
flags.DEFINE_float(
  'temperature', 1.0, 'Scales all standard deviations of the samples.', lower_bound=0.0
)
flags.DEFINE_list(
  'compare_temperatures',
  [],
  'Of frames: also draw the same noise at each of these temperatures, side by side.',
)
flags.DEFINE_boolean(
  'likelihood_noise',
  True,
  'With 0, of latent variable models: latent variables are drawn, and the likelihood’s mean taken.',
)
flags.DEFINE_integer('num_sequences', 32, 'Sequences to continue and score.', lower_bound=1)
flags.DEFINE_integer('num_pictures', 8, 'So many of them are drawn, and sound.', lower_bound=0)
flags.DEFINE_float(
  'step_seconds', 0.25, 'How long a step of music is played.', lower_bound=0.01, upper_bound=10.0
)
flags.DEFINE_integer(
  'seed', 0, 'Of sequences, noise and samples.', lower_bound=0, upper_bound=2**31 - 1
)
flags.DEFINE_string('split', 'test', 'test, validation or train.')
flags.DEFINE_string('checkpoint', 'best', 'best (by validation), latest, or a step.')
flags.DEFINE_string('data_dir', '', 'Where the data lie, if they have moved since training.')
flags.DEFINE_string('output', '', 'Folder; default: WORKDIR/generated/..., named by the flags.')

RECORD = 'metrics.json'


def main(argv: list[str]):
  """Generates, scores, and prints the tables."""
  del argv
  from afslvm import files, run_predictions, runs
  from afslvm.data import prepare
  from afslvm.evaluation import prediction

  args = cli.FLAGS
  run = runs.load_run(args.workdir, args.checkpoint, args.data_dir)
  names = [field.name for field in dataclasses.fields(run_predictions.Options)]
  options = run_predictions.Options(**{name: args[name].value for name in names})
  temperatures = checked_temperatures(run, args.compare_temperatures)
  protocol, indices = run_predictions.plan(run, options)
  about = {
    'model': run.label,
    'protocol': dataclasses.asdict(protocol),
    'checkpoint': run.checkpoint,
    'data_fingerprint': prepare.fingerprint(run.dataset),
    'sequences': indices,
  }
  folder = open_folder(run.path, args.output, about)
  report = {**about, 'in_words': protocol.in_words().split('\n')}
  files.write_json(folder / RECORD, {**report, 'metrics': None})  # until it is known
  shown = Shown(args.num_pictures, args.step_seconds, temperatures)
  scores = write_all(run, protocol, indices, folder, shown)
  summaries = {}
  print(f'{about["model"]}. {report["in_words"][0]}', *report['in_words'][1:], sep='\n')
  for metric in run_predictions.metrics_of(run) if protocol.scored_frames else ():
    summaries[metric.name] = prediction.summarise([each[metric.name] for each in scores])
    print()
    print(prediction.table(metric, summaries[metric.name], protocol.context_frames))
  best = {name: [1 + each[name].best for each in scores] for name in summaries}
  files.write_json(folder / RECORD, {**report, 'metrics': summaries, 'best_sample': best})
  print(folder)


class Shown(NamedTuple):
  """What is drawn, and how it sounds."""

  num_pictures: int
  step_seconds: float
  temperatures: list[float]  # that are compared


def checked_temperatures(run, given: list[str]) -> list[float]:
  """The numbers of --compare_temperatures.

  Raises:
    ConfigError: one is not a number, 0 or more, or the data are no frames.
  """
  import math

  from afslvm import run_predictions
  from afslvm.errors import ConfigError

  if given and not run_predictions.are_frames(run):
    raise ConfigError('--compare_temperatures: only frames are compared; leave the flag out')
  found = []
  for text in given:
    try:
      found.append(float(text))
    except ValueError:
      found.append(math.nan)
    if not 0 <= found[-1] < math.inf:
      raise ConfigError(f'--compare_temperatures={text} must be numbers, such as 0,0.5,1')
  return found


def open_folder(workdir: pathlib.Path, output: str, about: dict) -> pathlib.Path:
  """The output's folder; it holds nothing, or what the same command wrote.

  Raises:
    ConfigError: it holds the answer to another question.
  """
  import json

  from afslvm.errors import ConfigError

  asked = about['protocol']
  name = (
    f'{asked["split"]}_step{about["checkpoint"]["step"]}_context{asked["context_frames"]}'
    f'_frames{asked["predicted_frames"]}_samples{asked["num_samples"]}'
    f'_temperature{asked["temperature"]:g}_sequences{asked["num_sequences"]}_seed{asked["seed"]}'
    + ('' if asked['likelihood_noise'] else '_means')
  )
  folder = pathlib.Path(output).expanduser() if output else workdir / 'generated' / name
  if folder.exists() and not folder.is_dir():
    raise ConfigError(f'--output={folder} is a file; name a folder')
  if folder.is_dir() and any(folder.iterdir()):
    try:
      found = json.loads((folder / RECORD).read_text())
      same = {key: found[key] for key in about} == json.loads(json.dumps(about))
    except (OSError, ValueError, KeyError, TypeError):
      same = False
    if not same:
      raise ConfigError(f'{folder} holds something else already; choose another --output')
  folder.mkdir(parents=True, exist_ok=True)
  return folder


# ---- files ---------------------------------------------------------------------------------------


def write_all(run, protocol, indices: list[int], folder: pathlib.Path, shown: Shown) -> list[dict]:
  """Writes the files of each sequence; returns their scores, [{metric: `prediction.Scores`}]."""
  from afslvm import run_predictions
  from afslvm.training.progress import Progress
  from afslvm.visualization import events, listening

  event = events.event_of(run.dataset, shown.step_seconds)
  log.info('compiling')
  compare = None
  if shown.temperatures:
    compare = run_predictions.at_temperatures(run, protocol, shown.temperatures)
  scores, progress = [], Progress(0, len(indices))
  for place, found in enumerate(run_predictions.predict(run, protocol, indices)):
    scores.append(found.scores)
    path = folder / f'{protocol.split}_{found.index:05d}'
    write_values(path, found)
    if run_predictions.are_frames(run) and place < shown.num_pictures:
      write_pictures(path, found)
      if compare is not None:
        write_comparison(path, found, shown.temperatures, compare(found))
    if event.is_heard and place < shown.num_pictures:
      given = len(found.context)
      listening.write(path, event, found.truth, found.mean_path, found.samples, given)
    progress.advance(place + 1, 'sequences')
  return scores


def write_values(path: pathlib.Path, found):
  """Everything of a sequence; clipped frames are rounded to 8 bits, other values as they are."""
  import numpy as np

  samples, mean_path = found.samples, found.mean_path
  if found.stored.ndim == 4 and found.stored.dtype == np.uint8:
    samples, mean_path = (np.round(255 * v).astype(np.uint8) for v in (samples, mean_path))
  file = io.BytesIO()
  np.savez_compressed(
    file, truth=found.stored, context=found.context, samples=samples, mean_path=mean_path
  )
  path.with_suffix('.npz').write_bytes(file.getvalue())


def write_pictures(path: pathlib.Path, found):
  """The strip and the animation of a sequence of frames."""
  from afslvm.visualization import predictions

  rows = {'mean path': found.mean_path, 'sample mean': found.samples.mean(axis=0)}
  if found.scores:
    rows['best PSNR'] = found.samples[found.scores['psnr'].best]
  given = len(found.context)
  shown = predictions.rows(found.truth, rows, found.samples, given)
  path.with_suffix('.png').write_bytes(predictions.picture(shown, given))
  path.with_suffix('.gif').write_bytes(predictions.animation(shown, given))


def write_comparison(path: pathlib.Path, found, temperatures: list[float], drawn):
  """A strip and an animation of one noise at several temperatures, `drawn` [K, F, H, W, C]."""
  from afslvm.visualization import predictions

  rows = {f'T = {t:g}': row for t, row in zip(temperatures, drawn, strict=True)}
  given = len(found.context)
  shown = predictions.rows(found.truth, rows, found.samples[:0], given)
  beside = path.with_name(f'{path.name}_temperatures')
  beside.with_suffix('.png').write_bytes(predictions.picture(shown, given))
  beside.with_suffix('.gif').write_bytes(predictions.animation(shown, given))


if __name__ == '__main__':
  cli.run(main)
