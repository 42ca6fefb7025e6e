"""The launchers for machines that tests don't have: what they would call, seen by stand-ins."""

import dataclasses
import json
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
BASH = shutil.which('bash') or 'bash'
TPU_POD, SLURM = ROOT / 'launch' / 'tpu_pod.sh', ROOT / 'launch' / 'slurm.sbatch'
TOOLS = ('dirname', 'mkdir', 'sed', 'seq', 'sleep')
# Appends its name and arguments, a JSON list a line, to the file in RECORD.
RECORDS = """{python} -S -c '
import json, os, sys
open(os.environ["RECORD"], "a").write(json.dumps(sys.argv[1:]) + "\\n")' {name} "$@"
"""


@dataclasses.dataclass
class Machine:
  """A machine with a few tools and stand-ins for others; what these are called with is kept."""

  folder: pathlib.Path

  def __post_init__(self):
    self.bin = self.folder / 'bin'
    self.bin.mkdir()
    for tool in TOOLS:  # scripts and no links: what replaces one must never reach the real tool
      self._write(tool, f'exec {shutil.which(tool)} "$@"')

  def _write(self, name, script):
    path = self.bin / name
    path.write_text(f'#!{BASH}\n{script}\n')
    path.chmod(0o755)

  def add(self, name, script=''):
    """A stand-in that records its call and then runs `script`."""
    self._write(name, RECORDS.format(python=shlex.quote(sys.executable), name=name) + script)

  @property
  def calls(self):
    path = self.folder / 'calls'
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

  def run(self, script, *arguments, answer='', cwd=ROOT, **variables):
    environment = {'PATH': str(self.bin), 'HOME': str(self.folder), **variables}
    return subprocess.run(
      [BASH, str(script), *map(str, arguments)],
      env={**environment, 'RECORD': str(self.folder / 'calls')},
      cwd=cwd,
      input=answer,
      capture_output=True,
      text=True,
      timeout=60,
    )


@pytest.fixture
def machine(tmp_path):
  return Machine(tmp_path)


@pytest.mark.skipif(not shutil.which('shellcheck'), reason='shellcheck is not installed')
@pytest.mark.parametrize('script', [TPU_POD, SLURM], ids=lambda path: path.name)
def test_shellcheck_finds_no_error(script):
  done = subprocess.run(['shellcheck', '--severity=error', script], capture_output=True, text=True)
  assert done.returncode == 0, done.stdout


# ---- TPU pods ------------------------------------------------------------------------------------

PLACE = ('--name=pod', '--zone=us-central2-b')
TPU = ['gcloud', 'compute', 'tpus', 'tpu-vm']
TRAIN = ('python', 'launch/train.py', '--distributed', "--config.data.source=it's $HOME/a b")


@pytest.mark.parametrize(
  ('arguments', 'expected'),
  [
    (
      ('create', '--type=v4-32', '--spot', '--project=p'),
      [
        *(*TPU, 'create', 'pod', '--accelerator-type=v4-32', '--version=tpu-ubuntu2204-base'),
        *('--spot', '--zone=us-central2-b', '--project=p'),
      ],
    ),
    (
      ('create', '--type=v6e-16', '--version=mine'),
      [
        *(*TPU, 'create', 'pod', '--accelerator-type=v6e-16', '--version=mine'),
        '--zone=us-central2-b',
      ],
    ),
    (
      ('fetch',),
      [*TPU, 'scp', '--recurse', 'pod:afslvm/runs', '.', '--worker=0', '--zone=us-central2-b'],
    ),
    (('delete', '--yes'), [*TPU, 'delete', 'pod', '--quiet', '--zone=us-central2-b']),
  ],
  ids=['create', 'version', 'fetch', 'delete'],
)
def test_gcloud_is_called_as_the_dry_run_says(machine, arguments, expected):
  machine.add('gcloud')
  shown = machine.run(TPU_POD, *PLACE, '--dry_run', *arguments)
  assert (shown.returncode, shown.stderr, machine.calls) == (0, '', [])
  assert shlex.split(shown.stdout.splitlines()[-1]) == expected
  done = machine.run(TPU_POD, *PLACE, *arguments)
  assert (done.returncode, done.stdout) == (0, shown.stdout)
  assert machine.calls == [expected]


def test_a_command_reaches_every_worker_word_for_word(machine):
  machine.add('gcloud')
  done = machine.run(TPU_POD, 'run', *TRAIN, NAME='pod', ZONE='z', TYPE='v4-32')
  assert done.returncode == 0, done.stderr
  [call] = machine.calls
  assert call[:7] == [*TPU, 'ssh', 'pod', '--worker=all']
  shown = machine.run(TPU_POD, '--dry_run', 'run', *TRAIN, NAME='pod', ZONE='z', TYPE='v4-32')
  assert [shlex.split(line) for line in shown.stdout.splitlines()] == machine.calls == [call]
  remote = call[7].removeprefix('--command=')
  assert remote.startswith('cd afslvm && . launch/setup_env.sh && exec python launch/train.py ')
  assert tuple(shlex.split(remote.partition('exec ')[2])) == TRAIN


def test_install_copies_the_commit_and_makes_the_environment(machine):
  for name in ('gcloud', 'git', 'mkdir', 'rm'):
    machine.add(name)
  done = machine.run(TPU_POD, *PLACE, 'install')
  assert done.returncode == 0, done.stderr
  _, archive, copy, remove, install = machine.calls
  assert archive[:4] == ['git', '-C', str(ROOT), 'archive']
  assert archive[-1] == 'HEAD'
  place = archive[-2].removeprefix('--output=')
  assert copy[4:8] == ['scp', place, 'pod:afslvm.tar.gz', '--worker=all']
  assert remove == ['rm', place]
  assert install[4:7] == ['ssh', 'pod', '--worker=all']
  command = install[7].removeprefix('--command=')
  assert 'AFSLVM_EXTRA=tpu; . launch/setup_env.sh' in command
  assert subprocess.run([BASH, '-n', '-c', command]).returncode == 0
  shown = machine.run(TPU_POD, *PLACE, '--dry_run', 'install')
  assert [shlex.split(line) for line in shown.stdout.splitlines()] == machine.calls


def test_stopping_reaches_every_worker(machine):
  machine.add('gcloud')
  done = machine.run(TPU_POD, *PLACE, 'stop')
  assert done.returncode == 0, done.stderr
  [call] = machine.calls
  assert call[4:7] == ['ssh', 'pod', '--worker=all']
  shown = machine.run(TPU_POD, *PLACE, '--dry_run', 'stop')
  assert [shlex.split(line) for line in shown.stdout.splitlines()] == machine.calls == [call]


@pytest.mark.parametrize(
  ('answer', 'deleted'), [('y\n', True), ('n\n', False), ('', False)], ids=['y', 'n', 'nobody']
)
def test_deleting_is_asked_about(machine, answer, deleted):
  machine.add('gcloud')
  done = machine.run(TPU_POD, *PLACE, 'delete', answer=answer)
  assert (done.returncode, bool(machine.calls)) == ((0, True) if deleted else (2, False))
  assert 'delete TPU pod in us-central2-b' in done.stderr


@pytest.mark.parametrize(
  ('arguments', 'words'),
  [
    ((), 'name what to do: create, install'),
    (('stat',), 'stat is not one of create, install'),
    (('--zone=z', 'create'), 'NAME is not set; give --name'),
    (('--name=n', 'create'), 'ZONE is not set; give --zone'),
    ((*PLACE, 'create'), 'TYPE is not set; give --type'),
    ((*PLACE, 'create', '--type=v9-8'), 'TYPE=v9-8 has no software version known'),
    ((*PLACE, 'run'), 'run needs a command'),
    ((*PLACE, 'delete', 'all'), 'delete takes no argument all'),
    ((*PLACE, '--typo=1', 'create'), '--typo=1 is not one of --name='),
  ],
)
def test_mistakes_are_one_line(machine, arguments, words):
  machine.add('gcloud')
  done = machine.run(TPU_POD, *arguments)
  assert (done.returncode, done.stderr.count('\n'), machine.calls) == (2, 1, [])
  assert words in done.stderr


def test_without_gcloud_one_line_says_so(machine):
  done = machine.run(TPU_POD, *PLACE, 'stop')
  assert (done.returncode, done.stderr.count('\n')) == (6, 1)
  assert 'gcloud is not on PATH' in done.stderr


def test_a_failure_of_gcloud_is_the_result(machine):
  machine.add('gcloud', 'exit 3')
  assert machine.run(TPU_POD, *PLACE, 'stop').returncode == 3


# ---- SLURM ---------------------------------------------------------------------------------------

JOB = {'SLURM_JOB_ID': '77', 'SLURM_NNODES': '2', 'SLURM_NTASKS_PER_NODE': '4'}
OPTIONS = ['--kill-on-bad-exit=0', '--wait=0']


@pytest.fixture
def cluster(machine, tmp_path):
  """A node of a cluster; the repository's environment is there already."""
  (tmp_path / 'checkout' / 'launch').mkdir(parents=True)
  (tmp_path / 'checkout' / 'launch' / 'setup_env.sh').write_text('export READY=1\n')
  machine.add('srun', 'printf "%s" "${READY:-0} ${JAX_LOCAL_DEVICE_IDS:-}" > "$HOME/seen"')

  def run(*arguments, **variables):
    variables = {**JOB, 'SLURM_GPUS_ON_NODE': '4', **variables}
    return machine.run(SLURM, *arguments, cwd=tmp_path / 'checkout', **variables)

  return run


def test_one_process_per_gpu(cluster, machine, tmp_path):
  done = cluster('--config=configs/smoke.py', '--workdir=runs/a b')
  assert done.returncode == 0, done.stderr
  command = ['python', 'launch/train.py', '--distributed']
  arguments = ['--config=configs/smoke.py', '--workdir=runs/a b']
  assert machine.calls == [['srun', *OPTIONS, *command, *arguments]]
  assert (tmp_path / 'seen').read_text() == '1 '


def test_one_process_per_node_gets_all_its_gpus(cluster, tmp_path):
  done = cluster('--workdir=x', SLURM_NTASKS_PER_NODE='1')
  assert done.returncode == 0, done.stderr
  assert (tmp_path / 'seen').read_text() == '1 0,1,2,3'


def test_one_process_in_all_is_not_distributed(cluster, machine):
  done = cluster('--workdir=x', SLURM_NTASKS_PER_NODE='1', SLURM_NNODES='1')
  assert done.returncode == 0, done.stderr
  assert machine.calls == [['srun', *OPTIONS, 'python', 'launch/train.py', '--workdir=x']]


def test_each_job_of_an_array_has_its_own_arguments_or_command(cluster, machine, tmp_path):
  lines = ['python launch/train.py --workdir=runs/0', "python launch/train.py --workdir='runs/1 b'"]
  (tmp_path / 'commands').write_text('\n'.join(lines) + '\n')
  single = {'SLURM_NTASKS_PER_NODE': '1', 'SLURM_NNODES': '1', 'SLURM_ARRAY_TASK_ID': '1'}
  assert cluster('--workdir=runs/%a', '--config.seed=%a', **single).returncode == 0
  assert cluster(COMMANDS=str(tmp_path / 'commands'), **single).returncode == 0
  assert [call[-1] for call in machine.calls] == ['--config.seed=1', '--workdir=runs/1 b']
  beyond = cluster(COMMANDS=str(tmp_path / 'commands'), **single | {'SLURM_ARRAY_TASK_ID': '2'})
  assert (beyond.returncode, beyond.stderr.count('\n')) == (2, 1)
  assert 'has no line 3' in beyond.stderr


@pytest.mark.parametrize(
  ('warned', 'code', 'requeued'),
  [(True, 143, True), (True, 0, False), (True, 6, False), (False, 143, False)],
  ids=['time limit', 'finished meanwhile', 'failed meanwhile', 'cancelled'],
)
def test_a_job_that_is_warned_saves_and_is_queued_again(cluster, machine, warned, code, requeued):
  """The stand-in of srun warns the script as SLURM does, and ends once scancel has been called."""
  machine.add('scancel', 'echo > "$HOME/stopped"')
  machine.add('scontrol')
  warn = 'kill -USR1 $PPID; until [[ -e $HOME/stopped ]]; do sleep 0.05; done;' * warned
  machine.add('srun', f'{warn} exit {code}')
  done = cluster('--workdir=x')
  assert done.returncode == code
  calls = [call for call in machine.calls if call[0] != 'srun']
  assert calls == [
    *([['scancel', '--signal=TERM', '77']] if warned else []),
    *([['scontrol', 'requeue', '77']] if requeued else []),
  ]


@pytest.mark.parametrize(
  ('arguments', 'variables', 'words'),
  [
    ((), {}, 'give the arguments of launch/train.py'),
    (('--workdir=x',), {'SLURM_NTASKS_PER_NODE': '3'}, '3 processes on a node with 4 GPUs'),
    (('--workdir=x',), {'COMMANDS': 'commands'}, 'either COMMANDS or arguments'),
  ],
)
def test_a_job_that_can_not_work_says_why(cluster, machine, arguments, variables, words):
  done = cluster(*arguments, **variables)
  assert (done.returncode, done.stderr.count('\n'), machine.calls) == (2, 1, [])
  assert words in done.stderr


def test_a_job_from_elsewhere_names_the_place(machine, tmp_path):
  done = machine.run(SLURM, '--workdir=x', cwd=tmp_path, **JOB)
  assert (done.returncode, done.stderr.count('\n')) == (2, 1)
  assert 'submit it from the repository' in done.stderr


# ---- the page about them -------------------------------------------------------------------------

PAGE = (ROOT / 'launch' / 'README.md').read_text(encoding='utf-8')


def test_the_page_names_what_there_is():
  """Files, flags of the programs and options of the launchers; unlike the README, it isn't run."""
  files = set(re.findall(r'(?:launch|configs)/[\w/]+\.(?:py|sh|sbatch)', PAGE))
  assert files
  assert not {name for name in files if not (ROOT / name).exists()}
  flags = set(re.findall(r'(?<![\w-])--([a-z_]+)(?![\w-])', PAGE))
  sources = [*(ROOT / 'launch').glob('*.py'), TPU_POD, ROOT / 'afslvm' / 'cli.py']
  known = ''.join(path.read_text(encoding='utf-8') for path in sources)
  own = {flag for flag in flags if f"'{flag}'" in known or f'--{flag}' in known}
  of_slurm = {'array', 'nodes', 'partition', 'account', 'time', 'export', 'signal'}
  assert flags - own <= of_slurm | {'xla_gpu_deterministic_ops'}
