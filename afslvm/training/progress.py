"""Rate and time left, one line now and then."""

import logging
import time

log = logging.getLogger(__name__)


def format_duration(seconds: float) -> str:
  """'42 s', '3 min 20 s' or '2 h 05 min'."""
  seconds = max(0, round(seconds))
  if seconds < 60:
    return f'{seconds} s'
  if seconds < 3600:
    return f'{seconds // 60} min {seconds % 60:02d} s'
  return f'{seconds // 3600} h {seconds % 3600 // 60:02d} min'


class Progress:
  """Counts steps from `start`; the first step, which compiles, is left out of the rate."""

  def __init__(self, start: int, total: int, every_seconds: float = 5.0):
    self.start, self.total, self.every_seconds = start, total, every_seconds
    self.began = self.last_line = time.monotonic()
    self.cpu_began = time.process_time()  # of all threads of this process
    self.last_rate = 0.0
    self._first: tuple[int, float] | None = None

  def rate(self, step: int) -> float:
    """Steps per second since the first step ended."""
    if self._first is None or step <= self._first[0]:
      return 0.0
    return (step - self._first[0]) / (time.monotonic() - self._first[1])

  def advance(self, step: int, message: str):
    """Call after every step; writes a line every few seconds and at the end."""
    now = time.monotonic()
    if self._first is None:
      self._first = (step, now)
    self.last_rate = self.rate(step)
    if now - self.last_line < self.every_seconds and step < self.total:
      return
    self.last_line = now
    rate = self.last_rate
    left = format_duration((self.total - step) / rate) if rate else '?'
    log.info('step %d/%d  %s  %.1f steps/s  %s left', step, self.total, message, rate, left)
