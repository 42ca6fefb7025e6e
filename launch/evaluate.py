"""Scores a trained model: python launch/evaluate.py --workdir=runs/smoke [--protocol=discrete].

Writes WORKDIR/evaluation/PROTOCOL.json and prints the table. The checkpoint is the best by
validation unless --checkpoint says otherwise. An evaluation that is already there is used again.
"""

import dataclasses

from absl import flags

from afslvm import cli

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
  from afslvm import run_evaluation, runs
  from afslvm.evaluation import contract
  from afslvm.training.progress import Progress

  args = cli.FLAGS
  run = runs.load_run(args.workdir, args.checkpoint, args.data_dir)
  names = [field.name for field in dataclasses.fields(run_evaluation.Options)]
  options = run_evaluation.Options(**{name: args[name].value for name in names})
  progress: list[Progress] = []

  def show(done: int, total: int, what: str):
    if not progress:
      progress.append(Progress(0, total))
    progress[0].advance(done, what)

  report, path = run_evaluation.evaluate_to_file(run, options, show)
  print(contract.table([contract.LikelihoodResult.from_json(r) for r in report['results']]))
  for label, values in report['decorrelation'].items():
    print(
      f'{label:4} temporal correlation {values["temporal_correlation"]:+.3f}, '
      f'standard deviation {values["standard_deviation"]:.3f}'
    )
  print(path)


if __name__ == '__main__':
  cli.run(main)
