"""Continues held-out sequences: python launch/generate.py --workdir=runs/smoke [--num_context=5].

Writes the values (npz), a strip (PNG) and an animation (GIF) of each sequence with the truth beside
them, and metrics.json: PSNR and SSIM of the samples' mean, of the best of them, of the mean path,
and of the last given frame, repeated. Music becomes piano rolls (PNG), MIDI and wav files, speech
waveforms (PNG) and wav files; these, and data of any other kind, are scored by squared errors.
"""

import dataclasses
import io
import logging
import pathlib

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
  from afslvm import building, files, runs
  from afslvm.data import prepare
  from afslvm.evaluation import prediction

  run = runs.load_run(cli.FLAGS.workdir, cli.FLAGS.checkpoint, cli.FLAGS.data_dir)
  builder = run.built.dataset
  set_defaults(builder)
  check_noise(run.built.model)
  source = prepare.open_split(builder, cli.FLAGS.split)
  scored, indices = choose(run.built.model.min_context, source)
  metrics = prediction.metrics_of(builder.event_shape, builder.data_space)
  protocol = _protocol(building.dataset_label(builder), builder, scored, len(indices))
  about = {
    'model': building.label(run.built.config['model']),
    'protocol': dataclasses.asdict(protocol),
    'checkpoint': run.checkpoint,
    'data_fingerprint': prepare.fingerprint(builder),
    'sequences': indices,
  }
  variables = run.variables
  folder = open_folder(run.path, run.checkpoint['step'], about)
  report = {**about, 'in_words': protocol.in_words().split('\n')}
  files.write_json(folder / RECORD, {**report, 'metrics': None})  # until it is known
  scores = generate(run, variables, source, about, folder)
  summaries = {}
  print(f'{about["model"]}. {report["in_words"][0]}', *report['in_words'][1:], sep='\n')
  for metric in metrics if scored else ():
    summaries[metric.name] = prediction.summarise([each[metric.name] for each in scores])
    print()
    print(prediction.table(metric, summaries[metric.name], cli.FLAGS.num_context))
  best = {name: [1 + each[name].best for each in scores] for name in summaries}
  files.write_json(folder / RECORD, {**report, 'metrics': summaries, 'best_sample': best})
  print(folder)


# ---- what is asked -------------------------------------------------------------------------------


def set_defaults(builder):
  """Gives flags without a value that of the kind of data."""
  event, args = _event(builder), cli.FLAGS
  if args.num_context is None:
    args.num_context = event.context_steps
  if args.num_frames is None:
    args.num_frames = event.predicted_steps


def check_noise(model):
  """Raises ConfigError where samples have no noise but that of the likelihood."""
  from afslvm.errors import ConfigError

  if not cli.FLAGS.likelihood_noise and model.bound == 'exact':
    raise ConfigError(
      '--likelihood_noise=0: this model has no latent variables; use --temperature=0 for its means'
    )


def _event(builder):
  from afslvm.visualization import events

  return events.event_of(builder, cli.FLAGS.step_seconds)


def choose(min_context: int, source) -> tuple[int, list[int]]:
  """How many predicted frames enough sequences have, and a random choice of those sequences.

  Raises:
    ConfigError: less context than the model needs, or more than the data have.
  """
  import numpy as np

  from afslvm.errors import ConfigError
  from afslvm.evaluation import prediction

  args, frames = cli.FLAGS, source.num_frames
  if args.num_context < min_context:
    raise ConfigError(
      f'--num_context={args.num_context} is too short: this model needs {min_context}'
    )
  if args.num_context > frames:
    raise ConfigError(
      f'--num_context={args.num_context} is too long: the sequences of split {args.split} have '
      f'{frames} frames'
    )
  lengths = np.full(len(source), frames) if source.lengths is None else source.lengths
  scored = prediction.common_frames(lengths, args.num_context, args.num_frames, args.num_sequences)
  candidates = np.flatnonzero(lengths >= args.num_context + scored)
  if len(candidates) < len(lengths):
    log.info('%d of %d sequences are long enough', len(candidates), len(lengths))
  if len(candidates) < args.num_sequences:
    log.info('all %d sequences are used, --num_sequences asks for more', len(candidates))
  order = np.random.default_rng(args.seed).permutation(candidates)
  return scored, [int(index) for index in order[: args.num_sequences]]


def _protocol(dataset: str, builder, scored: int, num_sequences: int):
  from afslvm.evaluation import prediction

  args = cli.FLAGS
  frames = _are_frames(builder)
  return prediction.PredictionProtocol(
    dataset=dataset,
    split=args.split,
    num_sequences=num_sequences,
    context_frames=args.num_context,
    predicted_frames=args.num_frames,
    scored_frames=scored,
    num_samples=args.num_samples,
    temperature=args.temperature,
    seed=args.seed,
    data_range=1.0 if frames else None,
    likelihood_noise=args.likelihood_noise,
    clipped=frames,
    ssim_window=prediction.ssim_window(builder.event_shape) if frames else None,
  )


def _are_frames(builder) -> bool:
  return _event(builder).kind == 'frames' and builder.data_space == '8bit'


def open_folder(workdir: pathlib.Path, step: int, about: dict) -> pathlib.Path:
  """The output's folder; it holds nothing, or what the same command wrote.

  Raises:
    ConfigError: it holds the answer to another question.
  """
  import json

  from afslvm.errors import ConfigError

  args, asked = cli.FLAGS, about['protocol']
  name = (
    f'{args.split}_step{step}_context{args.num_context}_frames{args.num_frames}'
    f'_samples{args.num_samples}_temperature{args.temperature:g}'
    f'_sequences{asked["num_sequences"]}_seed{args.seed}'
    + ('' if args.likelihood_noise else '_means')
  )
  folder = pathlib.Path(args.output).expanduser() if args.output else workdir / 'generated' / name
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


# ---- generation ----------------------------------------------------------------------------------


def generate(run, variables, source, about: dict, folder: pathlib.Path) -> list[dict]:
  """Continues each sequence, writes its files, and scores it: [{metric: `prediction.Scores`}]."""
  import jax
  import numpy as np

  from afslvm.evaluation import prediction
  from afslvm.training.progress import Progress
  from afslvm.transforms import preprocessing
  from afslvm.visualization import listening

  args, builder = cli.FLAGS, run.built.dataset
  indices, scored = about['sequences'], about['protocol']['scored_frames']
  metrics = prediction.metrics_of(builder.event_shape, builder.data_space)
  event = _event(builder)
  sample = prediction.make_sampler(
    run.built.model, args.num_frames, args.num_samples, args.temperature, args.likelihood_noise
  )
  log.info('compiling')
  scores, progress = [], Progress(0, len(indices))
  for place, index in enumerate(indices):
    stored = source[index][: args.num_context + scored]
    noise, key = jax.random.split(jax.random.fold_in(jax.random.key(args.seed), index))
    kind = run.built.dequantisation
    context = preprocessing.dequantise(noise, stored[: args.num_context], kind)
    samples, mean_path = (
      preprocessing.without_noise(v, kind) for v in sample(variables, context, key)
    )
    truth = np.asarray(stored, np.float32)
    if builder.data_space == '8bit':
      truth = truth / 255
    if _are_frames(builder):
      samples, mean_path = (np.clip(values, 0.0, 1.0) for values in (samples, mean_path))
    found = {}
    if scored:
      last = truth[args.num_context - 1] if args.num_context else None
      future = truth[args.num_context :]
      found = {m.name: prediction.score(m, future, samples, mean_path, last) for m in metrics}
    scores.append(found)
    path = folder / f'{args.split}_{index:05d}'
    write_values(path, stored, np.asarray(context), samples, mean_path)
    if _are_frames(builder) and place < args.num_pictures:
      write_pictures(path, truth, samples, mean_path, found)
    if event.is_heard and place < args.num_pictures:
      listening.write(path, event, truth, mean_path, samples, args.num_context)
    progress.advance(place + 1, 'sequences')
  return scores


def write_values(path: pathlib.Path, stored, context, samples, mean_path):
  """Everything of a sequence; clipped frames are rounded to 8 bits, other values as they are."""
  import numpy as np

  if stored.ndim == 4 and stored.dtype == np.uint8:
    samples, mean_path = (np.round(255 * v).astype(np.uint8) for v in (samples, mean_path))
  file = io.BytesIO()
  np.savez_compressed(file, truth=stored, context=context, samples=samples, mean_path=mean_path)
  path.with_suffix('.npz').write_bytes(file.getvalue())


def write_pictures(path: pathlib.Path, truth, samples, mean_path, found: dict):
  """The strip and the animation of a sequence of frames."""
  from afslvm.visualization import predictions

  rows = {'mean path': mean_path, 'sample mean': samples.mean(axis=0)}
  if found:
    rows['best PSNR'] = samples[found['psnr'].best]
  shown = predictions.rows(truth, rows, samples, cli.FLAGS.num_context)
  path.with_suffix('.png').write_bytes(predictions.picture(shown, cli.FLAGS.num_context))
  path.with_suffix('.gif').write_bytes(predictions.animation(shown, cli.FLAGS.num_context))


if __name__ == '__main__':
  cli.run(main)
