"""What the entry points share: absl flags in, one library call out, and one line for a user's mistake."""

import contextlib
import importlib
import os
import pathlib
import pkgutil
import re
import signal
import sys
import traceback
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from absl import app, flags, logging

from dl.commands import allocator, compilation
from dl.errors import FAILURE, USER_ERROR, ConfigError, StuckError, TrainingError, nearest, one_line
from dl.parallel import supervisor


def define_config() -> None:
  """Defines --config and what `--config.a.b=value` is short for."""
  flags.DEFINE_string('config', None, 'Config file, FILE.py or FILE.py:ARGUMENT; --config.a.b=value overrides a key.')
  flags.DEFINE_multi_string('override', [], 'a.b=value; --config.a.b=value is short for --override=a.b=value')


def define_distributed() -> None:
  """Defines --distributed and what it needs where the environment does not say it."""
  flags.DEFINE_boolean(
    'distributed', False, 'One of many processes, as SLURM, Open MPI, Kubernetes or a TPU says; elsewhere give '
    '--coordinator, --processes and --process.',
  )  # fmt: skip
  flags.DEFINE_string('coordinator', None, 'With --distributed: HOST:PORT of process 0, the same in all processes.')
  flags.DEFINE_integer('processes', None, 'With --distributed: how many there are.', lower_bound=1)
  flags.DEFINE_integer('process', None, 'With --distributed: which this one is, from 0 on.', lower_bound=0)


def _in_help(*names: str) -> None:
  """Makes --help show flags which are defined here and not in the command's own module."""
  for name in names:
    flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[name])


def join() -> int | None:
  """With --distributed: the exit code of the child which does the work, or None in that child, which has joined.

  To be called before anything asks for a device. Raises ConfigError for flags that cannot be.
  """
  FLAGS = flags.FLAGS
  given = [name for name in ('coordinator', 'processes', 'process') if FLAGS[name].value is not None]
  if not FLAGS.distributed:
    if given:
      raise ConfigError(f'--{given[0]} is for --distributed')
    return None
  from dl.parallel import processes

  if not supervisor.supervised():
    return supervisor.run(processes.hosts())
  processes.start(FLAGS.coordinator, FLAGS.processes, FLAGS.process)
  return None


def enough_threads() -> None:
  """Gives virtual devices threads in which to wait for one another; to be called before JAX is used.

  Those of XLA_FLAGS or JAX_NUM_CPU_DEVICES share one pool, as large as the machine has cores. Where all of its threads
  wait in communication, for devices which have no thread left, nothing goes on. Raises ConfigError for no number.
  """
  asked = re.findall(r'--xla_force_host_platform_device_count=(\d+)', os.environ.get('XLA_FLAGS', ''))
  count = (asked or [os.environ.get('JAX_NUM_CPU_DEVICES') or '1'])[-1]
  try:
    count = int(count)
  except ValueError as e:
    raise ConfigError(f'JAX_NUM_CPU_DEVICES: expected a number, got {count!r}') from e
  if count > 1:
    os.environ.setdefault('NPROC', str(max(8 * count, os.cpu_count() or 1)))  # which XLA reads


def run(main: Callable[[Sequence[str]], int | None]) -> None:
  """Runs `main(argv)` and exits with its code; a `ConfigError` is one line on stderr and exit code 2."""

  def guarded(argv: Sequence[str]) -> int | None:
    if flags.FLAGS['verbosity'].present:
      logging.set_verbosity(flags.FLAGS.verbosity)
    else:
      logging.set_verbosity(logging.WARNING)  # libraries log every detail of a save
    try:
      compilation.use_cache()
      allocator.keep_memory()
      enough_threads()
      code = main(argv)
      sys.stdout.flush()
      return code
    except BrokenPipeError:  # `... | head` has seen enough
      os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left would be written at exit
      return _leave(128 + signal.SIGPIPE)
    except KeyboardInterrupt:  # a second one, where the first makes a run save
      print('interrupted', file=sys.stderr)
      signal.signal(signal.SIGINT, signal.SIG_DFL)
      signal.raise_signal(signal.SIGINT)  # so that a shell knows
    except Exception as e:
      if isinstance(e, ConfigError | TrainingError) and not flags.FLAGS.debug:
        return _leave(fail(e), isinstance(e, StuckError))
      if not supervisor.supervised():
        raise
      if _by_a_lost_peer(e) and not flags.FLAGS.debug:
        fail(TrainingError(f'a computation of many processes failed: {one_line(e)[:500]}'))
        return _leave(supervisor.COLLECTIVE)
      traceback.print_exc()
      return _leave(FAILURE)

  flags.DEFINE_boolean('debug', False, 'Show the traceback of an error.')
  _in_help('debug')
  app.run(guarded, flags_parser=_parse)


def main(command: types.ModuleType) -> None:
  """Runs the command of a module (`define_flags`, `main`, its docstring for --help) and exits."""
  sys.modules['__main__'].__doc__ = command.__doc__  # what --help shows
  before = set(flags.FLAGS)
  command.define_flags()
  _in_help(*(name for name in flags.FLAGS if name not in before))
  run(command.main)


def dispatch() -> None:
  """Runs the command that the first argument names, with the others, and exits."""
  names = sorted(
    m.name
    for m in pkgutil.iter_modules(sys.modules[__package__].__path__)
    if m.name not in ('cli', 'compilation', 'faces')
  )
  name = sys.argv[1] if len(sys.argv) > 1 else ''
  if name not in names:
    usage = f'python -m dl COMMAND ..., of {", ".join(names)}; python -m dl COMMAND --help says more'
    sys.exit(fail(ConfigError(f'no command is called {name!r}; {nearest(name, names)}' if name else usage)))
  sys.argv[:2] = [f'{sys.argv[0]} {name}']
  main(importlib.import_module(f'dl.commands.{name}'))


def _by_a_lost_peer(error: Exception) -> bool:
  """Whether a process may have failed since another one is gone, rather than by itself for want of memory."""
  return type(error).__name__ == 'JaxRuntimeError' and 'RESOURCE_EXHAUSTED' not in str(error)


def _leave(code: int, stuck: bool = False) -> int:
  """An exit code; one of many processes ends at once, since the others, which would be waited for, do not know yet.

  So does one with a thread that is stuck.
  """
  if supervisor.supervised() or stuck:
    sys.stdout.flush()
    os._exit(code)
  return code


def fail(error: Exception) -> int:
  """Prints an error as one line and returns its exit code."""
  print(f'error: {one_line(error)}', file=sys.stderr, flush=True)
  return FAILURE if isinstance(error, TrainingError) else USER_ERROR


def required(name: str) -> str:
  """The value of a flag that must be given; raises ConfigError without."""
  value = flags.FLAGS[name].value
  if value in (None, '', []):
    raise ConfigError(f'--{name} is needed; see --help')
  return value


def no_more(argv: Sequence[str]) -> None:
  """Refuses positional arguments."""
  if len(argv) > 1:
    raise ConfigError(f'unexpected argument {argv[1]!r}; flags look like --name=value')


def _parse(argv: Sequence[str]) -> list[str]:
  try:
    return flags.FLAGS(rewrite_options(rewrite_overrides(argv)))
  except SystemExit as e:  # of --help, for which absl exits as if it were a mistake
    sys.exit(0 if e.code == 1 else e.code)
  except flags.UnrecognizedFlagError as e:
    name = (e.flagname or '').split('.')[0]
    if name == 'override':
      sys.exit(fail(ConfigError('--config.KEY=value changes the config of a run to come; this command reads old runs')))
    sys.exit(fail(ConfigError(f'no flag is called --{name}; {nearest(name, [f for f in flags.FLAGS if len(f) > 1])}')))
  except flags.Error as e:
    sys.exit(fail(e))


def rewrite_overrides(argv: Sequence[str]) -> list[str]:
  """Turns each `--config.a.b=value` (or `--config.a.b value`) into `--override=a.b=value`, and `--by.a` likewise."""
  short = {'config': 'override'} | ({'by': 'argument'} if 'argument' in flags.FLAGS else {})
  result, rest = [], list(argv)
  while rest:
    argument = rest.pop(0)
    top, dot, text = argument.lstrip('-').partition('.')
    if argument == '--':
      return [*result, argument, *rest]
    if argument.startswith('-') and dot and top in short:
      argument = f'--{short[top]}={_with_value(text, rest)}'
    result.append(argument)
  return result


def rewrite_options(argv: Sequence[str]) -> list[str]:
  """Turns each flag that is not defined into `--option=name=value`, for a command which has the flag `option`."""
  if 'option' not in flags.FLAGS:
    return list(argv)
  result, rest = [*argv[:1]], [*argv[1:]]
  while rest:
    argument = rest.pop(0)
    if argument == '--':
      return [*result, argument, *rest]
    text = argument.lstrip('-')
    name = text.partition('=')[0]
    flag = next((flags.FLAGS[n] for n in (name, name.removeprefix('no')) if n in flags.FLAGS), None)
    if not argument.startswith('-') or not name:
      result.append(argument)
    elif flag is None or (flag.name != name and not flag.boolean):
      result.append(f'--option={_with_value(text, rest)}')
    else:
      result.append(argument)
      if '=' not in text and not flag.boolean and rest:
        result.append(rest.pop(0))
  return result


def _with_value(text: str, rest: list[str]) -> str:
  """The text 'name=value' of a flag, whose value may be the argument after it; one without a value is true."""
  if '=' in text:
    return text
  return f'{text}={rest.pop(0)}' if rest and not rest[0].startswith('--') else text


def values(texts: Sequence[str], target: Callable) -> dict[str, Any]:
  """Texts 'name=value' as arguments of a class or function: a text stays one where its hint says so; none is True."""
  from dl.config.experiment import parse_value  # they import jax, which some commands set up first
  from dl.config.hints import matches, type_hints

  hints, result = type_hints(target), {}
  for text in texts:
    name, separator, value = text.partition('=')
    parsed = parse_value(value, None) if separator else True
    result[name] = value if not matches(parsed, hints.get(name, Any)) and matches(value, hints.get(name)) else parsed
  return result


def check_folder(folder: pathlib.Path) -> None:
  """Raises ConfigError unless --output, a folder, is there or can be made; to be called before the work is done."""
  there = next(path for path in (folder, *folder.absolute().parents) if os.path.exists(path))
  if not there.is_dir():
    raise ConfigError(f'--output: {there} is a file; name a folder, which is made if needed')
  if not os.access(there, os.W_OK):
    raise ConfigError(f'--output: cannot write to {there}')


@contextlib.contextmanager
def writing(folder: pathlib.Path) -> Iterator[None]:
  """Makes an OSError inside, of a full disk say, a ConfigError which names --output."""
  try:
    yield
  except OSError as e:
    raise ConfigError(f'--output: cannot write to {folder}: {e.strerror or e}') from e


def step(text: str | None) -> int | str | None:
  """--step as `dl.load` takes it: a number, 'best', or None for the newest; raises ConfigError for other texts."""
  if text is None or text == 'best':
    return text
  if not text.isdecimal():
    raise ConfigError(f"--step: expected a number or 'best', got {text!r}")
  return int(text)
