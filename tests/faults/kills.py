"""Kills training at random moments; what is left must equal a run that nothing stopped.

  python -m tests.faults.kills --workdir=runs/kills --kills=50

Run it in the repository. It trains a tiny model with an asynchronous save every three steps, ends
it by SIGKILL in start-up, between steps and during saves, starts the same command again, lets the
last one finish, and compares final parameters and all records with those of an undisturbed run.
Exit code 1 if one bit differs.
"""

import collections
import hashlib
import json
import os
import pathlib
import random
import subprocess
import sys
import time

from absl import flags

from afslvm import cli
from afslvm.training.progress import format_duration

ROOT = pathlib.Path(__file__).resolve().parents[2]
STEPS_PER_KILL = 14
IN_START_UP = 0.2  # share of the kills
OPTIONS = (
  '--config=configs/smoke.py',
  '--config.train.checkpoint_every=3',
  '--config.train.eval_every=40',
  '--config.train.log_every=1',
  '--config.optimizer.ema_decay=0.9',
)


def start(workdir, environment, options):
  """Starts training."""
  return subprocess.Popen(
    [sys.executable, 'launch/train.py', *options, f'--workdir={workdir}'],
    cwd=ROOT,
    env=environment,
    stderr=subprocess.PIPE,
    stdout=subprocess.DEVNULL,
    text=True,
  )


def last_step(workdir):
  """The step of the last whole line of metrics.jsonl, 0 if there is none."""
  path = workdir / 'metrics.jsonl'
  lines = path.read_text().splitlines(keepends=True) if path.exists() else []
  whole = [line for line in lines if line.endswith('}\n')]
  return json.loads(whole[-1])['step'] if whole else 0


def kill(process, workdir, step, delay, timeout=120):
  """SIGKILL, `delay` seconds after records hold `step`; returns the log, or '' if it ended before.

  Raises:
    TimeoutError: the step doesn't come.
  """
  deadline = time.monotonic() + timeout
  while process.poll() is None and last_step(workdir) < step:
    if time.monotonic() > deadline:
      process.kill()
      raise TimeoutError(f'no step {step} within {timeout} s')
    time.sleep(0.002)
  time.sleep(delay)
  process.kill()
  _, log = process.communicate()
  return log if process.returncode < 0 else ''


def unfinished(workdir):
  """Whether a checkpoint was being written."""
  folders = (workdir / 'checkpoints').glob('*')
  return any('tmp' in p.name or not (p / 'MANIFEST.afslvm.json').exists() for p in folders)


def outcome(workdir):
  """What must be the same: the parameters of the last checkpoint, and all records."""
  newest = max(int(p.name) for p in (workdir / 'checkpoints').iterdir() if p.name.isdigit())
  manifest = workdir / 'checkpoints' / str(newest) / 'MANIFEST.afslvm.json'
  return {
    'last step': newest,
    'parameters': json.loads(manifest.read_text())['parameters_sha256'],
    'metrics.jsonl': hashlib.sha256((workdir / 'metrics.jsonl').read_bytes()).hexdigest(),
  }


def finish(workdir, environment, options):
  """Trains to the end; returns the seconds until the first record.

  Raises:
    RuntimeError: training failed.
  """
  process, begun = start(workdir, environment, options), time.monotonic()
  while process.poll() is None and not last_step(workdir):
    time.sleep(0.01)
  until_first = time.monotonic() - begun
  _, log = process.communicate()
  if process.returncode or 'Traceback' in log:
    raise RuntimeError(f'training ended with {process.returncode}:\n{log}')
  return until_first


def main(argv):
  """Returns 0 if nothing differs."""
  del argv
  kills, folder = cli.FLAGS.kills, pathlib.Path(cli.FLAGS.workdir).absolute()
  rng = random.Random(cli.FLAGS.seed)
  straight, killed = folder / 'straight', folder / 'killed'
  cached = {
    'JAX_COMPILATION_CACHE_DIR': str(folder / 'compiled'),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
  }
  environment = {'JAX_PLATFORMS': 'cpu', **os.environ, **cached}
  options = (*OPTIONS, f'--config.train.num_steps={STEPS_PER_KILL * kills + 60}')
  finish(straight, environment, options)
  # Again, to know how long start-up takes when programs are compiled already.
  start_up = finish(folder / 'again', environment, options)
  counts, begun = collections.Counter(), time.monotonic()
  for number in range(1, kills + 1):
    process = start(killed, environment, options)
    early = rng.random() < IN_START_UP
    reached = last_step(killed)
    step = 0 if early else reached + rng.randint(1, 2 * STEPS_PER_KILL - 8)
    log = kill(process, killed, step, rng.uniform(0, start_up if early else 0.1))
    if 'Traceback' in log or not (log or early):
      raise RuntimeError(f'kill {number} after step {step} met {log or "a finished run"}')
    counts['kills'] += 1
    counts['in start-up'] += early
    counts['while a checkpoint was written'] += unfinished(killed)
    left = (time.monotonic() - begun) / number * (kills - number)
    print(f'kill {number}/{kills} at step {last_step(killed)}, {format_duration(left)} left')
  finish(killed, environment, options)
  expected, found = outcome(straight), outcome(killed)
  for name, count in counts.items():
    print(f'{name:32} {count}')
  for name, value in expected.items():
    same = 'the same' if found[name] == value else f'DIFFERS: {found[name]}'
    print(f'{name:32} {str(value)[:16]} {same}')
  return int(found != expected)


if __name__ == '__main__':
  flags.DEFINE_integer('kills', 50, 'How often training is killed.', lower_bound=1)
  flags.DEFINE_integer('seed', 0, 'Of the moments.')
  flags.DEFINE_string('workdir', None, 'An empty or new folder.', required=True)
  cli.run(main)
