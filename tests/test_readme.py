"""What documents say can be done: commands run in smoke size, names exist, classes work."""

import os
import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

import afslvm as af
from afslvm.models.priors import NormalNetwork
from afslvm.networks.heads import LocLogScale
from afslvm.networks.mlp import MLP

ROOT = pathlib.Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob('*.md'), *ROOT.glob('docs/*.md'), ROOT / 'launch/README.md'])
BLOCKS = [
  block
  for name in ('README.md', 'docs/data.md')
  for block in re.findall(
    r'^```bash\n(.*?)^```$', (ROOT / name).read_text(encoding='utf-8'), re.MULTILINE | re.DOTALL
  )
]
SHALLOW = '--config.model.conditioner.encoder_depth=1 --config.model.conditioner.decoder_depth=1'
SMOKE = {
  'launch/train.py': f'--config.train.num_steps=4 --config.train.eval_every=0 {SHALLOW}',
  'launch/evaluate.py': '--num_sequences=32',
}


def smoke_size(command):
  for name, options in SMOKE.items():
    command = re.sub(rf'({re.escape(name)}[^\n;#]*?)(\s*(?:#|;|\n|$))', rf'\1 {options}\2', command)
  return command


@pytest.mark.slow
@pytest.mark.parametrize('block', BLOCKS, ids=[block.split('\n')[0][:40] for block in BLOCKS])
def test_fenced_commands_run(block, environment, tmp_path):
  script = smoke_size(block).replace('runs/', f'{tmp_path}/')
  path = f'{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'
  done = subprocess.run(
    ['bash', '-euo', 'pipefail', '-c', script],
    cwd=ROOT,
    env={**environment, 'AFSLVM_SMOKE': '1', 'PATH': path},
    capture_output=True,
    text=True,
    timeout=900,
  )
  assert done.returncode == 0, f'{script}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}'


def test_there_are_commands_to_run():
  assert len(BLOCKS) >= 3


@pytest.mark.parametrize('document', DOCUMENTS, ids=lambda path: path.name)
def test_files_that_a_document_names_exist(document):
  text = document.read_text(encoding='utf-8')
  links = re.findall(r'\]\(([^)#:]+)(?:#[^)]*)?\)', text)
  named = re.findall(r'`((?:configs|launch|docs|colabs|tests)/[\w./]+\.\w+)', text)
  missing = [name for name in links if not (document.parent / name).exists()]
  missing += [name for name in named if not (ROOT / name).exists()]
  assert not missing, f'{document.relative_to(ROOT)} names {missing[0]}, which is not there'


def test_configs_that_the_readme_names_exist():
  """A table names `moving_mnist/af1`, `af2`: what lacks a folder is in that of the one before."""
  table = (ROOT / 'README.md').read_text(encoding='utf-8').partition('## Models')[2]
  rows = [line.split('|') for line in table.partition('## Results')[0].splitlines()]
  found = 0
  for row in rows:
    folder = ''
    for name in re.findall(r'`(\w+(?:/\w+)?)`', row[3]) if len(row) > 4 else []:
      folder, _, config = name.rpartition('/') if '/' in name else (folder, '', name)
      assert (ROOT / 'configs' / folder / f'{config}.py').exists(), name
      found += 1
  assert found > 8


def test_the_classes_of_contributing_work():
  """The leaf is a model and the likelihood is one, alone and together."""
  text = (ROOT / 'CONTRIBUTING.md').read_text(encoding='utf-8')
  found = {}
  exec('\n'.join(re.findall(r'^```python\n(.*?)^```$', text, re.MULTILINE | re.DOTALL)), found)
  model = found['DeepKalmanFilter'](
    (3,),
    latent_shape=(2,),
    likelihood=found['Laplace']((3,)),
    inference=af.Direct(2, features=8, layers=0),
    prior_network=NormalNetwork(MLP(8, 1), LocLogScale(2, -5.0, 2.0)),
    decoder=MLP(8, 1),
  )
  x = jax.random.normal(jax.random.key(0), (4, 6, 3))
  variables = model.init(jax.random.key(1), x, method='initialize')
  bound = af.elbo(model, variables, x, jax.random.key(2))
  assert bound.kind == 'elbo'
  assert jnp.isfinite(bound.loss)
  drawn = model.apply(variables, x, 2, method='generate', rngs={'sample': jax.random.key(3)})
  assert drawn.shape == (4, 2, 3)
