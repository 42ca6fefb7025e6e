"""Of processes that train together, the one that is gone is named, and no other."""

import signal
import socket
import subprocess
import sys
import threading

import pytest

from afslvm.training.roll_call import RollCall, is_refused


class Service:
  """A coordination service in memory."""

  def __init__(self):
    self.values, self.is_gone = {}, False

  def key_value_set(self, key, value, allow_overwrite=False):
    assert allow_overwrite
    self._check()
    self.values[key] = value

  def key_value_dir_get(self, place):
    self._check()
    return [(key, value) for key, value in self.values.items() if key.startswith(place)]

  def _check(self):
    if self.is_gone:
      raise RuntimeError('UNAVAILABLE')


def three(service):
  return [
    RollCall(service, index, 3, lambda: service.is_gone, say=None, patience=10)
    for index in range(3)
  ]


def rounds(calls, count):
  """Rounds of all these; what each finds in the last one."""
  for _ in range(count):
    for call in calls:
      call.call()
    found = [call.look() for call in calls]
  return found


def test_nobody_is_lost_while_all_answer():
  assert rounds(three(Service()), 100) == [[], [], []]


def test_who_does_not_answer_is_lost():
  first, second, third = three(Service())
  rounds([first, second, third], 5)
  assert rounds([first, third], 9) == [[], []]
  assert rounds([first, third], 4) == [[1], [1]]


def test_who_never_answered_is_lost():
  first, _, third = three(Service())
  assert rounds([first, third], 10) == [[], []]
  assert rounds([first, third], 2) == [[1], [1]]


def test_who_has_left_is_not_lost():
  first, second, third = three(Service())
  rounds([first, second, third], 5)
  second.close()
  assert rounds([first, third], 100) == [[], []]


def test_who_was_stopped_itself_blames_nobody():
  first, second, third = three(Service())
  rounds([first, second, third], 5)
  rounds([first, second], 10)
  assert third.look() == []
  third.call()
  assert rounds([third, first, second], 20) == [[], [], []]


def test_without_a_service_the_first_is_lost():
  service = Service()
  first, second, third = three(service)
  rounds([first, second, third], 5)
  service.is_gone = True
  assert rounds([second, third], 1) == [[0], [0]]
  second.close()  # says nothing


def test_a_service_that_does_not_answer_is_lost():
  first, second, third = three(Service())
  rounds([first, second, third], 5)
  found = [second.look() for _ in range(12)]  # its call has not returned
  assert found[8] == []
  assert found[-1] == [0]  # and not the third, which is as silent


def test_what_was_heard_late_is_no_reason():
  """The third is heard of in every second round; then the service stops."""
  first, second, third = three(Service())
  for number in range(20):
    for call in (first, second, *([third] if number % 2 else [])):
      call.call()
    for call in (first, second, third):
      assert call.look() == []
  found = [second.look() for _ in range(20)]
  assert [0] in found
  assert all(names in ([], [0]) for names in found)


def test_leaving_is_the_last_word():
  """Also where an answer is under way."""
  service = Service()
  call = RollCall(service, 1, 2, refused, say=None, seconds=0.001)
  call.start()
  while not service.values:
    pass
  call.close()
  call.call()
  assert list(service.values.values()) == ['left']


def refused():
  return False


def test_a_thread_says_who_is_lost_once():
  said, told = [], threading.Event()

  def say(lost):
    said.append(lost)
    told.set()

  RollCall(Service(), 0, 2, refused, say, seconds=0.01).start()
  assert told.wait(60)
  assert said == [[1]]


@pytest.mark.parametrize('count', [2, 3])
def test_who_asks_is_told_instead(count):
  said = []
  call = RollCall(Service(), 0, count, refused, said.append, seconds=0.2, patience=1)
  call.start()
  assert call.lost() == list(range(1, count))
  assert not said


def test_nothing_is_said_after_leaving():
  service, said = Service(), []
  call = RollCall(service, 1, 2, lambda: service.is_gone, said.append, seconds=0.01)
  call.start()
  call.close()
  service.is_gone = True
  assert not threading.Event().wait(0.3)
  assert not said


def test_a_port_that_nobody_listens_at_is_refused():
  with socket.socket() as listener:
    listener.bind(('127.0.0.1', 0))
    address = f'127.0.0.1:{listener.getsockname()[1]}'
    assert is_refused(address)
    listener.listen()
    assert not is_refused(address)
  assert is_refused(address)


@pytest.mark.slow
def test_an_abort_leaves_time_for_a_word():
  """That of a thread without Python's lock, as JAX's are; it ends the process as it would have."""
  code = """
import ctypes, threading, time
from afslvm.training.roll_call import delay_aborts
delay_aborts()
threading.Thread(target=ctypes.CDLL(None).abort).start()
time.sleep(1)
print('a word', flush=True)
time.sleep(60)
"""
  done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60)
  assert done.stdout == 'a word\n'
  assert done.returncode == -signal.SIGABRT
