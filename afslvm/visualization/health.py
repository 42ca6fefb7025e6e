"""What validation found out about the parts of each model, and a plain word where it is wrong."""

from typing import Any

from afslvm.evaluation import diagnostics
from afslvm.visualization import figures, markup
from afslvm.visualization.markup import Html, element
from afslvm.visualization.page import paragraphs
from afslvm.visualization.records import Run

SATURATION, LEVEL = 'saturation/', 'level '


def section(runs: list[Run]) -> Html:
  """Verdicts, a table of the last validations, curves of the divergence where there is one."""
  parts = [
    paragraphs('Measured at each validation, on the first batch of the validation split.'),
    *(_verdict(run) for run in runs),
  ]
  known = [run for run in runs if _last(run).keys() - {'step'}]
  if known:
    parts.append(_table(known))
  latent = [run for run in known if 'kl' in _last(run)]
  if latent:
    alt = 'KL and active units against steps, KL of each step: '
    parts += [
      markup.two_tone(*figures.health(latent), alt=alt + ', '.join(run.title for run in latent)),
      paragraphs(
        'Left and middle, over training: the divergence a model spends to tell its latent variable '
        'apart from its prior, and how many units carry it. Near zero, the latent variable is '
        'ignored. Right, at the last validation: the divergence at each scored step; the first '
        'usually cost most, since little is known yet.'
      ),
    ]
  iterative = [run for run in known if 'free_energy_per_iteration' in _last(run)]
  if iterative:
    alt = 'free energy against inference iteration: ' + ', '.join(run.title for run in iterative)
    parts += [
      markup.two_tone(*figures.free_energy_per_iteration(iterative), alt=alt),
      paragraphs(
        'What iterative inference gains at the last validation: the free energy of a step with the '
        'first guess for its posterior, usually the prior, and after each iteration. A curve that '
        'does not fall says that the inference has not learned to improve on its guess.'
      ),
    ]
  return markup.join(parts)


def _last(run: Run) -> dict[str, Any]:
  return run.records.health[-1] if run.records.health else {}


def _verdict(run: Run) -> Html:
  if not _last(run).keys() - {'step'}:
    return element('div', element('b', run.title), ': no health was recorded.', class_='note')
  wrong = diagnostics.sentences(run.records.health)
  name = element('b', run.title)
  step = _last(run)['step']
  if not wrong:
    return element('div', name, f': nothing looks wrong at step {step}.', class_='note fine')
  lines = [element('div', sentence[0].upper() + sentence[1:] + '.') for sentence in wrong]
  return element('div', name, f', step {step}', *lines, class_='note warning')


def _table(runs: list[Run]) -> Html:
  """One row per number that any run has, one column per run."""
  rows = []
  for key in _ordered({key for run in runs for key in _last(run)}):
    cells = [_shown(key, _last(run)) for run in runs]
    name = 'KL' if key == 'kl' else key.replace('_', ' ').replace('/', ', ')
    rows.append([name, *cells, element('small', _means(key))])
  return markup.table(['', *(run.title for run in runs), 'meaning'], rows)


def _ordered(keys: set[str]) -> list[str]:
  """In the order of `MEANING`; the size of the latent variable stands beside another number."""
  named = [key for key in diagnostics.MEANING if key in keys and key != 'latent_size']
  return named + sorted(key for key in keys - set(named) if key.startswith((SATURATION, LEVEL)))


def _means(key: str) -> str:
  if key in diagnostics.MEANING:
    return diagnostics.MEANING[key]
  if key.startswith(LEVEL):
    return diagnostics.OF_LEVELS[key.partition('/')[2]]
  return f'share of the log-scales that lie at a bound, {key.removeprefix(SATURATION)}'


def _shown(key: str, values: dict[str, Any]) -> str:
  if key not in values:
    return '–'
  value = values[key]
  if key == 'active_units':
    return f'{value:g} of {values.get("latent_size", "?")}'
  if key.startswith(SATURATION):
    return f'{value:.1%}'
  if key.endswith('correlation'):
    return f'{value:+.3f}'.replace('-', '−')
  return f'{value:.2f}' if abs(value) < 100 else f'{value:,.0f}'.replace('-', '−')
