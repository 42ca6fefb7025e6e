"""A word in the log when the data stand still: a lost network disk, a stopped process."""

import logging
import threading
import time
from typing import Any

from afslvm.training.experiment import Batch

log = logging.getLogger(__name__)


class WatchedBatches:
  """An iterator of batches that says so when one doesn't come.

  Within `with`, a thread looks at a clock now and then; a step costs two assignments.

  Args:
    batches: an iterator with `get_state`.
    source: what the log calls it.
    seconds: after which it is named, again and again.
  """

  def __init__(self, batches: Any, source: str, seconds: float = 30.0):
    self._batches, self._source, self._seconds = batches, source, seconds
    self._asked: float | None = None
    self._count = 0
    self._closed = threading.Event()

  def __enter__(self) -> 'WatchedBatches':
    threading.Thread(target=self._watch, daemon=True).start()
    return self

  def __exit__(self, *exception):
    self._closed.set()

  def __next__(self) -> Batch:
    self._asked = time.monotonic()
    try:
      batch = next(self._batches)
    finally:
      self._asked = None
    self._count += 1
    return batch

  def get_state(self) -> Any:
    """Where in the data it is."""
    return self._batches.get_state()

  def _watch(self):
    while not self._closed.wait(self._seconds):
      asked = self._asked
      if asked is not None and (waited := time.monotonic() - asked) >= self._seconds:
        log.warning(
          'no batch for %.0f s: %s stands still after %d batches; training goes on once it is back',
          waited, self._source, self._count,
        )  # fmt: skip
