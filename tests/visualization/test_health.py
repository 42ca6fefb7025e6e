import dataclasses
import pathlib

import pytest

from afslvm.evaluation import diagnostics
from afslvm.visualization import figures, health, pictures, records, report, results, summary
from tests.visualization.conftest import HEALTHY, write_validations
from tests.visualization.test_report import Page, without_pictures

DEAD = {**HEALTHY, 'kl': 0.02, 'active_units': 0}


@pytest.fixture
def latent_run(make_run):
  return make_run('SLVM', 'slvm')


def rows_of(text):
  return {row[0]: row[1:] for row in Page(text).tables[0]}


# ---- records -------------------------------------------------------------------------------------


def test_health_is_read_from_validations_only(latent_run):
  run = write_validations(latent_run, DEAD, HEALTHY)
  assert [values['step'] for values in run.records.health] == [20, 100, 200]
  assert run.records.health[0] == {'step': 20}
  assert run.records.health[-1] == {'step': 200, **HEALTHY}


def test_odd_values_are_left_out(latent_run):
  odd = {'kl': 'much', 'active_units': None, 'kl_per_step': [1.0, 'x'], 'predictive_gap': [2]}
  run = write_validations(latent_run, {**odd, 'saturation/flow 1': True, 'other': 1.0})
  assert run.records.health[-1].keys() <= {'step', 'saturation/flow 1'}
  health.section([run])


# ---- the section ---------------------------------------------------------------------------------


def test_numbers_of_the_last_validation_with_their_meaning(latent_run):
  text = health.section([write_validations(latent_run, DEAD, HEALTHY)])
  rows = rows_of(text)
  assert rows['KL'] == ['4.25', diagnostics.MEANING['kl']]
  assert rows['active units'][0] == '1 of 2'
  assert rows['predictive gap'][0] == '31.50'
  assert rows['residual correlation'][0] == '−0.045'
  assert rows['saturation, flow 1'][0] == '1.2%'
  assert 'nothing looks wrong at step 200' in text
  assert 'warning' not in text
  assert text.count('image/svg+xml') == 2  # light and dark


def test_what_is_wrong_is_said(latent_run):
  run = write_validations(latent_run, HEALTHY, DEAD, DEAD)
  text = health.section([run])
  assert 'Posterior equals prior: KL 0.02 nats/step since step 200; try' in text
  assert 'class="note warning"' in text
  assert 'nothing looks wrong' not in text


def test_runs_show_what_they_have(latent_run, digits_run):
  flows = {key: HEALTHY[key] for key in ('residual_correlation', 'saturation/flow 1')}
  text = health.section([write_validations(digits_run, flows)])
  assert rows_of(text).keys() == {'', 'residual correlation', 'saturation, flow 1'}
  assert '<picture>' not in text
  assert 'no health was recorded' in health.section([latent_run])
  both = health.section([write_validations(latent_run, HEALTHY), digits_run])
  assert rows_of(both)[''] == ['SLVM', 'meaning']


def test_the_page_has_the_section(latent_run, make_run):
  run = without_pictures(write_validations(latent_run, DEAD))
  bare = without_pictures(make_run('1-AF', 'af1', with_records=False))
  text = report.build([run, bare])
  assert 'id="health"' in text
  assert 'Posterior equals prior' in text


# ---- latent variable models in the rest of the page ----------------------------------------------


def test_a_mean_is_named_by_what_it_reconstructs(latent_run, make_run):
  alone = pictures.visual_rows(latent_run, latent_run.sequences)
  assert list(alone) == ['x', '1/mean']
  under = make_run('SLVM + 1-AF', 'slvm_af1')
  flows = pictures.visual_rows(under, under.sequences)
  assert list(flows) == ['x', '1/shift', '1/scale', '1/y', '2/mean']
  assert 'reconstruction of x ' in pictures.rows_of_sequence(latent_run, alone, 0)
  assert 'reconstruction of y ' in pictures.rows_of_sequence(under, flows, 0)
  text = report.build([latent_run])
  assert 'the reconstruction accounts for' in text
  assert 'Flow by flow' not in text  # there is none


def test_kl_stands_with_the_bound(latent_run, evaluate):
  run = evaluate(latent_run, 'af_paper', 'gauss256', (3, 8), 3.0)
  (evaluated,) = run.records.evaluations
  bound = dataclasses.replace(evaluated.results[0], kind='elbo', kl_nats_per_step=8.5617)
  evaluated = dataclasses.replace(evaluated, results=[bound, *evaluated.results[1:]])
  found = dataclasses.replace(run.records, evaluations=[evaluated])
  text = report.build([without_pictures(dataclasses.replace(run, records=found))])
  assert text.count('KL/step 8.56 nats') == 1
  assert 'KL/step' not in report.build([without_pictures(run)])


def test_other_numbers_of_iterations_are_named_and_lead_nothing(latent_run, evaluate):
  run = evaluate(latent_run, 'af_paper', 'gauss256', (3, 8), 3.0)
  (evaluated,) = run.records.evaluations
  better = dataclasses.replace(evaluated.results[0], nats_per_dim=2.0)
  more = dataclasses.replace(
    evaluated, results=[better, *evaluated.results[1:]], iterations=8, fingerprint='feedbeef'
  )
  evaluated = dataclasses.replace(evaluated, fingerprint='feedbeef')
  found = dataclasses.replace(run.records, evaluations=[more, evaluated])
  run = dataclasses.replace(run, records=found)
  table = results.results_table([run])
  assert 'with 8 inference iterations, not as trained' in table
  assert table.index('3.000') < table.index('2.000')
  (headline,) = summary.headlines([run])
  assert '3.000' in headline
  assert '2.000' not in headline
  assert 'SLVM, 8 inference iterations' in results.text_tables([run])


def test_divergences_of_whole_songs_begin_where_they_are_scored(music_run):
  """Songs are longer than the clips of training."""
  run = write_validations(music_run, {**HEALTHY, 'kl_per_step': [2.0] + [1.0] * 39})
  light, _ = figures.health([run])
  assert '−' not in light.decode()


def test_reading_a_folder_without_metrics(tmp_path):
  assert records.read(pathlib.Path(tmp_path)).health == []
