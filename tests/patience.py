"""A time limit of the reader that no busy machine reaches: it is over once what hangs is all that is left to come."""

import queue
import threading
import types


def queues(hangs: threading.Event, before: int) -> types.SimpleNamespace:
  """To stand for `queue` in `dl.data.fetch`: so many items are waited for as long as it takes.

  Then whoever waits for one more gives up when the event is set, by what hangs.
  """

  class Patient(queue.Queue):
    taken = 0

    def get(self, timeout: float):
      while True:
        try:
          item = super().get(timeout=0.05)
        except queue.Empty:
          if self.taken == before and hangs.is_set():
            raise
        else:
          self.taken += 1
          return item

  return types.SimpleNamespace(Queue=Patient, Empty=queue.Empty, Full=queue.Full)
