"""Trains a model: python launch/train.py --config=configs/smoke.py --workdir=runs/smoke.

Every config value can be overridden: --config.train.num_steps=100. Running the same command again
continues from the newest good checkpoint, or returns at once when the budget is used up.
"""

import signal

from absl import flags

from afslvm import cli

cli.define_config()
flags.DEFINE_string('workdir', None, 'Folder of this run.', required=True)


def main(argv: list[str]) -> int:
  """Returns 0, or 128 + the number of the signal that stopped training."""
  del argv
  from afslvm import build

  parts = build.parts(cli.FLAGS.config)

  from afslvm.training.loop import train
  from afslvm.training.workdir import Workdir

  with Workdir(cli.FLAGS.workdir) as workdir:
    stopped_by = train(workdir, build.experiment(parts))
  return 128 + signal.Signals(stopped_by) if stopped_by else 0


if __name__ == '__main__':
  cli.run(main)
