import dataclasses
import html
import html.parser
import json
import pathlib
import re

import pytest

from afslvm.visualization import gaps, markup, records, report, results

NASTY = '<script>alert("x")</script> & \'more\''


class Page(html.parser.HTMLParser):
  """What a browser would fetch, and the text of every table cell."""

  def __init__(self, text):
    super().__init__()
    self.tags, self.links, self.tables, self._cell = set(), [], [], None
    self.feed(text)

  def handle_starttag(self, tag, attributes):
    self.tags.add(tag)
    for name, value in attributes:
      if name in ('src', 'srcset', 'href', 'data', 'poster', 'action'):
        self.links.append(value)
    if tag == 'table':
      self.tables.append([])
    elif tag == 'tr':
      self.tables[-1].append([])
    elif tag in ('th', 'td'):
      self._cell = []

  def handle_data(self, data):
    if self._cell is not None:
      self._cell.append(data)

  def handle_endtag(self, tag):
    if tag in ('th', 'td'):
      self.tables[-1][-1].append(' '.join(''.join(self._cell).split()))
      self._cell = None


@pytest.fixture
def two_runs(digits_run, make_run, evaluate):
  """Two models that were scored under three contracts, of which they share one."""
  other = make_run('1-AF', 'af1')
  other = evaluate(other, 'af_paper', 'gauss256', (3, 8), 3.111)
  other = evaluate(other, 'af_paper', 'gauss256', (6, 8), 3.222)
  two = evaluate(digits_run, 'af_paper', 'gauss256', (6, 8), 3.033)
  return [other, evaluate(two, 'discrete', 'uniform', (6, 8), 2.444)]


def without_pictures(run):
  return dataclasses.replace(run, sequences=None, no_sequences='the data have gone')


# ---- the page as a file --------------------------------------------------------------------------


def test_page_needs_nothing_from_outside(two_runs):
  text = report.build(two_runs)
  page = Page(text)
  assert page.links
  assert all(link.startswith(('data:', '#')) for link in page.links)
  assert not page.tags & {'script', 'link', 'iframe', 'object', 'base', 'form'}
  assert '://' not in text
  style = text[text.index('<style>') : text.index('</style>')]
  assert '@import' not in style
  assert 'url(' not in style
  assert "default-src 'none'" in html.unescape(text)
  # All of it is there: pictures of both models, animations, charts, what they score.
  assert text.count('image/gif') == 2 * 2
  assert text.count('image/svg+xml') == 2
  assert text.count('image/png') == 2 * (4 + 7) + 2 * 2 * 5
  rows = [row for table in page.tables for row in table]
  assert ['2-AF', 'af_paper, steps 6..8', 'x', '+0.375', '1.010'] in rows
  assert ['2-AF', 'af_paper, steps 6..8', 'y', '+0.012', '1.010'] in rows


def test_everything_is_escaped(digits_run, evaluate):
  digits_run = without_pictures(digits_run)
  run = dataclasses.replace(digits_run, title=NASTY, workdir=NASTY, dataset=NASTY)
  run.config['model']['comment'] = NASTY
  evaluated = evaluate(digits_run, 'af_paper', 'gauss256', (6, 8), 3.0, dataset=NASTY)
  text = report.build([dataclasses.replace(run, records=evaluated.records)])
  assert '<script' not in text
  assert '&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt; &amp; &#x27;more&#x27;' in text


def test_same_runs_give_the_same_bytes(digits_run):
  run = without_pictures(digits_run)
  assert report.build([run]) == report.build([run])


# ---- numbers -------------------------------------------------------------------------------------


def test_one_column_per_contract(two_runs):
  table = Page(results.results_table(two_runs)).tables[0]
  header, first, second, static = table
  assert len(header) == 1 + 3
  # The contract that both answer comes first.
  assert 'af_paper' in header[1]
  assert 'steps 6..8 after 6 given' in header[1]
  assert 'floor 1.419' in header[1]
  assert [first[0], second[0], static[0]] == ['1-AF', '2-AF', 'static Gaussian']
  assert first[1].startswith('3.222 ± ')
  assert second[1].startswith('3.033 ± ')
  paper = next(i for i, cell in enumerate(header) if 'steps 3..' in cell)
  discrete = next(i for i, cell in enumerate(header) if 'discrete' in cell)
  assert first[paper].startswith('3.111 ± ')
  assert 'looks back 6 steps' in second[paper]
  assert first[discrete] == '–'
  assert second[discrete].startswith('≤ 2.444 ± ')
  assert '≤ 2.434 ± ' in second[discrete]
  assert 'iwae-5' in second[discrete]
  assert all(cell.startswith('7.500') for cell in static[1:])


def test_bits_are_beside_nats(two_runs):
  assert f'{3.033 / 0.6931471805599453:.3f} bits/dim' in results.results_table(two_runs)


def test_terminal_tables_do_not_mix_contracts(two_runs):
  text = results.text_tables(two_runs)
  blocks = text.split('\n\n')
  assert len(blocks) == 3
  assert all(block.startswith('protocol ') for block in blocks)
  assert re.search(r'^1-AF .* 3\.222', blocks[0], re.MULTILINE)
  assert re.search(r'^2-AF .* 3\.033', blocks[0], re.MULTILINE)


def test_same_label_on_other_data_is_another_column(two_runs):
  one, two = two_runs
  other = [dataclasses.replace(e, fingerprint='other') for e in two.records.evaluations]
  two = dataclasses.replace(two, records=dataclasses.replace(two.records, evaluations=other))
  assert len(results.columns([one, two])) == 4


def test_evaluation_of_an_older_checkpoint_is_marked(digits_run, evaluate):
  run = evaluate(digits_run, 'af_paper', 'gauss256', (6, 8), 3.0, sha256='older')
  assert 'of step 10, not the present best' in results.results_table([run])


def test_missing_evaluations_come_with_their_command(two_runs, particle_run):
  found = dict(gaps.missing_evaluations([*two_runs, particle_run]))
  one, two = two_runs
  assert found['1-AF particle has not been evaluated'].endswith(particle_run.workdir)
  assert found['1-AF is missing under discrete on steps 6..8'] == (
    f'python launch/evaluate.py --workdir={one.workdir} --protocol=discrete --num_context=6'
  )
  assert len(found) == 2  # 2-AF can't answer steps 3..8, and has af_paper on its own


# ---- runs that lack something --------------------------------------------------------------------


def test_run_with_nothing_but_a_checkpoint(make_run):
  run = make_run('1-AF', 'af1', with_records=False)
  bare = without_pictures(run)
  text = report.build([bare])
  assert f'python launch/evaluate.py --workdir={run.workdir}' in text
  assert 'No training records' in text
  assert 'the data have gone' in text
  assert results.text_tables([bare]) == ''


def test_damaged_records_are_left_out(digits_run, evaluate):
  run = evaluate(digits_run, 'af_paper', 'gauss256', (6, 8), 3.0)
  workdir = pathlib.Path(run.workdir)
  good = (workdir / 'metrics.jsonl').read_text()
  odd = (
    '{"step": 30, "nats_per_dim": null}\n[1]\n{"step": 31, "nats_per_dim": NaN}\n{"step": 32, "na'
  )
  (workdir / 'metrics.jsonl').write_text(good + odd)
  (workdir / 'receipt.json').write_text('{"device": "odd", "steps_per_second": null}')
  (workdir / 'evaluation' / 'zzz.json').write_text('{"results": [{"name": 1}]}')
  (workdir / 'evaluation' / 'list.json').write_text(json.dumps([1, 2]))
  found = records.read(workdir)
  assert found.train == run.records.train
  assert len(found.evaluations) == 1
  report.build([without_pictures(dataclasses.replace(run, records=found))])


def test_vectors_are_drawn_as_lines(particle_run, evaluate):
  run = evaluate(particle_run, 'continuous', 'none', (2, 7), 0.9)
  text = report.build([run])
  assert 'observations of shape 2 are neither frames nor sound' in text
  assert 'image/gif' not in text
  assert text.count('image/svg+xml') == 2 * (1 + 2)  # light and dark; curves and two sequences
  assert 'no floor' in text


# ---- markup --------------------------------------------------------------------------------------


def test_elements_escape_text_and_keep_markup():
  made = markup.element('p', 'a < b', markup.element('br'), class_='x"y', id=None)
  assert made == '<p class="x&quot;y">a &lt; b<br></p>'


# ---- the command ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_report_of_a_trained_run(launch, smoke_run, tmp_path):
  page, picture = tmp_path / 'a' / 'page.html', tmp_path / 'b' / 'rows.png'
  done = launch(
    'report', smoke_run, f'--output={page}', f'--picture={picture}', '--num_sequences=1'
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout.splitlines()[-1] == str(page)
  assert Page(page.read_text()).links
  assert picture.read_bytes().startswith(b'\x89PNG')


@pytest.mark.parametrize('arguments', [[], ['nowhere']], ids=['no run', 'not a run'])
def test_mistakes_are_one_line(launch, arguments):
  done = launch('report', *arguments)
  assert done.returncode == 2
  assert done.stderr.startswith('error: ')
  assert done.stderr.count('\n') == 1
