"""SIGTERM and Ctrl-C: finish the step, save, and say how to go on."""

import logging
import signal
import threading

log = logging.getLogger(__name__)


class StopRequest:
  """`with StopRequest() as stop:` sets `stop.signal` instead of ending the process.

  A second signal ends it at once; the last complete checkpoint stays as it is. Outside the main
  thread, where Python allows no handlers, it does nothing.
  """

  def __init__(self):
    self.signal: int | None = None
    self._previous: dict[int, object] = {}

  def __enter__(self) -> 'StopRequest':
    if threading.current_thread() is threading.main_thread():
      for number in (signal.SIGTERM, signal.SIGINT):
        self._previous[number] = signal.signal(number, self._receive)
    return self

  def __exit__(self, *exception):
    for number, action in self._previous.items():
      signal.signal(number, action)

  def _receive(self, number: int, frame: object):
    del frame
    if self.signal is not None:
      raise SystemExit(128 + number)
    self.signal = number
    name = signal.Signals(number).name
    log.warning('%s: finishing the step and saving; signal again to abandon', name)
