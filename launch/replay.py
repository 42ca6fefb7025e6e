"""Computes a step again that ended training, and says what in it is no number, and why.

    python launch/replay.py --workdir=runs/diverged [--step=812] [--json]

Training that meets too many non-finite steps in a row leaves the last one's batch in
WORKDIR/debug/step_N.npz and the state it was tried on in a checkpoint; neither data nor the
machine of the run are needed. Every operation is checked for NaN; the first is named with its line.
"""

import json
import math
import pathlib
from typing import Any

from absl import flags

from afslvm import cli
from afslvm.errors import CheckpointError

flags.DEFINE_string('workdir', None, 'Folder of the run.', required=True)
flags.DEFINE_integer('step', 0, 'Of the batch; default the last that there is.', lower_bound=0)
flags.DEFINE_bool('json', False, 'Print one JSON object instead of text.')


def main(argv: list[str]):
  """Prints what the step gives."""
  del argv
  from afslvm import runs
  from afslvm.training import checkpoint, gradients, replay

  args = cli.FLAGS
  folder = pathlib.Path(args.workdir).expanduser() / 'debug'
  step, batch = replay.read_batch(folder, args.step)
  if step not in checkpoint.all_steps(folder.parent / 'checkpoints'):
    raise CheckpointError(
      f'{folder.parent}/checkpoints no longer holds {step}, the state that step {step} was tried '
      'on; choose another --step, or train to it again in another --workdir'
    )
  run = runs.load_run(args.workdir, str(step))
  parts, (state, _) = run.built, run.restore()
  dequantisation = parts.dequantisation
  loss = parts.make_loss()
  accumulate = parts.train.accumulate
  gradient = gradients.make_gradient(loss, dequantisation, accumulate)
  found = replay.replay(gradient, state, batch, step, parts.seed)
  print(_json(found) if args.json else text(found))


def _json(found) -> str:
  """Numbers that aren't finite, which JSON doesn't have, are null."""
  metrics = {k: v if math.isfinite(v) else None for k, v in found.metrics.items()}
  return json.dumps({**found._asdict(), 'metrics': metrics}, indent=1, allow_nan=False)


def text(found) -> str:
  """What was found, for people."""
  lines = [f'step {found.step}']
  for name, of in found.data.items():
    sizes = ' x '.join(map(str, of['shape']))
    lines.append(f'  {name}: {of["dtype"]} {sizes}, {of["low"]} to {of["high"]}{_bad(of["bad"])}')
  lines += [f'  {name}: {value:.6g}' for name, value in found.metrics.items()]
  lines += _listed('parameters', found.parameters) + _listed('gradient', found.gradient)
  lines.append(f'the first NaN: {found.origin or "no operation gave one"}')
  return '\n'.join(lines)


def _bad(count: int) -> str:
  return f', {count} not finite' if count else ''


def _listed(name: str, counts: dict[str, Any]) -> list[str]:
  if not counts:
    return [f'{name}: all finite']
  some = [f'  {path}{_bad(count)}' for path, count in list(counts.items())[:10]]
  return [f'{name}: {len(counts)} arrays hold values that are not finite', *some]


if __name__ == '__main__':
  cli.run(main)
