"""Scores a trained model: python launch/evaluate.py --workdir=runs/smoke [--protocol=discrete].

Writes WORKDIR/evaluation/PROTOCOL.json and prints the table. The checkpoint is the best by
validation unless --checkpoint says otherwise. An evaluation that is already there is used again.
"""

import logging

from absl import flags

from afslvm import cli

log = logging.getLogger('afslvm.evaluate')

flags.DEFINE_string('workdir', None, 'Folder of the run.', required=True)
flags.DEFINE_string('protocol', '', 'af_paper, discrete or continuous; default by kind of data.')
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
  run = runs.open_run(args.workdir, args.checkpoint, args.data_dir)
  builder = run.parts.dataset
  protocol = protocols.find(args.protocol, builder.data_space)
  frames = protocols.scored_frames(protocol, run.parts.model, builder.num_frames, args.num_context)
  asked = contract.LikelihoodContract(
    protocol=protocol.name,
    dataset=build.dataset_label(run.parts.dataset),
    split=args.split,
    data_space=builder.data_space,
    dequantisation=protocol.dequantisation,
    context_frames=frames[0],
    scored_frames=frames,
  )
  samples = args.num_samples or protocol.num_samples
  prepare.open_split(builder, args.split)
  fingerprint = prepare.fingerprint(builder)
  settings = {
    'num_samples': samples,
    'num_particles': args.num_particles,
    'num_sequences': args.num_sequences,
    'seed': args.seed,
    'batch_size': args.batch_size,
  }
  identity = store.identity(asked, run.checkpoint, fingerprint, **settings)
  path = store.path_of(run.path, asked, args.num_context)
  report = store.read_if_current(path, identity)
  if report is None:
    report = _evaluate(run, asked, samples, identity, path)
  print(contract.table([contract.LikelihoodResult.from_json(r) for r in report['results']]))
  for label, values in report['decorrelation'].items():
    print(
      f'{label:4} temporal correlation {values["temporal_correlation"]:+.3f}, '
      f'standard deviation {values["standard_deviation"]:.3f}'
    )
  print(path)


def _evaluate(run, asked, samples: int, identity: dict, path) -> dict:
  from afslvm import build
  from afslvm.evaluation import likelihood, store
  from afslvm.training import receipt
  from afslvm.training.progress import Progress

  args = cli.FLAGS
  length = asked.scored_frames[1] + 1
  batches = build.evaluation_batches(run.parts, args.batch_size, length)
  evaluation = likelihood.Evaluation(
    name=build.label(run.parts.config['model']),
    model=run.parts.model,
    variables=run.variables(),
    batches=batches,
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
  return store.write(
    path,
    identity,
    results,
    likelihood.decorrelation(evaluation),
    parameters=run.num_parameters(),
    git_commit=receipt.git_commit(),
  )


if __name__ == '__main__':
  cli.run(main)
