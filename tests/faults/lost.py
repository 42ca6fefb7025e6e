"""Loses one of several processes that train together; the others must end, and name it.

  python -m tests.faults.lost --workdir=runs/lost --processes=2 --count=20

Run it in the repository. It starts training in processes on this machine, ends one of them at a
random moment by SIGKILL, or stops it by SIGSTOP with --stop, and prints what the others say. The
moment is after the first checkpoint, or with --start_up in the seconds after all have met.
Exit code 1 if one of them says something else than that this one is lost, or ends otherwise.
"""

import os
import pathlib
import random
import shutil
import signal
import time

from absl import app, flags

from afslvm.training.roll_call import is_refused
from tests.training import test_processes

flags.DEFINE_string('workdir', None, 'Folder that is made, and emptied.', required=True)
flags.DEFINE_integer('processes', 2, 'How many train together.', lower_bound=2)
flags.DEFINE_integer('count', 20, 'How often.', lower_bound=1)
flags.DEFINE_bool('stop', False, 'SIGSTOP instead of SIGKILL.')
flags.DEFINE_bool('start_up', False, 'Before anything is trained.')
flags.DEFINE_integer('seed', 0, 'Of the moments.')


def main(argv):
  del argv
  args = flags.FLAGS
  rng, failures = random.Random(args.seed), 0
  number = signal.SIGSTOP if args.stop else signal.SIGKILL
  for trial in range(args.count):
    victim, delay = trial % args.processes, rng.random()
    for code, line, seconds in survivors(pathlib.Path(args.workdir), victim, number, delay):
      good = code == 6 and line.startswith(f'error: process {victim} of {args.processes} ')
      failures += not good
      print(f'{"good" if good else "BAD "} {seconds:5.1f} s  exit {code}  {line[:120]}', flush=True)
  print(f'{args.count} losses, {failures} bad ends')
  return 1 if failures else 0


def survivors(workdir, victim, number, delay):
  """Exit code, line and seconds after the signal, of each of the others."""
  shutil.rmtree(workdir, ignore_errors=True)
  count = flags.FLAGS.processes
  options = f'--config.train.batch_size={4 * count}', '--config.train.num_steps=100000'
  with test_processes.together(workdir, dict(os.environ), *options, count=count) as started:
    if flags.FLAGS.start_up:
      address = next(a for a in started[0].args if '--coordinator=' in a).partition('=')[2]
      while is_refused(address):
        time.sleep(0.1)
      time.sleep(1.5 + 4 * delay)
    else:
      test_processes.wait_for_checkpoint(workdir, 4)
      time.sleep(delay)
    started[victim].send_signal(number)
    began = time.monotonic()
    others = [process for index, process in enumerate(started) if index != victim]
    return [(*test_processes.ended(p), time.monotonic() - began) for p in others]


if __name__ == '__main__':
  app.run(main)
