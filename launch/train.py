"""Trains a model: python launch/train.py --config=configs/smoke.py --workdir=runs/smoke.

Every config value can be overridden: --config.train.num_steps=100. Running the same command again
continues from the newest good checkpoint, or returns at once when the budget is used up.

Several processes train together when each is started with the same command and --coordinator,
--num_processes and --process_id, or with --distributed; see launch/README.md.
"""

import signal

from absl import flags

from afslvm import cli

cli.define_config()
flags.DEFINE_string('workdir', None, 'Folder of this run.', required=True)
flags.DEFINE_string('coordinator', '', 'HOST:PORT of the first of several processes.')
flags.DEFINE_integer('num_processes', 0, 'How many processes train together.')
flags.DEFINE_integer('process_id', -1, 'Which of them this is, from 0.')
flags.DEFINE_bool('distributed', False, 'Find these out from the TPU pod, SLURM or MPI.')


def main(argv: list[str]) -> int:
  """Returns 0, or 128 + the number of the signal that stopped training."""
  del argv
  from afslvm import building

  parts = building.build(cli.FLAGS.config)

  from afslvm.training import processes
  from afslvm.training.loop import train
  from afslvm.training.workdir import Workdir

  values = cli.FLAGS
  processes.connect(values.coordinator, values.num_processes, values.process_id, values.distributed)
  try:
    with Workdir(values.workdir, writes=processes.is_first()) as workdir:
      stopped_by = train(workdir, building.experiment(parts))
  except BaseException as error:
    if processes.are_many():  # the interpreter's own end would wait for the others
      processes.leave(cli.ended_by(processes.explain(error) or error))
    raise
  return 128 + signal.Signals(stopped_by) if stopped_by else 0


if __name__ == '__main__':
  cli.run(main)
