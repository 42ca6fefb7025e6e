"""Pages about runs on music and speech."""

import base64
import dataclasses
import io
import re
import wave

import numpy as np
import pytest
from PIL import Image

from afslvm.evaluation import contract as contract_lib
from afslvm.visualization import figures, health, pictures, records, report, results, summary
from tests.visualization.conftest import HEALTHY, write_validations
from tests.visualization.test_report import Page, without_pictures

FREE_ENERGY = {'free_energy_per_iteration': [9.5, 8.25, 8.0]}


@pytest.fixture(params=['music', 'speech'])
def heard(request):
  return request.getfixturevalue(f'{request.param}_run')


def evaluated(run, data_space, average=contract_lib.OVER_STEPS):
  """The run with one evaluation of two whole sequences: 8 and 10 nats per step, 2 and 1 steps."""
  contract = contract_lib.LikelihoodContract(
    protocol='sequences',
    dataset=run.dataset,
    split='test',
    data_space=data_space,
    dequantisation='none',
    context_frames=0,
    scored_frames=(0, contract_lib.TO_THE_END),
    average=average,
    measure='probability',
  )
  dims, steps, nats = run.unit_dims, np.array([2, 1]), np.array([16.0, 10.0])
  bare = contract_lib.result('model', 'elbo', contract, -nats, steps * dims, 1, 0)
  whole = contract_lib.with_steps(bare, -nats, steps, dims)
  found = records.Evaluated([whole], {}, 'feedbeef', {'parameters_sha256': 'abc', 'step': 20})
  return dataclasses.replace(run, records=dataclasses.replace(run.records, evaluations=[found]))


# ---- the page ------------------------------------------------------------------------------------


def test_everything_can_be_heard_and_lies_in_the_page(heard):
  text = report.build([heard])
  page = Page(text)
  assert all(link.startswith(('data:', '#')) for link in page.links)
  assert '://' not in text
  assert 'media-src data:' in text
  # Two sequences: x and mean; truth, mean path and three samples; three samples from nothing.
  assert len(re.findall('<audio ', text)) == 2 * 2 + 2 * 5 + 3
  assert text.count('image/svg+xml') == 2 * (1 + 2 * 2 + 2 * 5 + 3)
  assert 'the first 40 of its 80 steps' in text
  assert text.count('the first 40 of its') == 2  # among the rows and the continuations
  assert 'A player holds at most 12 seconds' in text
  assert 'Without any context' in text
  assert 'image/gif' not in text
  assert 'What the AF paper reports' not in text


def test_players_hold_what_is_drawn(speech_run):
  text = report.build([speech_run])
  first = re.search(r'src="data:audio/wav;base64,([^"]+)"', text)
  with wave.open(io.BytesIO(base64.b64decode(first[1]))) as file:
    assert file.getframerate() == 8000
    samples = np.frombuffer(file.readframes(file.getnframes()), '<i2')
  stored = np.round(speech_run.sequences.x[0].reshape(-1) * 900.0 + 2.0)
  np.testing.assert_array_equal(samples, stored)


def test_short_sequences_keep_something_to_continue(music_run):
  sequences = music_run.sequences
  assert pictures.num_context(music_run, sequences) == 16
  short = dataclasses.replace(sequences, x=sequences.x[:, :10])
  assert pictures.num_context(music_run, short) == 5


def test_picture_of_the_first_sequence(heard, tmp_path):
  report.write_picture(tmp_path / 'rows.png', heard)
  width, height = Image.open(tmp_path / 'rows.png').size
  assert width > 900
  assert height > 200


def test_same_runs_give_the_same_bytes(music_run):
  assert report.build([music_run]) == report.build([music_run])


# ---- numbers -------------------------------------------------------------------------------------


def test_training_curve_is_in_nats_per_step(music_run):
  run = without_pictures(music_run)
  text = report.build([run])
  assert 'training and validation nats/step' in text
  assert f'{0.125 * 88:.3f} nats/step' in text  # of the checkpoint
  assert figures._in_unit(run, [(3, 0.5)]) == [(3, 44.0)]


def test_headlines_are_in_nats_per_step(music_run):
  run = evaluated(music_run, 'binary')
  (line,) = summary.headlines([run])
  assert line.startswith('sequences, all steps from 0: Notes ≤ 8.667 ± ')
  assert 'nats/step' in line
  header, row = Page(results.results_table([run])).tables[0]
  assert 'probability of binary values' in header[1]
  assert 'all steps from 0 after 0 given' in header[1]
  assert row[1].startswith('≤ 8.667 ± ')
  assert '≤ 9.000 as a mean over sequences' in row[1]
  assert 'bits/dim' not in row[1]
  assert '8.667' in results.text_tables([run])


def test_the_average_that_is_asked_for_leads(speech_run):
  run = evaluated(speech_run, 'pcm16', contract_lib.OVER_SEQUENCES)
  _, row = Page(results.results_table([run])).tables[0]
  assert row[1].startswith('≤ 9.000 ± ')
  assert '≤ 8.667 over all steps' in row[1]
  assert 'uncorrected' in row[1]
  assert f'{26 / 3 / 200:.3f} nats/sample' in row[1]


def test_free_energy_of_inference_iterations(music_run):
  run = write_validations(music_run, {**HEALTHY, **FREE_ENERGY})
  assert run.records.health[-1]['free_energy_per_iteration'] == [9.5, 8.25, 8.0]
  text = health.section([run])
  assert 'free energy against inference iteration: Notes' in text
  assert text.count('image/svg+xml') == 2 * 2  # with those of the divergence
  odd = write_validations(run, {**HEALTHY, 'free_energy_per_iteration': [1.0, None]})
  assert 'inference iteration' not in health.section([odd])
