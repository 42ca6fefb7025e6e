"""A word in the log when data or another process stand still: a lost disk, a stopped process."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax

from afslvm.training import processes
from afslvm.training.experiment import Batch

# Without a step for so long, processes end that train together.
PATIENCE_SECONDS = 1800.0
log = logging.getLogger(__name__)


class Watch:
  """Speaks up when something is waited for.

  Within `with`, a thread looks at a clock now and then; a wait costs two assignments.

  Args:
    say: is told the seconds of a wait that lasts.
    seconds: after which it is told, again and again.
  """

  def __init__(self, say: Callable[[float], None], seconds: float):
    self._say, self._seconds = say, seconds
    self._began: float | None = None
    self._closed = threading.Event()

  def __enter__(self) -> 'Watch':
    threading.Thread(target=self._watch, daemon=True).start()
    return self

  def __exit__(self, *exception):
    self._closed.set()

  @contextlib.contextmanager
  def waiting(self) -> Iterator[None]:
    """Around what may last."""
    self._began = time.monotonic()
    try:
      yield
    finally:
      self._began = None

  def _watch(self):
    while not self._closed.wait(self._seconds):
      began = self._began
      if began is not None and (waited := time.monotonic() - began) >= self._seconds:
        self._say(waited)


class WatchedBatches(Watch):
  """An iterator of batches that says so when one doesn't come.

  Args:
    batches: an iterator with `get_state`.
    source: what the log calls it.
    seconds: after which it is named, again and again.
  """

  def __init__(self, batches: Any, source: str, seconds: float = 30.0):
    super().__init__(self._stands_still, seconds)
    self._batches, self._source, self._count = batches, source, 0

  def __next__(self) -> Batch:
    with self.waiting():
      batch = next(self._batches)
    self._count += 1
    return batch

  def get_state(self) -> Any:
    """Where in the data it is."""
    return self._batches.get_state()

  def _stands_still(self, waited: float):
    log.warning(
      'no batch for %.0f s: %s stands still after %d batches; training goes on once it is back',
      waited, self._source, self._count,
    )  # fmt: skip


class WatchedSteps(Watch):
  """Says so when a step takes very long; processes that train together end then.

  A process that is alive and stuck, unlike one that has ended, breaks no collective: the others
  would wait for it, and take up their machines, for ever.

  Args:
    patience: seconds after which this process ends with exit code 6, if it is one of several.
  """

  def __init__(self, patience: float = PATIENCE_SECONDS):
    super().__init__(self._takes_long, patience / 6)
    self._patience = patience

  def _takes_long(self, waited: float):
    if not processes.are_many() or waited < self._patience:
      log.warning('a step has taken %.0f s so far', waited)
      return
    log.error(
      'error: no step for %.0f s: another of %d processes is stuck; end them all and run the same '
      'command in each to continue from the last checkpoint',
      waited, jax.process_count(),
    )  # fmt: skip
    processes.leave(processes.LostProcessError.exit_code)
