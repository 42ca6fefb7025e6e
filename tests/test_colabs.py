"""Every notebook runs from top to bottom in smoke mode, and is stored without its outputs."""

import os
import pathlib

import nbformat
import pytest
from nbclient import NotebookClient

from tests.thorough import some_of

ROOT = pathlib.Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / 'colabs').glob('*.ipynb'))


def read(path):
  notebook = nbformat.read(path, as_version=4)
  nbformat.validate(notebook)
  return notebook


def test_there_are_notebooks():
  assert NOTEBOOKS


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_without_outputs(path):
  notebook = read(path)
  code = [cell for cell in notebook.cells if cell.cell_type == 'code']
  assert code
  assert not [cell for cell in code if cell.outputs or cell.execution_count is not None]
  assert notebook.metadata.kernelspec.name == 'python3'


@pytest.mark.slow
@pytest.mark.parametrize('path', some_of(NOTEBOOKS, NOTEBOOKS[:1]), ids=lambda path: path.stem)
def test_runs_in_smoke_mode(path, tmp_path, monkeypatch):
  before = path.read_bytes()
  monkeypatch.setenv('AFSLVM_SMOKE', '1')
  monkeypatch.setenv('JAX_COMPILATION_CACHE_DIR', os.environ['AFSLVM_TEST_PROGRAMS'])
  monkeypatch.setenv('MPLBACKEND', 'module://matplotlib_inline.backend_inline')
  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path / 'data'))
  monkeypatch.setenv('PYTHONPATH', os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')]))
  resources = {'metadata': {'path': str(tmp_path)}}
  client = NotebookClient(read(path), timeout=600, kernel_name='python3', resources=resources)
  client.execute()
  assert path.read_bytes() == before
