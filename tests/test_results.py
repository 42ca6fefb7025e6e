"""Tables as Markdown, and the documents that are generated from measured ones."""

import json
import math
import pathlib

import pytest

from afslvm.errors import ConfigError
from afslvm.evaluation.contract import LikelihoodResult
from afslvm.reproduction import claims, documents, markdown, pages, selection, table, tables
from tests import reproduced

ROOT = pathlib.Path(__file__).resolve().parents[1]
DIGITS = [
  reproduced.finished('af1', test=2.6),
  *(reproduced.finished('slvm', seed, test=v) for seed, v in enumerate((2.4, 2.5, 2.7))),
  reproduced.finished('slvm_af2', test=2.3),
]


@pytest.fixture
def digits():
  return table.build(DIGITS, reproduced.ABOUT)


def cells(lines, model):
  """The cells of the first line of a Markdown table about `model`."""
  line = next(line for line in lines if line.startswith((f'| {model} |', f'| *{model}* |')))
  return [cell.strip() for cell in line.strip('|').split('|')]


# ---- what the repository says --------------------------------------------------------------------


def test_documents_agree_with_the_measured_tables():
  assert not list(documents.differing(ROOT))


def test_measured_tables_are_none_of_a_trial():
  for path in sorted((ROOT / documents.TABLES).glob('*.json')):
    values = documents.read(path)
    # A table with rows of another machine lies beside the one that has the name of its title.
    assert path.stem.rpartition('_')[0] == pages.name(values).rpartition('_')[0]
    assert not markdown.is_trial(values)
    for row in values['rows']:
      for column in values['columns']:
        table.check_column(table.results(row, column))


# ---- numbers -------------------------------------------------------------------------------------


def results_of(*pairs):
  contract = reproduced.planned('slvm').contract(tables.AF_1.columns[0])
  return [
    LikelihoodResult('SLVM', 'elbo', contract, value, error, 1.0, value, 16, 1, 0)
    for value, error in pairs
  ]


def test_summary_of_seeds_by_hand():
  found = markdown.summarise(results_of((2.0, 0.01), (2.2, 0.02), (2.4, 0.03)))
  assert found.mean == pytest.approx(2.2)
  assert found.standard_error == pytest.approx(0.02)
  assert found.spread == pytest.approx(0.2)  # sqrt((.04 + 0 + .04) / 2)
  assert markdown.nats(found) == '≤ 2.200 ± .020, s.d. .200'
  assert markdown.bits(found) == f'≤ {2.2 / math.log(2):.3f}'


def test_one_seed_has_no_spread():
  found = markdown.summarise(results_of((2.0, 0.01)))
  assert found.spread is None
  assert markdown.nats(found) == '≤ 2.000 ± .010'
  assert markdown.nats(found._replace(standard_error=math.nan, bound=False)) == '2.000'


def test_columns_by_hand(digits):
  lines = markdown.part(digits, markdown.COMMON)
  slvm = cells(lines, 'SLVM')
  mean, spread = (2.4 + 2.5 + 2.7) / 3, math.sqrt(((2.4 - 7.6 / 3) ** 2 + (2.5 - 7.6 / 3) ** 2
    + (2.7 - 7.6 / 3) ** 2) / 2)  # fmt: skip
  assert slvm[1:3] == ['1,004', '3']
  assert slvm[3] == f'≤ {mean:.3f} ± .010, s.d. {spread:.3f}'.replace('s.d. 0', 's.d. ')
  assert slvm[7:10] == ['+0.100 ± .014', '3.31', '12.5']
  assert cells(lines, 'SLVM + 2-AF')[3] == '**≤ 2.300 ± .010**'
  assert cells(lines, '1-AF')[8] == ''
  assert cells(lines, 'static Gaussian')[1:4] == ['512', '', '4.700 ± .010']
  assert cells(lines, 'copy-last Gaussian')[1] == '256'


def test_models_of_two_flows_are_not_scored_after_three_frames(digits):
  shorter = '\n'.join(markdown.part(digits, markdown.OWN))
  assert 'frames 3..12' in shorter
  assert '| 1-AF |' in shorter
  assert '2-AF' not in shorter
  assert cells(markdown.part(digits, markdown.OWN), 'SLVM')[8] == '3.28'  # of its own frames
  common = '\n'.join(markdown.part(digits, markdown.COMMON))
  assert 'frames 6..15' in common
  assert '| SLVM + 2-AF |' in common


def test_page_shows_every_seed(digits):
  text = markdown.page(digits)
  for value in ('2.400', '2.500', '2.700'):
    assert f'≤ {value} ± .010 | 3.31 | 0.400 → −0.010 | 40 of 50 | 16 |' in text
  assert 'at commit c0ffee0.' in text
  assert 'at commit 2, 3.' in markdown.page({**digits, 'evaluated_at': ['2', '3']})
  assert 'a trial' not in text
  assert 'a trial' in markdown.page({**digits, 'scale': 'quick'})


# ---- claims --------------------------------------------------------------------------------------


def claimed(*runs):
  found = table.build(runs, reproduced.ABOUT)
  return claims.sentences(found, markdown.CLAIMED)


def test_claims_are_of_the_seeds_that_both_models_have():
  values = {('slvm', 0): 2.5, ('slvm', 1): 2.6}
  values |= {('slvm_af1', 0): 2.41, ('slvm_af1', 1): 2.73, ('slvm_af1', 2): 2.0}
  gap = {'slvm': 0.1, 'slvm_af1': 0.04}
  lower, smaller = claimed(
    *(reproduced.finished(*run, test=v, gap=gap[run[0]]) for run, v in values.items())
  )
  assert lower.startswith('* SLVM + 1-AF against SLVM: 2.570 against 2.550 nats/dim on test frames')
  assert 'frames 3..12, lower on 1 of 2 seeds, with 1,008 against 1,004 parameters' in lower
  assert '+0.040 against +0.100 nats/dim on test frames 3..12, smaller on 2 of 2 seeds' in smaller


def test_claims_about_two_flows_are_of_the_frames_that_both_models_have():
  [sentence] = claimed(reproduced.finished('af1', test=2.5), reproduced.finished('af2', test=2.4))
  assert '2-AF against 1-AF: 2.400 against 2.500 nats/dim on test frames 6..15' in sentence
  assert 'lower on 1 of 1 seed,' in sentence
  assert claimed(reproduced.finished('af1')) == []


# ---- the paper beside ours -----------------------------------------------------------------------


def test_no_paper_beside_other_data(digits):
  text = markdown.page(digits)
  assert 'AF paper, Table 1' not in text
  assert 'not beside this: moving_digits 16x16x1 (16 x 16 x 1) is none' in text


def test_paper_stands_beside_what_it_scored_on_the_same_frames():
  runs = [reproduced.finished(row, data=reproduced.PUBLISHED) for row in reproduced.LABELS]
  values = table.build(runs, {**reproduced.ABOUT, 'dataset': 'moving_mnist', 'scale': 'paper'})
  own = {'1-AF': 2.15, 'SLVM': 1.92, 'SLVM + 1-AF': 1.86}
  assert values['columns']['test_context3']['published'] == own
  assert values['columns']['test']['published'] == {'2-AF': 2.13}
  assert values['columns']['train']['published'] == {}
  lines = markdown.part(values, markdown.OWN)
  assert cells(lines, 'SLVM + 1-AF')[-1] == '≤ 1.86'
  assert cells(lines, '1-AF')[-1] == '2.15'
  assert cells(markdown.part(values, markdown.COMMON), 'SLVM')[-1] == '–'


def test_paper_stands_beside_the_split_that_it_scored():
  """On KTH that is the validation persons' clips."""
  runs = [reproduced.finished(row, data=reproduced.KTH) for row in reproduced.LABELS]
  values = table.build(runs, {**reproduced.ABOUT, 'dataset': 'kth', 'scale': 'paper'})
  published = {name: column['published'] for name, column in values['columns'].items()}
  assert published['test'] == published['test_context3'] == {}
  assert published['paper_context3'] == {'1-AF': 3.34, 'SLVM': 4.63, 'SLVM + 1-AF': 2.39}
  assert published['paper'] == {'2-AF': 3.35}
  lines = markdown.part(values, markdown.PAPER_OWN)
  assert 'validation, frames 3..12' in lines[0]
  assert cells(lines, '1-AF')[3] == '**2.600 ± .010**'
  assert cells(lines, 'SLVM')[-1] == '≤ 4.63'
  assert 'validation, frames 6..15' in markdown.page(values)
  assert 'not beside this' not in markdown.page(values)


# ---- documents -----------------------------------------------------------------------------------


@pytest.fixture
def repository(tmp_path, digits):
  (tmp_path / documents.TABLES).mkdir(parents=True)
  (tmp_path / 'table.json').write_text(json.dumps(digits))
  (tmp_path / 'README.md').write_text(
    '# x\n<!-- results\nmoving_digits_small: slvm slvm_af2\n-->\n<!-- /results -->\nend\n'
  )
  return tmp_path


def test_documents_are_filled_once(repository):
  documents.add(repository, repository / 'table.json')
  assert documents.write(repository) == [documents.PAGE, pathlib.Path('README.md')]
  readme = (repository / 'README.md').read_text()
  assert readme.startswith('# x\n<!-- results\nmoving_digits_small: slvm slvm_af2\n-->\n| data')
  assert readme.endswith('|\n<!-- /results -->\nend\n')
  assert '| SLVM + 2-AF |' in readme
  assert '1-AF' not in readme
  page = (repository / documents.PAGE).read_text()
  assert '## Table 1 of the AF paper on moving_digits' in page
  assert page.count(markdown.LEGEND) == 1
  assert documents.write(repository) == []
  (repository / 'README.md').write_text(readme.replace('≤ 2.300', '≤ 1.300'))
  assert list(documents.differing(repository)) == [pathlib.Path('README.md')]


def test_notes_of_people_stand_below_the_title_of_their_table(repository):
  documents.add(repository, repository / 'table.json')
  (repository / documents.TABLES / 'moving_digits_small.md').write_text('A word on it.\n')
  (repository / documents.TABLES / 'trials.md').write_text('## Trials\n\nWithout a table.\n')
  documents.write(repository)
  page = (repository / documents.PAGE).read_text()
  assert 'scale small\n\nA word on it.\n\nmoving_digits 16x16x1: ' in page
  assert page.endswith('\n\n## Trials\n\nWithout a table.\n')


def test_marks_that_name_nothing_are_errors(repository):
  with pytest.raises(ConfigError, match=r'README.md asks for results of moving_digits_small'):
    documents.generated(repository)
  documents.add(repository, repository / 'table.json')
  readme = (repository / 'README.md').read_text()
  (repository / 'README.md').write_text(readme.replace('slvm_af2', 'slvm_af3'))
  with pytest.raises(
    ConfigError, match=r'slvm_af3 of moving_digits_small.*did you mean "slvm_af2"'
  ):
    documents.generated(repository)


# ---- a few rows for the README -------------------------------------------------------------------


def test_rows_of_frames(digits):
  af1, slvm = selection.rows(digits, ['af1', 'slvm'])
  assert af1 == selection.Row(
    data='moving_digits 16x16x1, frames 6..15, nats/dim',
    model='1-AF',
    paper='–',
    ours='2.600 ± .010',
    seeds='1',
    config='`configs/moving_digits/af1.py`',
    steps='50',
    time=af1.time,
  )
  assert (slvm.seeds, slvm.ours[:7]) == ('3', '≤ 2.533')
  text = selection.rendered([af1, slvm])
  assert text.count('frames 6..15') == 1
  assert text.splitlines()[-1].startswith('|  | SLVM | – | ≤ 2.533')


def test_rows_stand_beside_the_paper_on_the_frames_that_it_scored():
  runs = [reproduced.finished(row, data=reproduced.KTH) for row in ('af1', 'af2')]
  values = table.build(runs, {**reproduced.ABOUT, 'dataset': 'kth', 'scale': 'paper'})
  af1, af2 = selection.rows(values, ['af1', 'af2'])
  assert ('frames 3..12' in af1.data, af1.paper) == (True, '3.34')
  assert ('frames 6..15' in af2.data, af2.paper) == (True, '3.35')


def test_only_measurements_are_kept(repository, digits):
  (repository / 'quick.json').write_text(json.dumps({**digits, 'scale': 'quick'}))
  with pytest.raises(ConfigError, match='scale quick, which measures nothing'):
    documents.add(repository, repository / 'quick.json')
  (repository / 'changed.json').write_text(
    json.dumps({**digits, 'overrides': ['train.num_steps=50']})
  )
  with pytest.raises(ConfigError, match='made with --override=train.num_steps=50'):
    documents.add(repository, repository / 'changed.json')
  (repository / 'other.json').write_text('{"rows": 3}')
  with pytest.raises(ConfigError, match=r'other.json is no table'):
    documents.add(repository, repository / 'other.json')


def test_a_smaller_table_does_not_replace_a_larger_one(repository, digits):
  documents.add(repository, repository / 'table.json')
  fewer = [row for row in digits['rows'] if row['model'] != 'SLVM + 2-AF']
  (repository / 'fewer.json').write_text(json.dumps({**digits, 'rows': fewer}))
  with pytest.raises(ConfigError, match='fewer.json has no slvm_af2-0'):
    documents.add(repository, repository / 'fewer.json')
  documents.add(repository, repository / 'table.json')


def test_binary_checks(launch):
  done = launch('results', '--check')
  assert (done.returncode, done.stdout) == (0, ''), done.stderr
