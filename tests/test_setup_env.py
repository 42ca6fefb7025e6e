"""How launch/setup_env.sh finds an interpreter, and which environments it trusts."""

import dataclasses
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

SETUP_ENV = pathlib.Path(__file__).resolve().parents[1] / 'launch' / 'setup_env.sh'
BASH = shutil.which('bash') or 'bash'


@dataclasses.dataclass
class Machine:
  """A machine with nothing on it: calling it runs a command with the functions of setup_env.sh."""

  root: pathlib.Path
  path: list[str] = dataclasses.field(default_factory=list)
  variables: dict[str, str] = dataclasses.field(default_factory=dict)

  def add(self, folder: str, name: str, script: str) -> pathlib.Path:
    """Puts an executable script into a folder."""
    file = self.root / folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f'#!{BASH}\n{script}\n')
    file.chmod(0o755)
    return file

  def __call__(self, command: str) -> subprocess.CompletedProcess:
    for tool in ('dirname', 'ls'):
      self.add('tools', tool, f'exec {shutil.which(tool)} "$@"')
    path = ':'.join(str(self.root / folder) for folder in [*self.path, 'tools'])
    environment = {'PATH': path, 'HOME': str(self.root), 'AFSLVM_SETUP': 'functions'}
    return subprocess.run(
      [BASH, '-c', f'source "$0" && {command}', str(SETUP_ENV)],
      env={**environment, **self.variables},
      capture_output=True,
      text=True,
    )


@pytest.fixture
def machine(tmp_path):
  return Machine(tmp_path)


WORKING = f'exec "{sys.executable}" "$@"'


def test_a_broken_stub_first_on_path_is_passed_over(machine):
  machine.path = ['stubs', 'real pythons']
  machine.add('stubs', 'python3.12', 'exit 127')
  machine.add('stubs', 'uv', 'exit 127')
  python = machine.add('real pythons', 'python3.12', WORKING)
  result = machine('find_python')
  assert (result.returncode, result.stdout.strip()) == (0, str(python)), result.stderr


def test_interpreters_of_pyenv_are_found_behind_its_stubs(machine):
  machine.path = ['shims']
  machine.add('shims', 'python3.12', 'exit 127')
  python = machine.add('.pyenv/versions/3.12.1/bin', 'python', WORKING)
  assert machine('find_python').stdout.strip() == str(python)


def test_the_preferred_version_wins(machine):
  machine.path = ['bin']
  for version in ('3.10', '3.11', '3.13', '3.12'):
    machine.add('bin', f'python{version}', f'echo {version}.4')
  machine.add('bin', 'python3', 'echo 3.14.0')
  assert machine('find_python').stdout.strip().endswith('bin/python3.12')


@pytest.mark.parametrize('choice', ['', 'missing python'])
def test_without_python_one_line_says_what_to_do(machine, choice):
  machine.path = ['bin']
  machine.add('bin', 'python3', 'echo 3.10.2')
  machine.variables = {'AFSLVM_PYTHON': choice}
  result = machine('find_python')
  assert result.returncode == 6
  assert len(result.stderr.splitlines()) == 1
  assert (choice or 'bin/python3 (3.10.2)') in result.stderr
  assert 'AFSLVM_PYTHON=' in result.stderr


def test_a_chosen_interpreter_is_used(machine):
  machine.path = ['bin']
  machine.add('bin', 'python3.12', 'echo 3.12.1')
  chosen = machine.add('of my own', 'python', 'echo 3.11.2')
  machine.variables = {'AFSLVM_PYTHON': str(chosen)}
  assert machine('find_python').stdout.strip() == str(chosen)


@pytest.fixture
def environment(machine, tmp_path):
  """A finished environment as the set-up leaves it, without the packages."""
  python = machine.add('an environment/bin', 'python', WORKING)
  machine.variables = {'VENV': str(python.parents[1])}
  digest = machine('environment_digest "$VENV/bin/python"').stdout.strip()
  assert re.fullmatch('[0-9a-f]{64}', digest)
  (python.parents[1] / 'afslvm.stamp').write_text(f'{digest}\n\n')
  return python.parents[1]


def test_a_finished_environment_is_current(machine, environment):
  assert machine('environment_is_current').returncode == 0


def test_an_interrupted_installation_is_not_trusted(machine, environment):
  (environment / 'afslvm.incomplete').touch()
  assert machine('environment_is_current').returncode != 0


def test_an_environment_whose_interpreter_is_gone_is_not_trusted(machine, environment):
  (environment / 'bin' / 'python').unlink()
  assert machine('environment_is_current').returncode != 0


def test_another_extra_or_another_lock_makes_it_again(machine, environment):
  machine.variables['AFSLVM_EXTRA'] = 'cuda'
  assert machine('environment_is_current').returncode != 0
  del machine.variables['AFSLVM_EXTRA']
  (environment / 'afslvm.stamp').write_text('0' * 64 + '\n\n')
  assert machine('environment_is_current').returncode != 0


def test_a_folder_that_is_not_ours_is_left_alone(machine, tmp_path):
  (tmp_path / 'mine').mkdir()
  (tmp_path / 'mine' / 'thesis.txt').touch()
  machine.variables = {'VENV': str(tmp_path / 'mine')}
  result = machine('build_environment')
  assert result.returncode == 6
  assert len(result.stderr.splitlines()) == 1
  assert (tmp_path / 'mine' / 'thesis.txt').exists()
