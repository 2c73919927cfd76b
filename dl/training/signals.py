"""Being told to stop: SIGTERM and SIGINT as a question that a loop asks between two steps."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

TOGETHER = 1.0
"""Seconds within which signals count as one: a terminal or a batch system signals all processes of a job, and the
supervisor of a process passes on what it got as well."""


@contextlib.contextmanager
def interruption() -> Iterator[Callable[[], bool]]:
  """Yields a function which says whether SIGTERM or SIGINT has asked to stop; a second signal acts at once."""
  asked = threading.Event()
  if threading.current_thread() is not threading.main_thread():
    yield asked.is_set
    return
  before = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)}
  since: list[float] = []

  def ask(number: int, _: Any) -> None:
    since.append(time.monotonic())
    asked.set()
    if since[-1] - since[0] > TOGETHER:
      signal.signal(number, before[number])
      os.kill(os.getpid(), number)

  for s in before:
    signal.signal(s, ask)
  try:
    yield asked.is_set
  finally:
    for s, handler in before.items():
      signal.signal(s, handler)
