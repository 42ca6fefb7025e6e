"""Several processes that train one model: how they find one another, agree, and end.

Each has its own devices and its own rows of every batch; the first, of index 0, writes the records
and all of them the checkpoints, so they share one file system. Without `connect` there is one
process, and everything here costs nothing.
"""

import atexit
import hashlib
import json
import logging
import os
import re
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from afslvm.errors import AfslvmError, ConfigError, PlatformError
from afslvm.training import distributed
from afslvm.training.roll_call import RollCall, delay_aborts, is_refused

CONNECT_SECONDS = 300
LEAVE_SECONDS = 5
HEARTBEAT_SECONDS = 60  # JAX aborts without one; the roll call says more, and earlier
# Words of the errors that collectives and JAX's coordination service end with.
_BROKEN = re.compile(r'\b(gloo|nccl|coordination|unavailable|connection|heartbeat)', re.IGNORECASE)

_roll_call: RollCall | None = None
log = logging.getLogger(__name__)


class LostProcessError(PlatformError):
  """Another process of this run has ended, so that this one can't go on."""


def connect(coordinator: str = '', count: int = 0, index: int = -1, detect: bool = False):
  """Joins the other processes; call it before anything touches a device.

  Args:
    coordinator: HOST:PORT at which the first process listens; '' for one process, or to detect.
    count: of all processes.
    index: of this one, 0..count-1.
    detect: the three above come from the TPU pod, SLURM or MPI that started this process.

  Raises:
    ConfigError: one of the three is missing or out of range, or some are given and `detect` too.
    PlatformError: there is nothing to detect them from, or the others don't come.
  """
  given = bool(coordinator), count > 0, index >= 0
  if detect and any(given):
    raise ConfigError(
      '--distributed finds out --coordinator, --num_processes and --process_id; give either'
    )
  if not detect and not any(given):
    return
  if not detect:
    _check_address(coordinator, count, index)
  # For collectives between CPUs; accelerators bring their own.
  jax.config.update('jax_cpu_collectives_implementation', 'gloo')
  named = (coordinator, count, index) if not detect else ()
  try:
    jax.distributed.initialize(
      *named,
      initialization_timeout=CONNECT_SECONDS,
      heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
    )
  except (RuntimeError, ValueError) as error:
    place = 'from the environment' if detect else f'at {coordinator} as {index} of {count}'
    raise PlatformError(
      f'could not join the other processes {place} ({str(error).splitlines()[0]}); start all of '
      f'them within {CONNECT_SECONDS} s, with the same --coordinator'
    ) from error
  _begin_roll_call()


def _check_address(coordinator: str, count: int, index: int):
  host, _, port = coordinator.rpartition(':')
  if not host or not port.isdigit():
    raise ConfigError(f'--coordinator={coordinator!r} must be HOST:PORT of the first process')
  if count < 1:
    raise ConfigError(f'--num_processes={count} must be 1 or more with --coordinator')
  if not 0 <= index < count:
    raise ConfigError(f'--process_id={index} must be 0..{count - 1} with --num_processes={count}')


def are_many() -> bool:
  """Whether this is one of several processes."""
  return _roll_call is not None or jax.process_count() > 1


def is_first() -> bool:
  """Whether this process writes the records."""
  index = jax.process_index() if _roll_call is None else _roll_call.index
  return index == 0


def of_first(function: Callable[[], int]) -> int:
  """Calls `function` in the first process; all return its number.

  Raises:
    PlatformError: in the others, where it failed in the first, which raises what it raised.
  """
  if not are_many():
    return function()
  error: Exception | None = None
  result = 0
  if is_first():
    try:
      result = function()
    except Exception as caught:
      error = caught
  failed, result = multihost_utils.broadcast_one_to_all(np.array([error is not None, result]))
  if error is not None:
    raise error
  if failed:
    raise PlatformError('process 0 could not start; its own output says why')
  return int(result)


def check_same(values: dict[str, Any]):
  """Raises ConfigError that names the process and the first of `values` which differs there."""
  if not are_many():
    return
  keys = sorted(values)
  # Numbers of keys may differ, and what is gathered must have one shape.
  _compare(['the set of options'], [keys])
  _compare(keys, [values[key] for key in keys])


def _compare(names: list[str], values: list[Any]):
  gathered = multihost_utils.process_allgather(np.array([_digest(v) for v in values], np.uint32))
  differs = gathered != gathered[0]
  if not differs.any():
    return
  index, key = (int(first) for first in np.unravel_index(differs.argmax(), differs.shape))
  raise ConfigError(
    f'processes 0 and {index} differ in {names[key]}; start all with the same command, of the '
    'same version, on the same data'
  )


def _digest(value: Any) -> int:
  text = json.dumps(value, sort_keys=True, default=str)
  return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4])


class Agreement:
  """Whether any process wants to stop, such that all say so after the same step.

  A flag that is sent with step n is looked at with step n + 1, so that nothing waits for it.
  """

  def __init__(self, mesh: Mesh):
    self._mesh, self._sent = mesh, None
    self._any = jax.jit(jnp.max, out_shardings=distributed.replicated(mesh))

  def reached(self, wanted: bool) -> bool:
    """Sends this process's wish; call it once in every step."""
    if not are_many():
      return wanted
    earlier = self._sent
    flags = np.full(jax.local_device_count(), wanted, np.int32)
    self._sent = self._any(distributed.to_devices(flags, self._mesh))
    return earlier is not None and bool(earlier)


def explain(error: BaseException) -> LostProcessError | None:
  """What an error of a collective means, or None where it is of another kind."""
  if isinstance(error, LostProcessError):
    return error
  cause = error.__cause__ if isinstance(error, AfslvmError) else error
  if not are_many() or not _is_of_collective(cause):
    return None
  lost = _roll_call.lost() if _roll_call is not None else []
  return _lost_process(lost, f'has ended ({str(cause).splitlines()[0][:120]})')


def _is_of_collective(error: BaseException | None) -> bool:
  text = str(error)
  is_of_disk = 'os_error_code' in text  # whose paths may hold any word
  is_of_jax = isinstance(error, RuntimeError | ValueError)
  return is_of_jax and not is_of_disk and _BROKEN.search(text) is not None


def _lost_process(lost: list[int], what: str) -> LostProcessError:
  who = 'process ' + ', '.join(map(str, lost)) if lost else 'another process'
  count = jax.process_count() if _roll_call is None else _roll_call.count
  return LostProcessError(
    f'{who} of {count} {what}; '
    'run the same command in every process to continue from the last checkpoint'
  )


def _begin_roll_call():
  """Has whoever is lost be named, also where this process waits for it without end.

  That begins with JAX's devices, which all processes find together; so they aren't asked for here.
  """
  global _roll_call
  try:
    from jax._src.distributed import global_state as found  # there is no public way to ask

    client, address = found.client, found.coordinator_address
    index, count = found.process_id, found.num_processes
  except (ImportError, AttributeError):
    return  # JAX's own heartbeats end this process then
  if count < 2:
    return
  _roll_call = RollCall(client, index, count, lambda: is_refused(address), _name_lost)
  _roll_call.start()
  delay_aborts()
  atexit.register(_roll_call.close)  # before JAX's own end, which was registered earlier


def _name_lost(lost: list[int]):
  error = _lost_process(lost, 'does not answer; end it if it is still there')
  log.error('error: %s', error)
  leave(error.exit_code)


def leave(exit_code: int) -> NoReturn:
  """Ends this process: JAX's own end would wait for processes that are not coming."""
  sys.stdout.flush()
  sys.stderr.flush()
  if is_first():
    # JAX ends the others with a trace when the first is gone: they may say what they found, too.
    time.sleep(LEAVE_SECONDS)
  os._exit(exit_code)
