"""Sound, MIDI files and drawings of piano rolls and waveforms, without any model."""

import io
import types
import wave

import numpy as np
import pytest
from PIL import Image

from afslvm.errors import DataError
from afslvm.visualization import clips, events, figures, listening, midi, signals, sound

ROLL = events.Event('roll', step_seconds=0.25)
SPEECH = events.Event('waveform', step_seconds=0.025, sample_rate=8000, mean=3.0, std=1000.0)
STEPS = 12


def roll():
  """A4 for six steps, C5 for one, a pause, C5 again to the end."""
  values = np.zeros((STEPS, 88))
  values[:6, 48] = 1
  values[[6, *range(8, STEPS)], 51] = 1
  return values


def tone(hertz, seconds=0.3):
  time = np.arange(round(8000 * seconds)) / 8000
  return np.sin(2 * np.pi * hertz * time).reshape(-1, 200)


def read_wav(data):
  with wave.open(io.BytesIO(data)) as file:
    assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
    samples = np.frombuffer(file.readframes(file.getnframes()), '<i2')
    return samples.astype(float), file.getframerate()


def loudest(samples, rate):
  """The strongest frequency, Hz."""
  power = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
  return np.argmax(power) * rate / len(samples)


def pixels(data):
  return np.asarray(Image.open(io.BytesIO(data)).convert('RGB')).astype(int)


# ---- what a step is ------------------------------------------------------------------------------


@pytest.mark.parametrize(
  ('event_shape', 'data_space', 'kind', 'unit'),
  [
    ((64, 64, 1), '8bit', 'frames', 'nats/dim'),
    ((88,), 'binary', 'roll', 'nats/step'),
    ((200,), 'pcm16', 'waveform', 'nats/step'),
    ((2,), 'continuous', 'vectors', 'nats/dim'),
    ((88,), 'continuous', 'vectors', 'nats/dim'),
    ((5,), 'binary', 'vectors', 'nats/dim'),
  ],
)
def test_kind_follows_from_shape_and_space(event_shape, data_space, kind, unit):
  numbers = {'sample_rate': 16000, 'mean': 1.0, 'std': 2.0}
  builder = types.SimpleNamespace(event_shape=event_shape, data_space=data_space, **numbers)
  event = events.event_of(builder)
  assert (event.kind, event.unit) == (kind, unit)
  assert event.is_heard == (unit == 'nats/step')


def test_waveforms_know_their_scale():
  class Unprepared:
    event_shape, data_space, sample_rate = (160,), 'pcm16', 16000

    @property
    def mean(self):
      raise DataError('not there yet')

  assert events.event_of(Unprepared()).kind == 'vectors'
  Unprepared.mean, Unprepared.std = 5.0, 200.0
  event = events.event_of(Unprepared())
  assert event == events.Event('waveform', 0.01, 16000, 5.0, 200.0)


# ---- sound ---------------------------------------------------------------------------------------


def test_standardised_frames_become_their_samples_again():
  stored = np.array([[-32768, -1, 0], [1, 7, 32767]])
  x = (stored - SPEECH.mean) / SPEECH.std
  np.testing.assert_array_equal(sound.samples_of(x, SPEECH), stored.reshape(-1))
  assert sound.samples_of(np.array([[1e9, -1e9, np.nan]]), SPEECH).tolist() == [32767, -32768, 3]


def test_wav_of_speech():
  samples, rate = read_wav(sound.wav_of(tone(440), SPEECH))
  assert (rate, len(samples)) == (8000, 2400)
  assert loudest(samples, rate) == pytest.approx(440, abs=4)


def test_notes_are_runs_of_steps():
  assert sorted(sound.notes(roll())) == [(69, 0, 6), (72, 6, 7), (72, 8, STEPS)]
  assert list(sound.notes(np.full((3, 88), 0.5))) == []


def test_wav_of_a_roll_has_its_pitches():
  samples, rate = read_wav(sound.wav_of(roll(), ROLL))
  assert (rate, len(samples)) == (16000, STEPS * 4000)
  assert loudest(samples[: 6 * 4000], rate) == pytest.approx(440, abs=2)
  assert loudest(samples[8 * 4000 :], rate) == pytest.approx(523.25, abs=2)
  assert np.abs(samples).max() == round(0.8 * 32767)
  assert abs(samples[-1]) < 50  # faded out
  pause = np.abs(samples[int(7.5 * 4000) : 8 * 4000])
  assert pause.max() < 50


def test_silence_and_the_highest_note():
  silent, _ = read_wav(sound.wav_of(np.zeros((2, 88)), ROLL))
  assert not silent.any()
  high = np.zeros((4, 88))
  high[:, 87] = 1
  samples, rate = read_wav(sound.wav_of(high, ROLL))
  assert loudest(samples, rate) == pytest.approx(4186, abs=3)


@pytest.mark.parametrize(('event', 'row'), [(ROLL, roll()), (SPEECH, tone(300))])
def test_clips_are_bounded(event, row):
  samples, rate = read_wav(sound.wav_of(row, event, max_seconds=3.1 * event.step_seconds))
  assert len(samples) == round(3 * event.step_seconds * rate)


def test_midi_file_is_the_roll_again():
  pretty_midi = pytest.importorskip('pretty_midi')
  data = midi.midi(roll(), 0.5)
  assert data == midi.midi(roll(), 0.5)
  (piano,) = pretty_midi.PrettyMIDI(io.BytesIO(data)).instruments
  found = [(n.pitch, round(2 * n.start, 3), round(2 * n.end, 3)) for n in piano.notes]
  assert sorted(found) == sorted(sound.notes(roll()))


# ---- drawings ------------------------------------------------------------------------------------


def test_limits_hold_whole_octaves_of_all_rows():
  limits = signals.limits_of({'x': roll()}, ROLL)
  assert limits.steps == STEPS
  assert limits.notes == (48, 83)  # C3..B5, at least three octaves
  high = np.zeros((3, 88))
  high[0, -1] = 1
  assert signals.limits_of({'x': roll(), '1/mean': high}, ROLL).notes == (60, 108)
  signals.limits_of({'x': np.zeros((3, 88))}, ROLL)


def test_roll_is_blue_where_given_and_orange_after():
  """Of both rows, at the middle of steps of A4: the context, and what follows it."""
  made = roll()
  picture = pixels(clips.picture({'truth': roll(), 'sample 1': made}, ROLL, context=3))
  blue = (picture[..., 2] > 200) & (picture[..., 0] < 120)
  orange = (picture[..., 0] > 200) & (picture[..., 2] < 120)
  half = len(picture) // 2
  assert blue[:half].any()
  assert not orange[:half].any()
  assert blue[half:].any()
  assert orange[half:].any()
  last_blue = np.flatnonzero(blue[half:].any(axis=0)).max()
  assert last_blue < np.flatnonzero(orange[half:].any(axis=0)).min()


def test_probabilities_are_lighter_than_notes():
  faint = figures.png(lambda f: _draw(f, 0.3 * roll()), signals.WIDTH, 2.0)
  full = figures.png(lambda f: _draw(f, roll()), signals.WIDTH, 2.0)
  assert pixels(faint).sum() > pixels(full).sum()


def _draw(figure, row):
  signals.draw(figure, {'x': row}, ROLL, signals.Limits(STEPS), names=False)


def test_waveforms_of_sequences_that_end_early():
  short = np.concatenate([tone(500)[:5], np.full((7, 200), np.nan)])
  data = clips.picture({'truth': short, 'sample 1': tone(500)}, SPEECH, context=4)
  assert data.startswith(b'\x89PNG')


def test_spectrogram_shows_the_frequency():
  power = signals._spectrum(tone(1000), SPEECH)
  band = np.argmax(power.mean(axis=1))
  assert (band + 1) / len(power) * 4000 == pytest.approx(1000, abs=80)


# ---- figures -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
  ('event', 'row'),
  [
    (ROLL, roll()),
    (SPEECH, tone(300)),
    (events.Event('frames'), np.zeros((5, 4, 4, 1))),
    (events.Event('vectors'), np.zeros((5, 2))),
  ],
  ids=['roll', 'waveform', 'frames', 'vectors'],
)
def test_prediction_and_reconstruction_of_any_kind(event, row):
  rows = {'data': row, 'prediction': row[1:], 'reconstruction': row[1:]}
  light, dark = figures.prediction_and_reconstruction(rows, event)
  assert light != dark
  assert light.startswith(b'<?xml')
  assert light == figures.prediction_and_reconstruction(rows, event)[0]


def test_free_energy_against_iterations():
  curves = {'training': [(2, 9.1, 0.1), (1, 9.5, 0.2)], 'evaluation': [(1, 9.6, float('nan'))]}
  light, dark = figures.free_energy_against_iterations(curves)
  assert light.startswith(b'<?xml')
  assert light != dark


# ---- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize('with_midi', [True, False])
def test_files_of_predicted_music(tmp_path, monkeypatch, with_midi):
  if with_midi:
    pytest.importorskip('pretty_midi')
  monkeypatch.setattr(midi, 'is_available', lambda: with_midi)
  samples = np.stack([roll()] * 5)
  listening.write(tmp_path / 'test_00001', ROLL, roll(), roll(), samples, num_context=4)
  found = {path.name for path in tmp_path.iterdir()}
  waves = {f'test_00001_{n}.wav' for n in ('truth', 'sample1', 'sample2', 'sample3')}
  midis = {f'test_00001_{n}.mid' for n in ('truth', *(f'sample{k}' for k in range(1, 6)))}
  assert found == {'test_00001.png', *waves, *(midis if with_midi else ())}
  samples, rate = read_wav((tmp_path / 'test_00001_sample1.wav').read_bytes())
  assert len(samples) == (4 + STEPS) * 0.25 * rate  # the context comes first


def test_files_of_predicted_speech(tmp_path):
  truth, drawn = tone(400), np.stack([tone(800)] * 4)
  listening.write(tmp_path / 'a', SPEECH, truth[:8], drawn[0], drawn, num_context=6)
  names = ['a.png', *(f'a_{name}.wav' for name in ('sample1', 'sample2', 'sample3', 'sample4'))]
  assert sorted(path.name for path in tmp_path.iterdir()) == [*names, 'a_truth.wav']
  samples, rate = read_wav((tmp_path / 'a_sample4.wav').read_bytes())
  assert loudest(samples[: 6 * 200], rate) == pytest.approx(400, abs=8)
  assert loudest(samples[6 * 200 :], rate) == pytest.approx(800, abs=8)
