"""A parent for each process of a distributed run, which names the one that is lost and ends the others.

The runtime under JAX aborts a process whose peers are gone, with a stack trace and before Python can say a word. So
the command runs itself again as a child, which trains, while the parent keeps a line open to the parent of process 0:
who ends, and how, is told to all within a second, and a host which falls silent is given up after `SILENCE`.
"""

import contextlib
import json
import os
import secrets
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any, Self

from dl.errors import RESUME

VARIABLE = 'DL_SUPERVISOR'
"""Environment variable by which a child finds its parent."""

COLLECTIVE = 76
"""Exit code of a child in which a collective failed, most likely because a peer is gone."""

BEAT = 5.0
SILENCE = 30.0
WELCOME = b'{"welcome": true}\n'
_SYMPTOMS = (COLLECTIVE, -signal.SIGABRT)


# -- In the child.


def supervised() -> bool:
  """Whether this process is a child."""
  return VARIABLE in os.environ


def address() -> dict[str, Any]:
  """Where the parent listens."""
  given = json.loads(os.environ[VARIABLE])
  return {k: given[k] for k in ('hosts', 'port', 'token')}


def introduce(process: int, first: Mapping[str, Any]) -> None:
  """Tells the parent who the child is and where the parent of process 0 listens; ends with the parent from now on."""
  given = json.loads(os.environ[VARIABLE])
  with os.fdopen(given['tell'], 'w') as tell:
    tell.write(json.dumps({'process': process, 'first': dict(first)}) + '\n')

  def end_with_parent() -> None:
    os.read(given['alive'], 1)
    os._exit(RESUME)

  threading.Thread(target=end_with_parent, daemon=True).start()


# -- In the parent.


def run(hosts: list[str]) -> int:
  """Runs the same command as a child until it, or another process of the run, ends; returns the exit code."""
  with contextlib.ExitStack() as stack:
    listener = stack.enter_context(socket.create_server(('', 0)))
    tell, told = os.pipe(), os.pipe()  # parent -> child (held open while the parent lives), child -> parent
    given = {'hosts': hosts, 'port': listener.getsockname()[1], 'token': secrets.token_hex(8)}
    given |= {'alive': tell[0], 'tell': told[1]}
    child = subprocess.Popen(
      [sys.executable, *sys.orig_argv[1:]],
      env=os.environ | {VARIABLE: json.dumps(given)},
      pass_fds=(tell[0], told[1]),
    )
    os.close(tell[0])
    os.close(told[1])
    stack.callback(os.close, tell[1])
    stack.callback(os.close, told[0])
    stack.enter_context(_forwarding(child))
    return stack.enter_context(_Watch(child, listener, told[0], given['token'])).run()


class _Watch:
  """The parent's loop: its child, the line of the child, and the lines to the other parents."""

  def __init__(self, child: subprocess.Popen, listener: socket.socket, told: int, token: str):
    self._child, self._listener, self._token, self._host = child, listener, token, socket.gethostname()
    self._process, self._beaten, self._died = 0, 0.0, 0.0
    self._names: dict[socket.socket, str] = {}  # lines to parents of processes which have not ended well
    self._heard: dict[socket.socket, float] = {}
    self._rest: dict[Any, bytes] = {}
    self._selector = selectors.DefaultSelector()
    self._selector.register(listener, selectors.EVENT_READ, self._accept)
    self._selector.register(told, selectors.EVENT_READ, self._introduced)

  def __enter__(self) -> Self:
    return self

  def __exit__(self, *error: Any) -> None:
    for line in list(self._heard):
      self._drop(line)
    self._selector.close()

  def run(self) -> int:
    """Watches until the child or the run ends; returns the exit code."""
    while True:
      for key, _ in self._selector.select(0.2):
        lost = key.data(key.fileobj)
        if lost:
          return self._end(*lost)
      now = time.monotonic()
      if now - self._beaten > BEAT:
        self._beaten = now
        self._send({'alive': True})
      for line, heard in list(self._heard.items()):
        if now - heard > SILENCE:
          if line in self._names:
            return self._end(f'{self._names[line]} has been silent for {SILENCE:.0f} s', RESUME)
          self._drop(line)  # a stranger's
      code = self._child.poll()
      if code in (0, RESUME):
        self._send({'ended': code})
        return code
      if code is not None:
        self._died = self._died or now
        if code not in _SYMPTOMS or now - self._died > SILENCE or not self._names:
          return self._end(f'process {self._process} on {self._host} {_how(code)}', code, mine=True)

  def _end(self, why: str, code: int, mine: bool = False) -> int:
    """Tells the others, ends the child, says why, and returns the exit code."""
    code = code if code in (1, 2) else RESUME
    self._send({'lost': why, 'code': code})
    if self._child.poll() is None:
      self._child.kill()
    self._child.wait()
    if not mine or code == RESUME:  # else the child has said itself what was wrong
      again = '; the same command continues from the last checkpoint' if code == RESUME else ''
      print(f'error: {"" if mine else "lost "}{why}{again}', file=sys.stderr, flush=True)
    return code

  def _introduced(self, told: int) -> tuple[str, int] | None:
    """The child has started: whose child it is, and where process 0 is."""
    text = os.read(told, 4096)
    if b'\n' not in text:
      self._selector.unregister(told)  # it ended before it began
      return None
    facts = json.loads(text)
    self._selector.unregister(told)
    self._process, first = facts['process'], facts['first']
    if self._process == 0:
      return None
    self._selector.unregister(self._listener)  # they come to process 0 alone
    self._listener.close()
    for host in first['hosts']:
      with contextlib.suppress(OSError):
        line = socket.create_connection((host, first['port']), timeout=5)
        hello = {'process': self._process, 'host': self._host, 'token': first['token']}
        line.sendall(json.dumps(hello).encode() + b'\n')
        if line.recv(len(WELCOME), socket.MSG_WAITALL) == WELCOME:
          self._add(line, 'process 0')
          return None
        line.close()  # another service of that host
    print(f'warning: cannot reach process 0 at {first["hosts"]}: a lost process will not be named', file=sys.stderr)
    return None

  def _accept(self, listener: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it has gone again, or there are too many
      self._add(listener.accept()[0], '')

  def _add(self, line: socket.socket, name: str) -> None:
    line.settimeout(BEAT)
    self._heard[line] = time.monotonic()
    if name:
      self._names[line] = name
    self._selector.register(line, selectors.EVENT_READ, self._receive)

  def _receive(self, line: socket.socket) -> tuple[str, int] | None:
    try:
      received = line.recv(4096)
    except OSError:
      received = b''
    if not received:
      self._drop(line)
      name = self._names.pop(line, None)
      return (f'{name}: its connection broke', RESUME) if name else None
    self._heard[line] = time.monotonic()
    *lines, self._rest[line] = (self._rest.get(line, b'') + received).split(b'\n')
    if len(self._rest[line]) > 4096:  # no message is that long
      return self._drop(line)
    for text in lines:
      try:
        message = dict(json.loads(text))
        if line not in self._names:  # anybody can come, and who does not know the token is nobody
          if not secrets.compare_digest(str(message.get('token')), self._token):
            return self._drop(line)
          self._names[line] = f'process {int(message["process"])} on {message["host"]}'
          with contextlib.suppress(OSError):
            line.sendall(WELCOME)
      except (ValueError, TypeError, KeyError, RecursionError):
        self._names.pop(line, None)
        return self._drop(line)
      if 'ended' in message:
        self._names.pop(line)
      elif 'lost' in message:
        self._names.pop(line)
        return str(message['lost']), int(message['code'])
    return None

  def _drop(self, line: socket.socket) -> None:
    self._selector.unregister(line)
    self._heard.pop(line, None)
    self._rest.pop(line, None)
    line.close()

  def _send(self, message: Mapping[str, Any]) -> None:
    for line in list(self._names):
      with contextlib.suppress(OSError):  # a broken line is noticed where it is read
        line.sendall(json.dumps(message).encode() + b'\n')


@contextlib.contextmanager
def _forwarding(child: subprocess.Popen) -> Iterator[None]:
  """Signals that ask to stop are the child's to answer."""
  numbers = (signal.SIGTERM, signal.SIGINT)
  before = {n: signal.signal(n, lambda number, _: child.send_signal(number)) for n in numbers}
  try:
    yield
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)


def _how(code: int) -> str:
  return f'was killed by {signal.Signals(-code).name}' if code < 0 else f'ended with exit code {code}'
