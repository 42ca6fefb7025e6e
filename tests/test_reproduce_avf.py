"""Tables and figures of the AVF paper: their configs, numbers, layout, and the harness on music."""

import dataclasses
import json
import math
import pathlib

import numpy as np
import pytest

from afslvm import building, cli
from afslvm.errors import ConfigError
from afslvm.evaluation import contract as contract_lib
from afslvm.evaluation import published
from afslvm.evaluation.sequence_references import INDEPENDENT, MARKOV
from afslvm.reproduction import (
  avf_figures,
  folders,
  markdown_steps,
  pages,
  plan,
  selection,
  table,
  tables,
)
from tests import reproduced

CONFIGS = sorted(
  (found.name, dataset, scale)
  for found in (tables.AVF_1, tables.AVF_2, tables.AVF_3)
  for scale, folder in found.folders.items()
  for dataset in folder
)


# ---- configs -------------------------------------------------------------------------------------


@pytest.mark.parametrize(('name', 'dataset', 'scale'), CONFIGS)
def test_every_row_is_the_model_it_says(name, dataset, scale):
  found = tables.find(name)
  folder = found.config_folder(dataset, scale)
  rows = plan.rows(found, [], folder)
  assert len(rows) >= 2
  for row in rows:
    parts = building.build(cli.load_overridden(f'{folder}/{row}.py', plan.QUICK))
    spec = parts.config['model']
    assert parts.config['data']['name'] == dataset
    assert spec['name'] in (row.split('_')[0], 'srnn')
    if row == 'best':
      continue
    count = int(row.partition('avf')[2][:1] or 0)
    assert spec['inference'].get('num_iterations', 0) == count
    assert building.label(spec).endswith(f'AVF-{count}') == bool(count)
    if name == 'avf_3':
      gradients = next((kind for kind in ('bptt', 'online') if kind in row), 'em')
      assert parts.objective.gradients == {'online': 'em_online'}.get(gradients, gradients)


# Less one LSTM bias vector of 4 units, which PyTorch has twice, as the paper's code counts.
COUNTS = {
  'jsb/direct': 1_559_188 - 4 * 300,
  'jsb/avf1': 5_005_560 - 4 * 300,
  'jsb/avf5': 5_005_560 - 4 * 300,
  'timit/vrnn': 33_902_000 - 4 * 2000,
  'timit/vrnn_avf2': 37_029_472 - 4 * 2000,
  'timit/srnn': 8_481_424 - 4 * 1024,
  'timit/srnn_avf1': 13_626_512 - 4 * 1024,
}


@pytest.mark.parametrize('config', COUNTS)
def test_sizes_are_those_of_the_paper(config):
  parts = building.build(cli.load_config(f'configs/{config}.py'))
  assert building.count_parameters(building.abstract_variables(parts.model, 3)) == COUNTS[config]


def test_warm_ups_follow_the_number_of_steps():
  config = cli.load_overridden('configs/jsb/direct.py', ['train.num_steps=160'])
  assert config.objective.kl_warmup_steps == 40


@pytest.mark.parametrize(
  ('call', 'words'),
  [
    (lambda: tables.find('avf3'), 'did you mean "avf_3"'),
    (lambda: tables.AVF_3.config_folder('jsb', 'small'), 'use --scale=paper'),
    (lambda: plan.rows(tables.AVF_3, ['avf5'], 'configs/nottingham'), 'has no avf5.py, only'),
    (lambda: tables.AVF_1.config_folder('jsb', 'small'), 'there are fsdd'),
  ],
)
def test_mistakes_name_the_remedy(call, words):
  with pytest.raises(ConfigError) as caught:
    call()
  assert words in str(caught.value)


# ---- what the paper reports ----------------------------------------------------------------------


def test_papers_numbers_are_corrected_for_the_step_that_is_not_scored():
  assert published.corrected_by((2, 5, 1)) == pytest.approx((2 / 1 + 5 / 4) / 2)


def test_benchmarks_are_of_the_data_that_configs_prepare():
  for benchmark in published.AVF_BENCHMARKS:
    if benchmark.table == 'avf_3':
      name = benchmark.data_config.split('/')[0]
      data = building.build(cli.load_config(f'configs/{name}/direct.py')).dataset
      assert f'{name}/{data.builder_config.name}' == benchmark.data_config


def test_papers_numbers_stand_beside_the_same_sequences_only():
  asked = planned('direct').contract(tables.AVF_3.columns[0])
  lengths = (61,) * 76 + (89,)  # 77 chorales of 4,725 steps

  def why(**changes):
    options = {'table': 'avf_3', 'contract': asked, 'data': 'jsb/perbeat1', 'lengths': lengths}
    return published.why_not_avf(*{**options, **changes}.values())

  assert why() == ''
  assert '8 sequences of 488 steps were scored' in why(lengths=lengths[:8])
  assert 'none of the paper’s data sets' in why(data='jsb/perbeat4')
  assert 'under sequences' in why(contract=dataclasses.replace(asked, protocol='sequences'))


# ---- layout --------------------------------------------------------------------------------------

LENGTHS = (4, 6)
DATA = plan.Data(
  name='jsb',
  label='jsb 88',
  config='jsb/perbeat1',
  event_shape=(88,),
  data_space='binary',
  fingerprint='feedbeef',
  num_scored={},
  test_lengths=LENGTHS,
)


def planned(row, seed=0, num_iterations=0):
  inference = {'num_iterations': num_iterations} if num_iterations else {}
  return plan.PlannedRun(
    table=tables.AVF_3,
    row=row,
    seed=seed,
    label='SRNN',
    parameters=1000,
    num_context=0,
    measure='probability',
    config_file=f'configs/jsb/{row}.py',
    overrides=(),
    config={
      'objective': {'first_scored': 1},
      'data': {'data_dir': ''},
      'model': {'name': 'srnn', 'inference': inference},
      'train': {'num_steps': 100, 'batch_size': 16},
    },
    path=pathlib.Path('runs') / plan.folder_name(row, seed),
    data=DATA,
  )


def finished(row, seed=0, nats=8.0, cpu=100.0, curve=((50, 9.0), (100, 8.5))):
  """A run with `nats` per step of both sequences."""
  run = planned(row, seed)
  evaluations = {}
  for column in run.columns:
    steps = np.array(LENGTHS) - column.scored_frames[0]

    def result(name, kind, value, column=column, steps=steps):
      asked, totals = run.contract(column), -value * steps
      found = contract_lib.result(name, kind, asked, totals, steps * 88, 1, 0)
      return contract_lib.with_steps(found, totals, steps, 88).to_json()

    results = [result(run.label, 'elbo', nats)]
    results[0]['kl_nats_per_step'] = 1.5
    if column.num_particles:
      results.append(result(run.label, 'fivo-20', nats - 0.25))
    results += [result(INDEPENDENT, 'exact', 11.0), result(MARKOV, 'exact', 10.5)]
    evaluations[column.name] = {
      'identity': run.identity(column, {'step': 50, 'parameters_sha256': 'abc'}),
      'results': results,
      'git_commit': 'c0ffee0123456789',
      'decorrelation': {},
    }
  receipt = {
    'steps_per_second': 10.0,
    'total_wall_seconds': 12.0,
    'total_cpu_seconds': cpu,
    'git_commit': '0123456789abcdef',
    'device': {'count': 1, 'kind': 'cpu'},
  }
  return folders.FinishedRun(run, receipt, evaluations, [(s, v / 88) for s, v in curve])


@pytest.fixture
def music_table():
  runs = [
    finished('direct'),
    finished('avf1', nats=7.0, cpu=200.0, curve=((50, 8.75), (100, 7.5))),
    finished('avf5', nats=6.5, cpu=600.0, curve=((50, 8.0), (100, 7.0))),
  ]
  about = {'table': 'avf_3', 'dataset': 'jsb', 'scale': 'paper', 'overrides': []}
  return table.build(runs, {**about, 'commands': ['python launch/reproduce.py']})


def cells(text, words, part):
  lines = [line for line in text.splitlines() if line.startswith(f'| {words} |')]
  return [cell.strip() for cell in lines[part].strip('|').split('|')]


def test_numbers_are_per_step_and_per_sequence(music_table):
  assert json.loads(json.dumps(music_table, allow_nan=False)) is not None
  text = pages.page(music_table)
  uncorrected = 7.0 * (3 / 4 + 5 / 6) / 2
  first = cells(text, 'AVF-1, em', 0)
  assert first[1:5] == ['1,000', '1', '≤ 7.000 ± 0.000', f'{uncorrected:.3f}']
  assert first[6] == '1.50'
  strict = cells(text, 'AVF-1, em', 1)
  assert strict[1:6] == ['≤ 7.000 ± 0.000', *strict[2:3], '1.50', '≤ 6.750 ± 0.000', strict[5]]
  assert 'FIVO-20, all steps' in text
  assert cells(text, '*independent notes*', 0)[3] == '11.000 ± 0.000'
  assert '2 sequences of 10 steps were scored; the paper’s are the 77 test chorales' in text


def test_costs_are_at_equal_steps_and_at_equal_time(music_table):
  text = markdown_steps.page(music_table)
  assert cells(text, 'direct, em', 2)[1:] == (
    ['100', '100', '1000', '1.00', '1 min 40 s', '8.500', '8.500']
  )
  # In the time of the first it had done half of its steps.
  assert cells(text, 'AVF-1, em', 2)[4:] == ['2.00', '3 min 20 s', '7.500', '8.750']
  assert cells(text, 'AVF-5, em', 2)[-1] == '–'
  cost = 'takes 2.0 times the CPU time of direct, em, each more 1.0 times (1000 ms per step)'
  assert cost in text


def test_the_paper_stands_beside_its_own_sequences(music_table):
  column = music_table['columns']['test']
  column |= {'published': {'direct': 6.92, 'avf1': 6.97}, 'published_factor': 1.02}
  text = pages.page({**music_table, 'columns': {**music_table['columns'], 'test': column}})
  assert cells(text, 'direct, em', 0)[-2:] == ['6.92', '7.06']
  assert cells(text, 'AVF-5, em', 0)[-2:] == ['–', '–']


def test_rows_for_the_readme(music_table):
  column = music_table['columns']['test']
  column |= {'published': {'direct': 6.92, 'avf1': 6.97}, 'published_factor': 1.02}
  values = {**music_table, 'columns': {**music_table['columns'], 'test': column}}
  direct, avf1, avf5 = selection.rows(values, ['direct', 'avf1', 'avf5'])
  assert direct.data.endswith(', nats/step')
  assert [row.model for row in (direct, avf1)] == ['SRNN: direct, em', 'SRNN: AVF-1, em']
  assert [row.paper for row in (direct, avf1, avf5)] == ['7.06', '7.11', '–']
  assert (avf1.ours, avf1.time) == ('≤ 7.000 ± 0.000', '3 min 20 s')
  recipe = {**values['rows'][1], 'row': 'avf1_recipe'}
  [found] = selection.rows({**values, 'rows': [recipe]}, ['avf1_recipe'])
  assert found.paper == avf1.paper


def test_files_of_kept_tables_do_not_collide(music_table):
  assert pages.name(music_table) == 'avf_3_jsb_paper'
  assert pages.name({**reproduced.ABOUT, 'dataset': 'kth'}) == 'kth_small'


# ---- questions and figures -----------------------------------------------------------------------


def test_commands_of_whole_sequences():
  asked = [planned('avf1').evaluate_command(column)[2:] for column in planned('avf1').columns]
  assert asked == [
    ['--protocol=avf_paper'],
    ['--protocol=avf_paper', '--split=validation'],
    ['--protocol=sequences', '--num_particles=20'],
    ['--protocol=sequences', '--split=validation'],
  ]


def test_figure_3_asks_for_other_numbers_of_iterations():
  run = planned('avf5', num_iterations=5)
  columns = avf_figures.columns(run)
  assert [column.iterations for column in columns] == [0, 1, 2, 3, None, 8]
  assert '--inference_iterations=3' in run.evaluate_command(columns[3])
  assert run.identity(columns[3], {})['settings']['inference_iterations'] == 3
  assert avf_figures.iterations(planned('direct')) == 0


def test_figures_need_runs(tmp_path):
  with pytest.raises(ConfigError, match='holds no run avf1-SEED; train it'):
    avf_figures.run_folders(tmp_path, tables.AVF_3, 'avf1')


# ---- from end to end -----------------------------------------------------------------------------

SIZES = ('inference.features=8', 'recurrence.features=8', 'decoder.features=8', 'prior.features=8')
TRAIN = ('train.num_steps=2', 'train.batch_size=2', 'data.length=6')


@pytest.fixture(scope='module')
def music(launch, tmp_path_factory):
  """A table of one row on songs of a rising scale, in a folder of its own."""
  folder = tmp_path_factory.mktemp('avf')
  songs = [[[48, 60 + step % 12] for step in range(length)] for length in (12, 10, 9)]
  source = folder / 'jsb.json'
  source.write_text(json.dumps({'train': songs, 'valid': songs, 'test': songs}))
  place = f'--data_dir={folder / "data"}'
  done = launch('prepare_data', '--dataset=jsb', f'--source={source}', place)
  assert done.returncode == 0, done.stderr
  overrides = [f'model.{size}' for size in SIZES] + [*TRAIN, f'data.data_dir={folder / "data"}']
  done = launch(
    'reproduce',
    *('--table=avf_3', '--dataset=jsb', '--scale=quick', '--rows=avf1'),
    *(f'--override={value}' for value in overrides),
    f'--workdir={folder / "table"}',
    timeout=900,
  )
  assert done.returncode == 0, done.stderr
  return folder / 'table', done


@pytest.mark.slow
@pytest.mark.thorough  # tests/test_reproduce.py runs the command on frames
def test_table_of_music(music):
  workdir, done = music
  values = json.loads((workdir / 'table.json').read_text())
  assert [row['model'] for row in values['rows']] == ['SRNN + AVF-1', INDEPENDENT, MARKOV]
  trained = values['rows'][0]
  assert trained['bounds']['test_all'][0][0]['kind'] == 'fivo-20'
  assert trained['cpu_seconds'][0] > 0
  assert [step for step, _ in trained['validations'][0]] == [2]
  assert math.isfinite(trained['test'][0]['uncorrected_sequence_mean'])
  assert done.stdout.startswith((workdir / 'table.md').read_text())


@pytest.mark.slow
@pytest.mark.thorough  # likewise
def test_figures_of_music(music, launch):
  workdir, _ = music
  for figure in ('avf_3', 'avf_4'):
    done = launch('reproduce', f'--figure={figure}', f'--workdir={workdir}', timeout=900)
    assert done.returncode == 0, done.stderr
    for name in (f'{figure}.svg', f'{figure}_dark.svg'):
      assert (workdir / name).read_text().count('</svg>') == 1
