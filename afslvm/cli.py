"""The frame of every binary in `launch/`: flags, log lines, and errors in one line.

A mistake in a flag or a config override is found before jax is imported. Exit codes are those of
`afslvm.errors`; absl's own usage errors are 2 here as well.
"""

import contextlib
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import ConfigDict, config_flags

from afslvm.config_files import check_key, load_config, locate
from afslvm.errors import AfslvmError, ConfigError, PlatformError, nearest

FLAGS = flags.FLAGS
CACHE_BYTES = 2 * 2**30  # of compiled programs


def define_config(required: bool = True):
  """Adds --config=NAME[:ARGUMENT], whose values --config.a.b=... override."""
  config_flags.DEFINE_config_file(
    'config',
    None,
    'A config file, or a config by name (moving_digits/af1), with an optional argument after a '
    'colon.',
  )
  if required:
    flags.mark_flag_as_required('config')


def run(main: Callable[[list[str]], int | None]):
  """Runs an absl main; prints an expected error as one line and exits with its code."""

  def guarded(argv: list[str]) -> int:
    _configure_logging()
    _keep_compiled_programs()
    if len(argv) > 1 and not getattr(main, 'takes_arguments', False):
      return fail(ConfigError(f'{argv[1]!r} is not a flag; see --help'))
    try:
      code = main(argv) or 0
      sys.stdout.flush()  # so that a reader who has gone is noticed here
      return code
    except AfslvmError as error:
      return fail(error)
    except KeyboardInterrupt:
      return 130
    except BrokenPipeError:
      # The reader of our output has gone; give the interpreter nothing to complain about at exit.
      os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
      return 0
    except (OSError, RuntimeError) as error:
      expected = _platform_error(error)
      if expected is None:
        raise
      return fail(expected)

  app.run(guarded, flags_parser=_parse)


def ended_by(error: BaseException) -> int:
  """Prints what ends a program, a bug with its traceback; returns the exit code.

  For programs that can't raise it up to `run`.
  """
  if isinstance(error, KeyboardInterrupt):
    return 130
  if isinstance(error, SystemExit):
    return error.code if isinstance(error.code, int) else 1
  expected = error if isinstance(error, AfslvmError) else _platform_error(error)
  if expected is not None:
    return fail(expected)
  traceback.print_exception(error)
  return 1


def _platform_error(error: BaseException) -> PlatformError | None:
  """A full disk, a missing device: what the machine can't do. None for anything else, a bug."""
  if isinstance(error, OSError):
    place = f' ({error.filename})' if error.filename else ''
    return PlatformError(f'{error.strerror or error}{place}; free space or fix permissions')
  if not isinstance(error, RuntimeError):
    return None
  first_line = str(error).partition('\n')[0]
  if 'RESOURCE_EXHAUSTED' in first_line:
    return PlatformError(
      f'out of memory ({first_line[:200]}); lower train.batch_size or data.length, or keep '
      'less: train.accumulate=2, model.remat=True or model.conditioner.remat=True'
    )
  if 'backend' in str(error):
    return PlatformError(f'{first_line}; unset JAX_PLATFORMS to use what there is')
  return None


def takes_arguments(main: Callable) -> Callable:
  """Marks a main that wants positional arguments."""
  main.takes_arguments = True  # type: ignore[attr-defined]
  return main


def fail(error: AfslvmError) -> int:
  """Prints an expected error as one line; returns its exit code."""
  message = ' '.join(str(error).split())
  with contextlib.suppress(OSError):  # nobody reads it
    print(f'error: {message}', file=sys.stderr, flush=True)
  return error.exit_code


def _configure_logging():
  # Orbax raises its errors too; logged, they are tracebacks.
  absl_logging.set_verbosity(absl_logging.FATAL)
  # Likewise what TensorStore's threads can't raise after an error.
  sys.unraisablehook = lambda unraisable: None
  log = logging.getLogger('afslvm')
  log.handlers = [logging.StreamHandler(sys.stderr)]
  log.handlers[0].setFormatter(logging.Formatter('%(message)s'))
  log.setLevel(logging.INFO)
  log.propagate = False


def _keep_compiled_programs():
  """Has JAX, which isn't imported yet, keep what it compiles in the user's cache, for later runs.

  The oldest go where `CACHE_BYTES` are full. JAX_COMPILATION_CACHE_DIR names another folder, which
  is not bounded, or none where it is empty; without a home that can be written nothing is kept.
  """
  if 'JAX_COMPILATION_CACHE_DIR' in os.environ:
    return
  caches = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
  place = os.path.join(caches, 'afslvm', 'jax')
  if not os.path.isabs(place):
    return
  try:
    os.makedirs(place, exist_ok=True)
  except OSError:
    return
  if os.access(place, os.W_OK):
    os.environ['JAX_COMPILATION_CACHE_DIR'] = place
    os.environ['JAX_COMPILATION_CACHE_MAX_SIZE'] = str(CACHE_BYTES)
    # Faster ones are compiled anew: keeping each of them costs as much.
    os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.1')


# ---- flags ---------------------------------------------------------------------------------------


def _parse(argv: list[str]) -> list[str]:
  """Parses flags; every mistake ends here, with exit code 2 and one line."""
  try:
    if 'config' in FLAGS:
      _check_overrides(argv)
      argv = _located(argv)
    return FLAGS(argv)
  except AfslvmError as error:
    sys.exit(fail(error))
  except flags.UnrecognizedFlagError as error:
    hint = nearest(error.flagname, _flag_names())
    sys.exit(fail(ConfigError(f'--{error.flagname} is not a flag{hint}; see --help')))
  except Exception as error:  # ml_collections raises many kinds for a value of the wrong type.
    message = (str(error) or repr(error)).splitlines()[0]
    missing = re.search(r'Flag --(\w+) must have a value other than None', message)
    if missing:
      message = f'--{missing[1]} is missing: {FLAGS[missing[1]].help}'
    sys.exit(fail(ConfigError(message)))


def _flag_names() -> list[str]:
  return [name for name in FLAGS if not name.startswith('config.')]


def _check_overrides(argv: list[str]):
  """Finds a missing config file or an unknown override before absl does, to name the nearest."""
  values = dict(_config_arguments(argv[1:]))
  path = values.pop('config', None)
  if path is None:
    return
  config = load_config(path)
  for key, value in values.items():
    _check_override(config, key.removeprefix('config.'), value)


def _config_arguments(arguments: list[str]) -> Iterator[tuple[str, str]]:
  """('config.a.b', 'value') of '--config.a.b=value' and of '--config.a.b value'."""
  for index, argument in enumerate(arguments):
    if argument == '--':
      return
    name, equals, value = argument.lstrip('-').partition('=')
    if argument.startswith('-') and (name == 'config' or name.startswith('config.')):
      following = arguments[index + 1] if index + 1 < len(arguments) else ''
      yield name, value if equals else following


def _check_override(config: ConfigDict, dotted: str, value: str):
  kind = type(check_key(config, dotted))
  if kind in (int, float):
    try:
      kind(value)
    except ValueError:
      raise ConfigError(f'--config.{dotted}={value!r} must be of type {kind.__name__}') from None


def _located(argv: Sequence[str]) -> list[str]:
  """Returns the arguments with the name of a config replaced by its file, which absl can load."""
  located, previous = [argv[0]], ''
  for argument in argv[1:]:
    option, equals, value = argument.partition('=')
    if option in ('-config', '--config') and equals:
      argument = f'--config={locate(value)}'
    elif previous in ('-config', '--config'):
      argument = locate(argument)
    located.append(argument)
    previous = argument
  return located


def given_config() -> tuple[str, list[str]]:
  """The --config of this program as it was given: FILE.py[:ARGUMENT], and overrides 'a.b=value'."""
  values = dict(_config_arguments(sys.argv[1:]))
  path = values.pop('config')
  return path, [f'{key.removeprefix("config.")}={value}' for key, value in values.items()]


def load_overridden(path: str, overrides: Sequence[str]) -> ConfigDict:
  """`load_config` with overrides 'a.b=value', read as --config.a.b=value is.

  Raises:
    ConfigError: also an unknown key, or a value of another type.
  """
  argv = ['', f'--config={path}', *(f'--config.{value}' for value in overrides)]
  _check_overrides(argv)
  argv = _located(argv)
  values = flags.FlagValues()
  config_flags.DEFINE_config_file('config', flag_values=values, sys_argv=argv)
  try:
    values(argv)
  except Exception as error:  # as in `_parse`
    raise ConfigError((str(error) or repr(error)).splitlines()[0]) from error
  return values.config
