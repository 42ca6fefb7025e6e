"""Scores a trained model: python launch/evaluate.py --workdir=runs/smoke [--protocol=discrete].

Writes WORKDIR/evaluation/PROTOCOL.json and prints the table. The checkpoint is the best by
validation unless --checkpoint says otherwise. An evaluation that is already there is used again.
"""

import dataclasses
import logging

from absl import flags

from afslvm import cli

log = logging.getLogger('afslvm.evaluate')

flags.DEFINE_string('workdir', None, 'Folder of the run.', required=True)
flags.DEFINE_string(
  'protocol',
  '',
  'af_paper, discrete, continuous, sequences or avf_paper; default by kind of data.',
)
flags.DEFINE_string('split', 'test', 'test, validation or train.')
flags.DEFINE_string('checkpoint', 'best', 'best (by validation), latest, or a step.')
flags.DEFINE_integer(
  'num_context', 0, 'Context frames; 0: what protocol and model need.', lower_bound=0
)
flags.DEFINE_integer(
  'num_samples', 0, 'Draws per sequence; 0: what the protocol says.', lower_bound=0
)
flags.DEFINE_integer(
  'num_particles', 0, 'Also the bound of a filter with so many particles.', lower_bound=0
)
flags.DEFINE_integer(
  'num_sequences', 0, 'Score the first so many sequences of the split; 0: all.', lower_bound=0
)
flags.DEFINE_integer(
  'inference_iterations', -1, 'Of an iterative inference; -1: as trained.', lower_bound=-1
)
flags.DEFINE_integer('batch_size', 32, 'Sequences at a time.', lower_bound=1)
flags.DEFINE_integer('seed', 0, 'Of the noise.', lower_bound=0, upper_bound=2**31 - 1)
flags.DEFINE_string('data_dir', '', 'Where the data lie, if they have moved since training.')


def main(argv: list[str]):
  """Evaluates, or reads the evaluation that is there."""
  del argv
  from afslvm import build, runs
  from afslvm.data import prepare
  from afslvm.evaluation import contract, protocols, store

  args = cli.FLAGS
  run, iterations = _with_iterations(runs.open_run(args.workdir, args.checkpoint, args.data_dir))
  builder, model = run.parts.dataset, run.parts.model
  protocol = protocols.find(args.protocol, builder.data_space, run.parts.data['dequantisation'])
  frames = protocols.scored_frames(protocol, model, builder.num_frames, args.num_context)
  prepare.open_split(builder, args.split)
  label = build.dataset_label(builder)
  asked = protocols.contract(protocol, model, builder, label, args.split, frames)
  settings = {
    'num_samples': args.num_samples or protocol.num_samples,
    'num_particles': args.num_particles,
    'num_sequences': args.num_sequences,
    'seed': args.seed,
  }
  if not protocol.whole_sequences:
    settings['batch_size'] = args.batch_size  # it decides the keys of the noise
  if iterations is not None:
    settings['inference_iterations'] = iterations
  identity = store.identity(asked, run.checkpoint, prepare.fingerprint(builder), **settings)
  path = store.path_of(run.path, asked, args.num_context, iterations)
  report = store.read_if_current(path, identity)
  if report is None:
    report = _evaluate(run, asked, settings['num_samples'], identity, path)
  print(contract.table([contract.LikelihoodResult.from_json(r) for r in report['results']]))
  for label, values in report['decorrelation'].items():
    print(
      f'{label:4} temporal correlation {values["temporal_correlation"]:+.3f}, '
      f'standard deviation {values["standard_deviation"]:.3f}'
    )
  print(path)


def _with_iterations(run):
  """The run with the number of inference iterations asked for, and that, or None as trained."""
  from afslvm import build

  asked = cli.FLAGS.inference_iterations
  if asked < 0:
    return run, None
  parts = build.with_iterations(run.parts, asked)
  if parts.config == run.parts.config:
    return run, None
  return dataclasses.replace(run, parts=parts), asked


def _evaluate(run, asked, samples: int, identity: dict, path) -> dict:
  from afslvm.evaluation import store
  from afslvm.training import receipt

  score = _whole_sequences if asked.whole_sequences else _frames
  results, decorrelation = score(run, asked, samples)
  return store.write(
    path,
    identity,
    results,
    decorrelation,
    parameters=run.num_parameters(),
    git_commit=receipt.git_commit(),
  )


def _frames(run, asked, samples: int) -> tuple[list, dict]:
  """Results of fixed crops, and what the flows leave."""
  from afslvm import build
  from afslvm.evaluation import likelihood
  from afslvm.training.progress import Progress

  args = cli.FLAGS
  length = asked.scored_frames[1] + 1
  evaluation = likelihood.Evaluation(
    name=build.label(run.parts.config['model']),
    model=run.parts.model,
    variables=run.variables(),
    batches=build.evaluation_batches(run.parts, args.batch_size, length),
    contract=asked,
    num_samples=samples,
    seed=args.seed,
    num_particles=args.num_particles,
    max_sequences=args.num_sequences,
  )
  sequences = run.parts.dataset.split_size(args.split)
  total = -(-min(sequences, args.num_sequences or sequences) // args.batch_size)
  progress = Progress(0, total)
  results = likelihood.evaluate(
    evaluation, lambda done: progress.advance(done, f'{args.split} batches')
  )
  return results, likelihood.decorrelation(evaluation)


def _whole_sequences(run, asked, samples: int) -> tuple[list, dict]:
  """Results of whole sequences."""
  from afslvm import build
  from afslvm.data import prepare
  from afslvm.evaluation import sequences
  from afslvm.training.progress import Progress

  args, builder = cli.FLAGS, run.parts.dataset
  evaluation = sequences.SequenceEvaluation(
    name=build.label(run.parts.config['model']),
    model=run.parts.model,
    variables=run.variables(),
    scored=sequences.batches(builder, args.split, args.batch_size, args.num_sequences),
    training=sequences.batches(builder, 'train', args.batch_size),
    contract=asked,
    num_samples=samples,
    seed=args.seed,
    num_particles=args.num_particles,
  )
  available = len(prepare.open_split(builder, args.split))
  progress = Progress(0, min(available, args.num_sequences or available))
  results = sequences.evaluate(
    evaluation, lambda done: progress.advance(done, f'{args.split} sequences')
  )
  return results, {}


if __name__ == '__main__':
  cli.run(main)
