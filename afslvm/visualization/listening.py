"""Files to look at and listen to of predicted music and speech."""

import functools
import logging
import pathlib

import numpy as np

from afslvm.visualization import clips, midi, predictions, sound
from afslvm.visualization.events import ROLL, Event

SHOWN_SAMPLES, HEARD_SAMPLES = 3, 3  # in a picture; of music, as wav files beside the MIDI files

log = logging.getLogger('afslvm.listening')


def write(
  path: pathlib.Path,
  event: Event,
  truth: np.ndarray,
  mean_path: np.ndarray,
  samples: np.ndarray,
  num_context: int,
):
  """Writes PATH.png, PATH_truth.wav, PATH_sample1.wav, ... and, of music, PATH_truth.mid, ...

  Every file begins with the given steps. Of music the first `HEARD_SAMPLES` samples become wav
  files, since the MIDI files, which need the extra `music`, hold the same.

  Args:
    path: without a suffix.
    event: a roll or a waveform.
    truth: [C + F', D]; it may end before the predictions.
    mean_path: [F, D].
    samples: [N, F, D].
    num_context: C, how many steps are given.
  """
  made = {'mean path': mean_path}
  if event.kind == ROLL:
    made['sample mean'] = samples.mean(axis=0)
  shown = predictions.rows(truth, made, samples[:SHOWN_SAMPLES], num_context)
  steps = max(map(len, shown.values()))
  blank = 0.0 if event.kind == ROLL else np.nan
  ended = {
    name: np.concatenate([row, np.full((steps - len(row), *row.shape[1:]), blank)])
    for name, row in shown.items()
  }
  path.with_suffix('.png').write_bytes(clips.picture(ended, event, num_context))
  rows = {'truth': truth}
  for number, sample in enumerate(samples, 1):
    rows[f'sample{number}'] = np.concatenate([truth[:num_context], sample])
  for number, (name, row) in enumerate(rows.items()):
    if event.kind != ROLL or number <= HEARD_SAMPLES:
      _beside(path, name, 'wav').write_bytes(sound.wav_of(row, event))
    if event.kind == ROLL and midi.is_available():
      _beside(path, name, 'mid').write_bytes(midi.midi(row, event.step_seconds))
  if event.kind == ROLL and not midi.is_available():
    _say_what_is_missing()


@functools.cache
def _say_what_is_missing():
  log.warning('no MIDI files, for pretty_midi is not installed; run: %s', midi.REMEDY)


def _beside(path: pathlib.Path, name: str, suffix: str) -> pathlib.Path:
  return path.with_name(f'{path.name}_{name}.{suffix}')
