"""The repository as a whole: style, types, the lock, and that the scripts are sound."""

import ast
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = pathlib.Path(__file__).resolve().parents[1]
LOCK = ROOT / 'launch' / 'requirements.lock'
BASH = shutil.which('bash') or 'bash'
SCRIPTS = [
  *('.ci/run', 'launch/quickstart.sh', 'launch/setup_env.sh', 'launch/test.sh'),
  *('launch/tpu_pod.sh', 'launch/slurm.sbatch'),
]


def repository_files() -> list[pathlib.Path]:
  """Files that are tracked or could be; in an unpacked archive, the files of the source folders."""
  command = ['git', '-C', str(ROOT), 'ls-files', '-z', '--cached', '--others', '--exclude-standard']
  git = shutil.which('git') and (ROOT / '.git').exists()
  listing = subprocess.run(command, capture_output=True, text=True) if git else None
  if listing and listing.returncode == 0:
    files = [ROOT / name for name in listing.stdout.split('\0') if name]
  else:
    folders = ('afslvm', 'configs', 'launch', 'tests', 'colabs', 'docs', '.ci')
    files = [*ROOT.glob('*.*'), *(f for name in folders for f in (ROOT / name).rglob('*'))]
  return sorted(f for f in files if f.is_file() and '__pycache__' not in f.parts)


def run(*command: str) -> subprocess.CompletedProcess:
  return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


# ---- style ---------------------------------------------------------------------------------------


@pytest.mark.parametrize('arguments', [['check'], ['format', '--check']], ids=' '.join)
def test_ruff_passes(arguments):
  result = run(sys.executable, '-m', 'ruff', *arguments, '--quiet', '.')
  assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.slow
def test_mypy_passes():
  result = run(sys.executable, '-m', 'mypy')
  assert result.returncode == 0, result.stdout + result.stderr


def test_no_path_of_one_machine():
  # Written so that this file does not contain what it looks for.
  places = 'root', 'work', r'home/\w+', r'Users/\w+'
  pattern = re.compile(r'(?<![\w.}~-])/(?:' + '|'.join(places) + ')/')
  found = []
  for file in repository_files():
    try:
      lines = file.read_text(encoding='utf-8').splitlines()
    except UnicodeDecodeError:
      continue  # pictures
    found += [f'{file.relative_to(ROOT)}:{i}' for i, s in enumerate(lines, 1) if pattern.search(s)]
  assert not found


def test_license_is_apache_2():
  text = (ROOT / 'LICENSE').read_text(encoding='utf-8')
  assert 'Apache License' in text
  assert 'Version 2.0, January 2004' in text
  assert 'END OF TERMS AND CONDITIONS' in text


# ---- the lock ------------------------------------------------------------------------------------


def declared_requirements() -> list[Requirement]:
  """What setup.py asks for: the package itself and the `test` extra, which the lock holds."""
  tree = ast.parse((ROOT / 'setup.py').read_text(encoding='utf-8'))
  keywords = {
    k.arg: k.value for n in ast.walk(tree) if isinstance(n, ast.Call) for k in n.keywords if k.arg
  }
  required = ast.literal_eval(keywords['install_requires'])
  return [Requirement(r) for r in required + ast.literal_eval(keywords['extras_require'])['test']]


def lock_lines() -> list[str]:
  return LOCK.read_text(encoding='utf-8').splitlines()


def pins(python: str) -> dict[str, str]:
  """Name -> version of what the lock installs on one version of Python."""
  environment = {'python_version': python, 'python_full_version': f'{python}.1'}
  chosen: dict[str, str] = {}
  for line in lock_lines():
    if line.strip() and not line.lstrip().startswith('#'):
      pin = Requirement(line)
      if pin.marker is None or pin.marker.evaluate(environment):
        assert pin.name not in chosen, f'{pin.name} is pinned twice for Python {python}'
        chosen[pin.name] = str(pin.specifier).removeprefix('==')
  return chosen


@pytest.mark.parametrize('python', ['3.11', '3.12', '3.13'])
def test_lock_satisfies_setup_py(python):
  pinned = pins(python)
  for requirement in declared_requirements():
    version = pinned[requirement.name.lower()]
    assert version in requirement.specifier, f'{requirement} is pinned to {version}'


def test_lock_was_made_from_the_present_setup_py():
  direct, current = set(), ''
  for line in lock_lines():
    current = line.split('==')[0] if line and line[0].isalnum() else current
    if 'afslvm (setup.py)' in line:
      direct.add(current)
  assert direct == {r.name.lower() for r in declared_requirements()}


def test_lock_has_no_registry_in_it():
  assert 'uv pip compile setup.py' in lock_lines()[1]
  assert not [line for line in lock_lines() if '://' in line or line.startswith('-')]


def test_jax_follows_the_version_of_python():
  assert pins('3.11')['jax'].startswith('0.10.')
  assert Version(pins('3.12')['jax']) >= Version('0.12')


# ---- the scripts ---------------------------------------------------------------------------------


@pytest.mark.parametrize('script', SCRIPTS)
def test_script_parses(script):
  result = run(BASH, '-n', script)
  assert result.returncode == 0, result.stderr


@pytest.mark.parametrize('script', [name for name in SCRIPTS if name != 'launch/setup_env.sh'])
def test_script_is_executable(script):
  assert os.access(ROOT / script, os.X_OK)


def test_ci_runs_every_test():
  commands = [s for s in (ROOT / '.ci/run').read_text(encoding='utf-8').splitlines() if s]
  assert commands[-1].removeprefix('exec ') == 'bash launch/test.sh --thorough'
