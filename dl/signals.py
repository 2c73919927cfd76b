"""Being told to stop: SIGTERM and SIGINT as a question that a loop asks between two steps."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def interruption() -> Iterator[Callable[[], bool]]:
  """Yields a function which says whether SIGTERM or SIGINT has asked to stop; a second signal acts at once."""
  asked = threading.Event()
  if threading.current_thread() is not threading.main_thread():
    yield asked.is_set
    return
  before = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)}

  def ask(number: int, _: Any) -> None:
    asked.set()
    signal.signal(number, before[number])

  for s in before:
    signal.signal(s, ask)
  try:
    yield asked.is_set
  finally:
    for s, handler in before.items():
      signal.signal(s, handler)
