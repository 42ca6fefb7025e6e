"""The import rules, and that the map in `docs/architecture.md` is of this repository."""

import ast
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGE = ROOT / 'afslvm'
MAP = (ROOT / 'docs' / 'architecture.md').read_text(encoding='utf-8')

BASICS = ('afslvm.types', 'afslvm.errors', 'afslvm.files')
BASE, PURE = 'afslvm.models.base', ('afslvm.types', 'afslvm.transforms')
DENSITIES, NETWORKS = 'afslvm.distributions', 'afslvm.networks'
FAST_CPU = 'afslvm.fast_cpu'
# What variational EM knows of models with latent variables.
FILTERING = tuple(f'afslvm.models.{name}' for name in ('state_space', 'filtering', 'free_energy'))
OBJECTIVES = (DENSITIES, 'afslvm.objectives')
PARTS = ('afslvm.flows', 'afslvm.likelihoods', 'afslvm.inference')
# Folder -> what of this library it may import, itself aside.
INTERNAL = {
  'transforms': ('afslvm.types',),
  'distributions': ('afslvm.types',),
  'fast_cpu': PURE,
  'networks': PURE,
  'flows': (*PURE, DENSITIES, NETWORKS),
  'likelihoods': (*PURE, DENSITIES, NETWORKS, 'afslvm.flows'),
  'inference': ('afslvm.types', DENSITIES, NETWORKS),
  'models': (*PURE, DENSITIES, NETWORKS, *PARTS),
  'objectives': (*PURE, BASE, *FILTERING, DENSITIES, 'afslvm.errors'),
  'data': BASICS,
  'evaluation': (*BASICS, *PURE, BASE, *OBJECTIVES, 'afslvm.data'),
  'training': (
    *(*BASICS, *PURE, BASE, *OBJECTIVES, 'afslvm.data'),
    'afslvm.evaluation.diagnostics',
  ),
  'performance': (
    *BASICS,
    *PURE,
    BASE,
    *OBJECTIVES,
    'afslvm.training',
  ),
  'visualization': (
    *(*BASICS, *PURE, BASE, *OBJECTIVES, 'afslvm.data'),
    *('afslvm.evaluation', 'afslvm.training'),
  ),
  # Weights of another code are those of named models.
  'reference_weights': (*BASICS, *PURE, NETWORKS, *PARTS, 'afslvm.models'),
  'reproduction': (*BASICS, 'afslvm.evaluation', 'afslvm.training', 'afslvm.visualization'),
}
# The forms for CPU rewrite what is computed; these compute nothing of the kind.
WITHOUT_FAST_CPU = ('transforms', 'distributions', 'data')
# Folder -> packages from outside, the standard library aside; folders not named are free.
EXTERNAL = {
  'transforms': {'jax'},
  'distributions': {'jax', 'flax'},
  'fast_cpu': {'jax'},
  'networks': {'jax', 'flax', 'numpy'},
  'flows': {'jax', 'flax', 'numpy', 'scipy'},  # numpy and scipy for constants of the program
  'likelihoods': {'jax', 'flax'},
  'inference': {'jax', 'flax', 'optax'},
  'models': {'jax', 'flax'},
  'objectives': {'jax', 'flax', 'optax'},
  'evaluation': {'jax', 'numpy', 'dm_pix'},
}
HEAVY = (
  *('tensorflow', 'tensorflow_datasets', 'grain', 'orbax', 'array_record'),
  *('matplotlib', 'PIL', 'tensorboardX', 'sklearn', 'dm_pix', 'soundfile', 'pretty_midi'),
)


def imports(file):
  """Dotted paths of all that a file imports, at its top or inside a function."""
  found = set()
  for node in ast.walk(ast.parse(file.read_text(encoding='utf-8'))):
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f'{file} imports relatively'
      found |= {f'{node.module}.{alias.name}' for alias in node.names}
  return found


def is_within(path, packages):
  return any(path == package or path.startswith(f'{package}.') for package in packages)


def source_files(*folders):
  files = [file for folder in folders for file in sorted((ROOT / folder).rglob('*.py'))]
  assert files
  return files


def violations(files, is_allowed):
  """{file: imports that aren't allowed}."""
  bad = {
    f.relative_to(ROOT).as_posix(): [p for p in imports(f) if not is_allowed(p)] for f in files
  }
  return {file: sorted(paths) for file, paths in bad.items() if paths}


# ---- who imports whom ----------------------------------------------------------------------------


def test_every_folder_has_a_rule():
  folders = {path.parent.name for path in PACKAGE.glob('*/*.py')} - {'configs'}  # a link
  assert folders == set(INTERNAL)


@pytest.mark.parametrize('folder', INTERNAL)
def test_folder_imports_of_the_library_what_it_may(folder):
  fast = () if folder in WITHOUT_FAST_CPU else (FAST_CPU,)
  allowed = (*INTERNAL[folder], *fast, f'afslvm.{folder}', 'afslvm.__version__')

  def is_allowed(path):
    return path == 'afslvm' or not is_within(path, ['afslvm']) or is_within(path, allowed)

  assert not violations(source_files(f'afslvm/{folder}'), is_allowed)


@pytest.mark.parametrize('folder', EXTERNAL)
def test_folder_imports_of_others_what_it_may(folder):
  allowed = EXTERNAL[folder] | {'afslvm'} | set(sys.stdlib_module_names)
  files = source_files(f'afslvm/{folder}')
  assert not violations(files, lambda path: path.split('.')[0] in allowed)


@pytest.mark.parametrize(
  'folder', ['objectives', 'training', 'evaluation', 'performance', 'visualization']
)
def test_no_concrete_model_is_named(folder):
  """Neither imported nor spelled: code over any model asks for none."""
  names = {'temporal_flow', 'standard_normal', 'TemporalFlow', 'StandardNormal'}
  names |= {'slvm', 'SLVM', 'srnn', 'SRNN', 'vrnn', 'VRNN', 'SVG'}  # svg is a format of pictures
  files = source_files(f'afslvm/{folder}')
  for file in [file for file in files if file.name != 'published.py']:  # names rows of the paper
    tree = ast.parse(file.read_text(encoding='utf-8'))
    used = {getattr(node, 'id', getattr(node, 'attr', None)) for node in ast.walk(tree)}
    used |= {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert not names & used, file


def test_the_forms_for_cpu_have_one_door():
  files = [file for file in source_files('afslvm', 'launch') if file.parent.name != 'fast_cpu']
  assert not violations(files, lambda path: not path.startswith(f'{FAST_CPU}.'))


def test_only_binaries_and_the_face_import_what_builds():
  names = ('__init__', 'building', 'runs', 'own_arrays', 'run_evaluation', 'run_predictions')
  own = {PACKAGE / f'{name}.py' for name in names}
  files = [file for file in source_files('afslvm', 'configs') if file not in own]
  builders = [f'afslvm.{name}' for name in names[1:]]
  assert not violations(files, lambda path: not is_within(path, builders))


def test_configs_import_no_models():
  allowed = ('afslvm.errors', 'afslvm.configs', 'ml_collections')
  stdlib = sys.stdlib_module_names
  files = source_files('configs')
  assert not violations(files, lambda p: is_within(p, allowed) or p.split('.')[0] in stdlib)


def test_tensorflow_is_imported_nowhere():
  files = [*source_files('afslvm', 'configs', 'launch', 'tests'), ROOT / 'setup.py']
  assert not violations(files, lambda path: not is_within(path, ['tensorflow']))


def test_tensorflow_datasets_is_imported_by_data_only():
  files = [f for f in source_files('afslvm', 'configs', 'launch') if f.parent.name != 'data']
  assert not violations(files, lambda path: not is_within(path, ['tensorflow_datasets']))


# ---- what is loaded ------------------------------------------------------------------------------


@pytest.mark.parametrize(
  ('statement', 'absent'),
  [
    ('import afslvm', (*HEAVY, 'jax', 'flax', 'optax', 'numpy', 'absl', 'ml_collections')),
    ('import afslvm.building', HEAVY),
    ('from afslvm import cli; cli.define_config()', (*HEAVY, 'jax', 'flax', 'optax')),
    ('from afslvm import cli; cli.load_config("configs/smoke.py")', (*HEAVY, 'jax', 'flax')),
  ],
)
def test_heavy_packages_wait_until_they_are_used(statement, absent):
  code = f'import sys; {statement}; print(*sorted({{name.split(".")[0] for name in sys.modules}}))'
  result = subprocess.run(
    [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=True
  )
  assert not set(result.stdout.split()) & set(absent)


# ---- the map -------------------------------------------------------------------------------------


def folders_of_the_map():
  return re.findall(r'^\| `([\w/]+)/` \|', MAP, flags=re.MULTILINE)


def test_folders_of_the_map_exist():
  assert folders_of_the_map()
  for folder in folders_of_the_map():
    assert (ROOT / folder).is_dir(), folder


def test_the_map_has_every_folder_and_module():
  inside = {path.parent.resolve().relative_to(ROOT).as_posix() for path in PACKAGE.glob('*/*.py')}
  assert inside <= set(folders_of_the_map())
  modules = {f'afslvm/{path.name}' for path in PACKAGE.glob('*.py')} - {'afslvm/__init__.py'}
  assert not {module for module in modules if f'`{module}`' not in MAP}


def test_files_of_the_map_exist():
  named = set(re.findall(r'`([\w/]+/[\w.]+\.(?:py|md|sh))`', MAP))
  assert named
  places = (ROOT, PACKAGE)
  assert not {name for name in named if not any((place / name).exists() for place in places)}


def test_the_map_stands_alone():
  assert 'shared/' not in MAP
  assert 'design.md' not in MAP
