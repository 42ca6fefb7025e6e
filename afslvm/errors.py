"""Errors that a user's mistake or a damaged file can cause, each with the exit code it ends in.

Every message is one line that names the value, the place and the fix. `afslvm.cli.run` prints it
and exits with the class's code; inside a notebook it is an ordinary exception.
"""

LONGEST = 1500  # characters of a message


class AfslvmError(Exception):
  """Base of all errors raised on purpose."""

  exit_code = 1

  def __str__(self) -> str:
    """The message; of one that quotes a damaged file at length, its ends."""
    text, half = super().__str__(), LONGEST // 2
    return text if len(text) <= LONGEST else f'{text[:half]} ... {text[-half:]}'


class ConfigError(AfslvmError):
  """A flag or config value that can't be used."""

  exit_code = 2


class DataError(AfslvmError):
  """A data set that is missing, incomplete or damaged."""

  exit_code = 3


class CheckpointError(AfslvmError):
  """No checkpoint that verifies, or one of another model."""

  exit_code = 4


class NumericsError(AfslvmError):
  """Too many non-finite steps in a row."""

  exit_code = 5


class PlatformError(AfslvmError):
  """The machine lacks something: a device, disk space, an optional package."""

  exit_code = 6


def nearest(name: str, valid) -> str:
  """Returns ' (did you mean "x"?)' for the valid name closest to `name`, or '' if none is close."""
  import difflib

  matches = difflib.get_close_matches(name, sorted(valid), n=1, cutoff=0.5)
  return f' (did you mean "{matches[0]}"?)' if matches else ''
