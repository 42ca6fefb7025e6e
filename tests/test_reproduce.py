"""The harness: what is run, that it resumes and stops, and that nothing is mixed."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest

from afslvm import building, cli
from afslvm.errors import ConfigError
from afslvm.evaluation.contract import ContractError
from afslvm.reproduction import figures, folders, pages, plan, saved, table, tables
from tests import reproduced

ROOT = pathlib.Path(__file__).resolve().parents[1]


# ---- the plan ------------------------------------------------------------------------------------

AF_1 = tables.AF_1
ALL_FOLDERS = sorted({folder for scale in AF_1.folders.values() for folder in scale.values()})


@pytest.mark.parametrize('row', AF_1.rows)
@pytest.mark.parametrize('folder', ALL_FOLDERS)
def test_every_config_of_every_scale_is_the_model_it_says(folder, row):
  parts = building.build(cli.load_overridden(f'{folder}/{row}.py', plan.QUICK))
  assert building.label(parts.config['model']) == reproduced.LABELS[row]
  assert parts.model.num_context == reproduced.CONTEXT[row]
  assert parts.train.num_steps == 60


def test_scales_find_their_configs():
  assert AF_1.config_folder('kth', 'paper') == 'configs/kth'
  assert AF_1.config_folder('kth', 'quick') == AF_1.config_folder('kth', 'small')
  assert AF_1.config_folder('bair', 'quick') == 'configs/bair'


@pytest.mark.parametrize(
  ('call', 'words'),
  [
    (lambda: AF_1.config_folder('moving_digits', 'paper'), 'use --scale=small'),
    (lambda: AF_1.config_folder('moving_digit', 'small'), 'did you mean "moving_digits"'),
    (lambda: AF_1.config_folder('kth', 'smal'), 'did you mean "small"'),
    (lambda: plan.rows(AF_1, ['slvm', 'af3'], 'configs/kth'), '--rows=af3 is not one of'),
    (lambda: plan.overrides('small', ['num_steps']), 'section.key=value'),
    (lambda: figures.panels('af_4', 'slvm'), '--model=slvm does not show af_4'),
    (lambda: figures.check_data('af_6', 'bair', (64, 64, 3)), '--figure=af_4'),
    (lambda: figures.check_data('af_4', 'particle', (2,)), 'has shape (2,)'),
  ],
)
def test_mistakes_name_the_remedy(call, words):
  with pytest.raises(ConfigError) as caught:
    call()
  assert words in str(caught.value)


def test_overrides_that_are_given_win():
  values = plan.overrides('quick', ['train.num_steps=5', 'data.data_dir=/data'])
  assert 'train.num_steps=5' in values
  assert 'train.num_steps=60' not in values
  assert 'data.data_dir=/data' not in plan.portable(values)


def test_commands_and_questions():
  one, two = reproduced.planned('af1'), reproduced.planned('af2', seed=2)
  assert two.train_command() == [
    str(plan.ROOT / 'launch/train.py'),
    f'--config={plan.ROOT}/configs/moving_digits/af2.py',
    '--workdir=runs/af2-2',
    '--config.seed=2',
  ]
  commands = [one.evaluate_command(column)[2:] for column in one.columns]
  assert all(command[0] == '--protocol=af_paper' for command in commands)
  asked = [command[1:] for command in commands]
  assert asked == [
    ['--num_context=6'],
    ['--num_context=6', '--split=train', '--num_sequences=16'],
    [],
    ['--split=train', '--num_sequences=16'],
  ]
  assert [two.evaluate_command(column)[3:] for column in two.columns] == [asked[2], asked[3]]
  assert one.contract(one.columns[0]) == two.contract(two.columns[0])


def test_the_table_of_box_logistic_flows():
  """Affine and box-logistic flows at the same steps, under the protocol of uniform noise."""
  runs = [
    reproduced.finished(row, test=nats, table=tables.BOX)
    for row, nats in (('af1', 1.8), ('af1_box', 1.4))
  ]
  asked = [runs[1].run.evaluate_command(column)[2:] for column in runs[1].run.columns]
  uniform = ['--protocol=discrete', '--num_context=6']
  assert asked == [uniform, [*uniform, '--split=train', '--num_sequences=16']]
  page = pages.page(table.build(runs, {**reproduced.ABOUT, 'table': 'box'}))
  assert page.startswith('# Affine and box-logistic flows on moving_digits 16x16x1, scale small')
  assert '* 1-AF box against 1-AF: 1.400 against 1.800 nats/dim on test frames 6..15' in page


def test_folders_are_found_in_order(tmp_path):
  for name in ('slvm-0', 'af1-10', 'af1-2', 'logs', 'other-1', 'af1-x'):
    (tmp_path / name).mkdir()
  assert plan.found(tmp_path, AF_1.rows) == [('af1', 2), ('af1', 10), ('slvm', 0)]


# ---- tables --------------------------------------------------------------------------------------


def test_rows_are_results_of_the_contract():
  runs = [reproduced.finished('slvm', 1, test=2.2), reproduced.finished('af1', 0)]
  values = table.build(runs, reproduced.ABOUT)
  assert [row['model'] for row in values['rows']] == [
    *('1-AF', 'SLVM', 'static Gaussian', 'copy-last Gaussian')
  ]
  slvm = values['rows'][1]
  assert slvm['seeds'] == [1]
  [result] = table.results(slvm, 'test')
  assert result.kl_nats_per_step == 3.31
  assert result.nats_per_dim == pytest.approx(2.2)
  assert result.contract.scored_frames == (6, 15)
  assert json.loads(json.dumps(values, allow_nan=False)) == values
  assert values['evaluated_at'] == ['c0ffee0123456789']
  del runs[1].evaluations['train']['git_commit']
  assert table.build(runs, reproduced.ABOUT)['evaluated_at'] == ['c0ffee0123456789', 'unknown']


@pytest.mark.parametrize(
  ('key', 'value', 'words'),
  [
    ('scored_frames', [7, 16], 'scored_frames is (6, 15) and (7, 16)'),
    ('dataset', 'kth 64x64x1', 'dataset is moving_digits 16x16x1 and kth'),
    ('num_sequences', 8, 'num_sequences is 16 and 8'),
    ('num_samples', 3, 'num_samples is 1 and 3'),
  ],
)
def test_contracts_are_not_mixed(key, value, words):
  other = reproduced.finished('slvm')
  other.evaluations['test']['results'][0][key] = value
  with pytest.raises(ContractError) as caught:
    table.build([reproduced.finished('af1'), other], reproduced.ABOUT)
  assert words in str(caught.value)


def test_references_that_differ_give_other_data_away():
  other = reproduced.finished('slvm')
  other.evaluations['test']['results'][1]['nats_per_dim'] += 0.01
  with pytest.raises(ContractError, match='not scored on the same data'):
    table.build([reproduced.finished('af1'), other], reproduced.ABOUT)


def test_a_folder_keeps_its_subject(tmp_path):
  runs = [reproduced.finished('af1')]
  for command in ('first', 'second', 'first'):
    saved.write(tmp_path, runs, reproduced.ABOUT, command)
  assert json.loads((tmp_path / saved.JSON).read_text())['commands'] == ['second', 'first']
  saved.check(tmp_path, reproduced.ABOUT)
  with pytest.raises(ConfigError, match="scale='small', not 'paper'; use another --workdir"):
    saved.check(tmp_path, {**reproduced.ABOUT, 'scale': 'paper'})
  assert (tmp_path / saved.MARKDOWN).read_text().startswith('# Table 1')


# ---- what a folder holds -------------------------------------------------------------------------


@pytest.fixture
def smoke_plan(smoke_run):
  config = json.loads((smoke_run / 'config.json').read_text())
  receipt = json.loads((smoke_run / 'receipt.json').read_text())
  data = dataclasses.replace(reproduced.DATA, fingerprint=receipt['data_fingerprint'])
  run = reproduced.planned('af1', data=data)
  return dataclasses.replace(run, path=smoke_run, config=config)


def with_config(run, section, **values):
  return dataclasses.replace(run, config={**run.config, section: {**run.config[section], **values}})


def test_a_trained_run_is_known_as_such(smoke_plan, tmp_path):
  folders.check(smoke_plan)
  assert folders.is_trained(smoke_plan)
  assert folders.finished(smoke_plan) is None  # nobody has evaluated it like this
  longer = with_config(smoke_plan, 'train', num_steps=30)
  folders.check(longer)  # a constant learning rate knows no end
  assert not folders.is_trained(longer)
  assert not folders.is_trained(dataclasses.replace(smoke_plan, path=tmp_path))


def test_runs_about_something_else_are_refused(smoke_plan):
  others = {
    'was trained with optimizer.b1=0.9, not 0.5': with_config(smoke_plan, 'optimizer', b1=0.5),
    'was trained for 20 steps, this table is about 5': with_config(
      smoke_plan, 'train', num_steps=5
    ),
    'the prepared data have 0123': dataclasses.replace(
      smoke_plan, data=dataclasses.replace(smoke_plan.data, fingerprint='0123')
    ),
  }
  for words, other in others.items():
    with pytest.raises(ConfigError) as caught:
      folders.check(other)
    assert words in str(caught.value)


# ---- from end to end -----------------------------------------------------------------------------

TINY = [
  *('--table=af_1', '--dataset=moving_digits', '--scale=quick', '--rows=af1'),
  *(f'--override=data.{v}' for v in ('num_train=32', 'num_validation=16', 'num_test=16')),
  *(f'--override=model.conditioner.{v}' for v in ('encoder_depth=1', 'decoder_depth=1')),
  *('--override=train.num_steps=4', '--override=train.batch_size=2'),
]


@pytest.fixture(scope='module')
def reproduced_table(launch, session_dir):
  workdir = session_dir / 'reproduced'
  done = launch('reproduce', *TINY, f'--workdir={workdir}', timeout=900)
  assert done.returncode == 0, done.stderr
  return workdir, done


@pytest.mark.slow
def test_table_is_written_and_made_again_without_training(reproduced_table, launch):
  workdir, done = reproduced_table
  values = json.loads((workdir / 'table.json').read_text())
  assert done.stdout.startswith((workdir / 'table.md').read_text())
  [row, *references] = values['rows']
  assert (row['model'], row['seeds'], row['steps']) == ('1-AF', [0], 4)
  assert len(row['test']) == len(row['train']) == 1
  assert row['train'][0]['num_sequences'] == values['columns']['test']['num_sequences'] == 16
  assert [r['model'] for r in references] == ['static Gaussian', 'copy-last Gaussian']
  times = {p: p.stat().st_mtime_ns for p in workdir.rglob('*-0/**/*') if p.is_file()}
  assert len(list((workdir / 'af1-0' / 'evaluation').glob('*.json'))) == 4
  again = launch('reproduce', *TINY, f'--workdir={workdir}')
  assert again.returncode == 0, again.stderr
  assert times == {p: p.stat().st_mtime_ns for p in workdir.rglob('*-0/**/*') if p.is_file()}
  assert json.loads((workdir / 'table.json').read_text())['rows'] == values['rows']


@pytest.mark.slow
def test_other_runs_in_the_folder_are_refused(reproduced_table, launch):
  workdir, _ = reproduced_table
  (workdir / 'table.json').rename(workdir / 'kept.json')
  try:
    done = launch('reproduce', *TINY, f'--workdir={workdir}', '--override=optimizer.b1=0.5')
  finally:
    (workdir / 'kept.json').rename(workdir / 'table.json')
  assert done.returncode == 2
  assert done.stderr.count('\n') == 1
  assert 'af1-0 was trained with optimizer.b1=0.9, not 0.5' in done.stderr


@pytest.mark.slow
def test_figure_of_a_trained_run(reproduced_table, launch):
  from PIL import Image

  workdir, _ = reproduced_table
  done = launch('reproduce', '--figure=af_4', '--model=af1', f'--workdir={workdir}')
  assert done.returncode == 0, done.stderr
  picture = Image.open(workdir / 'af_4_af1.png')
  steps, scale = figures.LAST_STEP - 3, round(figures.PANEL_WIDTH / (13 * 17))
  assert picture.height == 4 * 17 * scale + figures.TITLE_HEIGHT
  assert steps * 17 * scale < picture.width < steps * 17 * scale + 120


def test_data_that_are_not_prepared_are_named_in_one_line(launch, tmp_path):
  arguments = ('--table=af_1', '--dataset=bair', '--scale=paper', f'--workdir={tmp_path}/x')
  done = launch('reproduce', *arguments, '--rows=af1')
  assert done.returncode == 3
  assert done.stderr.count('\n') == 1
  assert 'run: python launch/prepare_data.py --dataset=bair' in done.stderr
  assert not (tmp_path / 'x').exists()


def test_two_kinds_at_once_are_refused(launch, tmp_path):
  done = launch('reproduce', '--table=af_1', '--figure=af_4', f'--workdir={tmp_path}')
  assert (done.returncode, done.stderr.count('\n')) == (2, 1)
  assert 'exactly one of --table' in done.stderr


# ---- figures -------------------------------------------------------------------------------------


@pytest.mark.parametrize('figure', figures.PANELS)
def test_panels_side_by_side(figure):
  import io

  from PIL import Image

  labels = {label for panel in figures.panels(figure) for label in panel.shown}
  lengths = {'x': 16, '1/shift': 13, '1/scale': 13, '1/y': 13}
  rows = {label: np.full((1, lengths.get(label, 10), 8, 8, 1), 0.5, np.float32) for label in labels}
  shown = figures.panels(figure)
  picture = Image.open(io.BytesIO(figures.draw(shown, [rows] * len(shown))))
  steps = min(values.shape[1] for values in rows.values())
  scale = round(figures.PANEL_WIDTH / (steps * 9))
  assert picture.height == max(len(p.shown) for p in shown) * 9 * scale + figures.TITLE_HEIGHT
  assert picture.width > 2 * steps * 9 * scale + figures.GAP


def test_a_model_without_the_rows_is_named():
  x = np.zeros((1, 16, 8, 8, 1))
  with pytest.raises(ConfigError, match='af1 does not show 1/shift, 1/scale, 1/y, only x'):
    figures.draw(figures.panels('af_4', 'af1'), [{'x': x}])


def test_figures_need_a_run(tmp_path):
  (tmp_path / 'slvm_af1-2').mkdir()
  (tmp_path / 'slvm_af1-1').mkdir()
  assert figures.run_folder(tmp_path, 'slvm_af1').name == 'slvm_af1-1'
  with pytest.raises(ConfigError, match='holds no run af1-SEED'):
    figures.run_folder(tmp_path, 'af1')


# ---- the first N sequences -----------------------------------------------------------------------


@pytest.mark.slow
def test_num_sequences_scores_the_first_so_many(smoke_run, launch):
  done = launch('evaluate', f'--workdir={smoke_run}', '--split=train', '--num_sequences=40')
  assert done.returncode == 0, done.stderr
  report = json.loads((smoke_run / 'evaluation' / 'af_paper_train.json').read_text())
  assert {result['num_sequences'] for result in report['results']} == {40}
  assert report['identity']['settings']['num_sequences'] == 40
