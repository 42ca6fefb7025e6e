"""Sweeps: which runs a grid has, that they are trained once, and what the table says of them."""

import dataclasses
import json
import shlex
import shutil

import pytest

from afslvm.errors import ConfigError
from afslvm.evaluation.contract import OF_PRIOR_CHAIN, LikelihoodContract, LikelihoodResult
from afslvm.reproduction import grid, sweep, sweep_results
from afslvm.training import checkpoint

# ---- the grid ------------------------------------------------------------------------------------


def test_a_grid_has_every_combination():
  axes = [grid.axis('model.widths=(8,8),(16,)'), grid.axis('config.a.b=x')]
  assert axes[0] == ('model.widths', ['(8,8)', '(16,)'])
  axes.append(grid.axis('a.c=1,2'))
  found = grid.points(axes)
  assert len(found) == 4
  assert found[1] == {'model.widths': '(8,8)', 'a.b': 'x', 'a.c': '2'}
  assert grid.points([]) == [{}]


def test_folders_have_short_names_that_differ():
  settings = {'model.encoder.depth': '2', 'model.decoder.depth': '-1', 'data.source': 'a b/c'}
  name = grid.folder_name(settings, '3')
  assert name == 'encoder.depth=2_decoder.depth=-1_source=abxc_seed=3'
  assert grid.folder_name({'model.widths': '(8, 8)'}, '0') == 'widths=8x8_seed=0'
  assert grid.folder_name({'model.widths': '(8,)'}, '0') == 'widths=8_seed=0'


@pytest.mark.parametrize(
  'given', ['num_steps=3', 'train.num_steps', 'train.num_steps=', 'a.b=1,,2', 'a.b=1,1']
)
def test_a_grid_that_is_none_is_refused(given):
  with pytest.raises(ConfigError, match=f'--grid={given}'):
    grid.axis(given)


def test_a_key_is_named_once():
  with pytest.raises(ConfigError, match='a.b=... is given twice'):
    grid.points([grid.axis('a.b=1'), grid.axis('a.b=2')])


# ---- the table -----------------------------------------------------------------------------------

QUESTION = {'data.length': 13}
CONTRACT = LikelihoodContract(
  protocol='af_paper',
  dataset='moving_digits 16x16x1',
  split='test',
  data_space='8bit',
  dequantisation='gauss256',
  context_frames=3,
  scored_frames=(3, 12),
)


def result(value, **changes):
  own = LikelihoodResult(
    name='SLVM',
    kind='elbo',
    contract=dataclasses.replace(CONTRACT, **changes),
    nats_per_dim=value,
    standard_error=0.01,
    nats_per_sequence=value,
    sequence_mean_nats_per_dim=value,
    num_sequences=16,
    num_samples=1,
    seed=0,
  )
  return own.to_json()


def trained(rate, seed, validation, test=()):
  return {
    'settings': {'optimizer.learning_rate': rate},
    'seed': seed,
    'bound': 'elbo',
    'question': QUESTION,
    'status': 'trained',
    'validation_nats_per_dim': validation,
    'parameters': 1234,
    'steps_per_second': 10.0,
    'test': list(test),
  }


def unfinished(rate, seed, status):
  return {**trained(rate, seed, None), 'status': status}


def table(*runs):
  best, why = sweep_results.best_of(runs)
  about = {'grid': {'optimizer.learning_rate': []}, 'unit': 'nats/dim', 'dims_per_unit': 1}
  return sweep_results.table({**about, 'runs': runs, 'best': best, 'why_no_best': why})


def test_the_best_is_the_lowest_mean_over_seeds():
  header, rows, notes = table(
    *(trained('1e-3', 0, 2.0), trained('1e-3', 1, 2.4)),
    *(trained('3e-4', 0, 2.1), trained('3e-4', 1, 2.1)),
  )
  assert header[:2] == ['learning_rate', 'seeds']
  assert rows[0][:5] == ['1e-3', '2', '1,234', '≤ 2.200 s.d. 0.283', '']
  assert rows[1][3:5] == ['≤ 2.100 s.d. 0.000', 'best']
  assert notes == ['best by validation: optimizer.learning_rate=3e-4']


def test_bounds_of_another_model_are_explained_below():
  _, rows, notes = table({**trained('1', 0, 2.0), 'bound': 'prior-chain-elbo'})
  assert rows[0][3] == '≤ 2.000'
  assert notes[0] == OF_PRIOR_CHAIN


def test_settings_that_lack_a_seed_can_not_be_best():
  _, rows, notes = table(
    *(trained('1', 0, 1.0), unfinished('1', 1, 'not finite')),
    *(trained('2', 0, 2.0), trained('2', 1, 2.0)),
    *(unfinished('3', 0, 'not finished'), unfinished('3', 1, 'not finished')),
  )
  assert rows[0][1:5] == ['1 of 2', '1,234', '≤ 1.000, not finite', '']
  assert rows[2][1:4] == ['0 of 2', '–', 'not finished']
  assert notes == [
    'best by validation: optimizer.learning_rate=2; left out: 2 of 3, which are not all trained'
  ]


def test_answers_to_different_questions_have_no_best():
  other = {**trained('2', 0, 1.0), 'question': {'data.length': 20}}
  assert 'data.length is 13 and 20' in table(trained('1', 0, 2.0), other)[2][0]
  assert table(unfinished('1', 0, 'not finished'))[2] == [
    'no best: no settings have all their seeds trained'
  ]


def test_every_contract_has_a_column_of_its_own():
  own, other = result(2.3), result(3.0, dequantisation='uniform', protocol='discrete')
  header, rows, notes = table(trained('1', 0, 2.0, [own, other]), trained('2', 0, 2.1, [own]))
  assert header[5:7] == ['test (1)', 'test (2)']
  assert [row[5:7] for row in rows] == [['≤ 2.300', '≤ 3.000'], ['≤ 2.300', '–']]
  assert notes[1].startswith('test (2): protocol discrete: moving_digits 16x16x1 test')


# ---- from end to end -----------------------------------------------------------------------------

CONFIG = ['--config=configs/smoke.py', '--config.train.num_steps=20']


@pytest.mark.slow
def test_a_run_that_is_trained_is_not_trained_again(smoke_run, launch, tmp_path):
  folder = tmp_path / 'a sweep'
  name = 'learning_rate=3e-3_seed=0'
  shutil.copytree(smoke_run, folder / name)
  times = {path: path.stat().st_mtime_ns for path in (folder / name).rglob('*')}
  axis = '--grid=optimizer.learning_rate=3e-3'
  done = launch('sweep', *CONFIG, axis, f'--sweep_dir={folder}')
  assert done.returncode == 0, done.stderr
  assert f'{name}: done, 1 of 1 runs' in done.stderr
  assert times == {path: path.stat().st_mtime_ns for path in (folder / name).rglob('*')}
  values = json.loads((folder / 'results.json').read_text())
  [run] = values['runs']
  assert (run['status'], run['steps'], values['unit']) == ('trained', 20, 'nats/dim')
  assert values['best'] == {'optimizer.learning_rate': '3e-3'}
  assert f'{run["validation_nats_per_dim"]:.3f}' in done.stdout
  assert '| **3e-3** | **1** |' in (folder / 'results.md').read_text()

  receipt = json.loads((folder / name / 'receipt.json').read_text())
  planned = sweep.SweepRun(
    settings=run['settings'],
    config_file='configs/smoke.py',
    overrides=tuple(run['overrides']),
    config=json.loads((folder / name / 'config.json').read_text()),
    path=folder / name,
    data=sweep.Data('digits', receipt['data_fingerprint'], 16),
    num_context=3,
    bound='exact',
  )
  sweep.check([planned])
  with pytest.raises(ConfigError, match='are the same run; drop one'):
    sweep.check([planned, planned])
  _scores_of_the_test_split_are_found(planned)


def _scores_of_the_test_split_are_found(planned):
  """Asserts that they are those of the best checkpoint, and no other."""
  manifest = checkpoint.read_manifest(planned.path / 'checkpoints' / '20')
  identity = {
    'checkpoint': {'parameters_sha256': manifest['parameters_sha256']},
    'data_fingerprint': planned.data.fingerprint,
    'contract': {'split': 'test'},
  }
  scores = planned.path / 'evaluation'
  shutil.rmtree(scores, ignore_errors=True)
  scores.mkdir()
  for name, changes in (('af_paper', {}), ('other', {'data_fingerprint': 'f00'})):
    report = {'identity': {**identity, **changes}, 'results': [result(2.3), result(9.9)]}
    (scores / f'{name}.json').write_text(json.dumps(report))
  (scores / 'foreign.json').write_text('{}')
  assert sweep_results.outcome(planned)['test'] == [result(2.3)]


def test_commands_are_ready_to_run(launch, tmp_path):
  axes = ['--grid=optimizer.learning_rate=1e-3,3e-4', '--grid=model.conditioner.channels=2,4']
  folder = tmp_path / 'a sweep'
  done = launch('sweep', *CONFIG, *axes, '--seeds=0,1', f'--sweep_dir={folder}', '--print_commands')
  assert done.returncode == 0, done.stderr
  commands = [shlex.split(line) for line in done.stdout.splitlines()]
  assert len(commands) == 8
  assert {tuple(words[:3]) for words in commands} == {
    ('python', 'launch/train.py', '--config=configs/smoke.py')
  }
  assert len({words[3] for words in commands}) == 8
  assert commands[1][3] == f'--workdir={folder}/learning_rate=1e-3_channels=2_seed=1'
  assert commands[1][-3:] == [
    *('--config.optimizer.learning_rate=1e-3', '--config.model.conditioner.channels=2'),
    '--config.seed=1',
  ]
  assert not folder.exists()


def test_a_mistake_is_found_before_anything_starts(launch, tmp_path):
  arguments = ('--grid=optimizer.learnin_rate=1e-3', f'--sweep_dir={tmp_path}/sweep')
  done = launch('sweep', *CONFIG, *arguments)
  assert (done.returncode, done.stderr.count('\n')) == (2, 1)
  assert 'did you mean "learning_rate"' in done.stderr
  assert not (tmp_path / 'sweep').exists()
