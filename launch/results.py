"""Makes docs/results.md and the README's tables from docs/results/*.json.

    python launch/results.py                          # writes what differs
    python launch/results.py --check                  # exit code 1 if something differs
    python launch/results.py --add=runs/digits/table.json

--add keeps a measured table as docs/results/DATASET_SCALE.json first, of the AVF paper as
TABLE_DATASET_SCALE.json: the README names it so in the comment above its table.
"""

import pathlib

from absl import flags

from afslvm import cli

flags.DEFINE_bool('check', False, 'Write nothing; say what differs.')
flags.DEFINE_string('add', '', 'A table.json of launch/reproduce.py to keep.')

ROOT = pathlib.Path(__file__).resolve().parents[1]


def main(argv: list[str]) -> int:
  """Writes or checks."""
  del argv
  from afslvm.reproduction import documents

  if cli.FLAGS.add:
    print(documents.add(ROOT, pathlib.Path(cli.FLAGS.add)).relative_to(ROOT))
  if not cli.FLAGS.check:
    for path in documents.write(ROOT):
      print(path)
    return 0
  differing = documents.differing(ROOT)
  for path in differing:
    print(f'{path} differs from docs/results; run: python launch/results.py')
  return 1 if differing else 0


if __name__ == '__main__':
  cli.run(main)
