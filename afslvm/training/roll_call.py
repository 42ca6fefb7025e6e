"""Processes that train together answer a roll call, so that one that is gone can be named.

JAX notices a lost process too, but ends the others by an abort, with the trace of one of its own
threads. So each process writes a number under its index into JAX's coordination service every few
seconds, and looks at those of the others: whose stands still is lost, before JAX says so.
"""

import contextlib
import ctypes
import os
import signal
import socket
import threading
from collections.abc import Callable
from typing import Any

PLACE = 'afslvm/roll_call/'
LEFT = 'left'


class RollCall:
  """Answers for this process, and finds those that don't.

  Time is counted in rounds, of which there are none while this process is stopped itself.

  Args:
    client: of JAX's coordination service, which lives in process 0.
    index: of this process.
    count: of all.
    is_refused: whether the port of process 0 is closed.
    say: is told, once, the indices of those that are lost, unless somebody asks for them.
    seconds: of a round.
    patience: rounds without an answer after which a process is lost.
  """

  def __init__(
    self,
    client: Any,
    index: int,
    count: int,
    is_refused: Callable[[], bool],
    say: Callable[[list[int]], None],
    seconds: float = 2.0,
    patience: int = 10,
  ):
    self.index, self.count = index, count
    self._client = client
    self._is_refused, self._say = is_refused, say
    self._seconds, self._patience = seconds, patience
    self._round = self._answers = self._listened = 0
    self._heard = {other: ('', 0) for other in range(count) if other != index}
    self._lost: list[int] = []
    self._is_asked = False
    self._found, self._closed, self._lock = threading.Event(), threading.Event(), threading.Lock()

  def start(self):
    """Begins; `call` may never return where the service is gone, so `look` has its own thread."""
    for repeated in (self._call, self._look):
      threading.Thread(target=repeated, daemon=True).start()

  def close(self):
    """Leaves, as all do at the end: who has left is not lost."""
    self._closed.set()
    leaving = threading.Thread(target=self._answer, args=(LEFT,), daemon=True)
    leaving.start()
    leaving.join(timeout=2)  # it never returns where the service is gone

  def lost(self) -> list[int]:
    """Who is lost, if somebody must be; waits for as long as it takes to tell."""
    self._is_asked = True
    if self.count == 2:
      return list(self._heard)
    self._found.wait(2 * self._seconds * (self._patience + 3))  # asking a port takes time, too
    return self._lost

  def call(self):
    """Answers, and listens to the others."""
    self._answers += 1
    self._answer(str(self._answers))
    with contextlib.suppress(RuntimeError):
      for name, text in self._client.key_value_dir_get(PLACE):
        other = int(name.rpartition('/')[2])
        if other != self.index and text != self._heard[other][0]:
          self._heard[other] = text, self._round
      self._listened = self._round

  def look(self) -> list[int]:
    """Who is lost now that one more round has passed."""
    self._round += 1
    # Who was not heard of while the service was; without it nobody is.
    late = [
      other
      for other, (text, heard) in self._heard.items()
      if text != LEFT and self._listened - heard > self._patience
    ]
    if late or not self.index:
      return late
    is_gone = self._round - self._listened > self._patience or self._is_refused()
    return [0] if is_gone else []

  def _answer(self, text: str):
    with self._lock, contextlib.suppress(RuntimeError):  # of JAX, where the service is gone
      if text == LEFT or not self._closed.is_set():
        self._client.key_value_set(f'{PLACE}{self.index}', text, allow_overwrite=True)

  def _call(self):
    while not self._closed.wait(self._seconds):
      self.call()

  def _look(self):
    while not self._closed.wait(self._seconds):
      self._lost = self.look()
      if self._lost and not self._closed.is_set():
        self._found.set()
        if not self._is_asked:
          self._say(self._lost)
        return


def is_refused(address: str) -> bool:
  """Whether a machine is there, and nobody listens at this HOST:PORT of it."""
  host, _, port = address.rpartition(':')
  try:
    socket.create_connection((host.strip('[]'), int(port)), timeout=1).close()
  except ConnectionRefusedError:
    return True
  except OSError:  # the network is slow, or the machine gone: then it doesn't answer either
    return False
  return False


def delay_aborts():
  """Has an abort of this process take six seconds, in which a roll call can say what happened.

  A thread of JAX aborts as soon as process 0, and with it the coordination service, is gone. The
  handler is C's `sleep`, which is given the number of the signal, 6; then the process ends as it
  would have.
  """
  if os.name != 'posix':
    return
  library = ctypes.CDLL(None)
  library.signal.restype = ctypes.c_void_p
  library.signal(int(signal.SIGABRT), ctypes.cast(library.sleep, ctypes.c_void_p))
