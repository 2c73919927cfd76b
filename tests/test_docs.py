"""What the pages name is there: files, modules and what is in them, parts of a config, commands and their flags.

Of Python files and notebooks, so are files and commands, and names in backticks.
"""

import contextlib
import dataclasses
import importlib
import importlib.util
import inspect
import re
from collections.abc import Callable, Iterable

from small import ROOT

from dl.commands import cli
from dl.config import Experiment, build, load
from dl.errors import ConfigError
from dl.tasks.lm import LanguageModel
from dl.training import assemble

PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').rglob('*.md'))]
CODE = [path for top in ('benchmarks', 'dl', 'experiments') for path in sorted((ROOT / top).rglob('*.py'))]
CODE += sorted((ROOT / 'colabs').glob('*.ipynb'))
OF_XLA = 'xla_force_host_platform_device_count'


def text(path):
  """A file, with the lines of a command joined."""
  return path.read_text(encoding='utf-8').replace('\\\n', ' ')


def each(pattern: str, paths: Iterable) -> set[tuple]:
  """(file, what the groups of the pattern match)."""
  return {(path, *match.groups()) for path in paths for match in re.finditer(pattern, text(path))}


def check(named: set[tuple], there: Callable[..., bool]) -> None:
  """Something is named, and all that is named is `there(file, *groups)`."""
  assert named
  missing = sorted(f'{path.relative_to(ROOT)}: {" ".join(names)}' for path, *names in named if not there(path, *names))
  assert not missing


def flags(module: str) -> set[str]:
  """The flags of a command, of pytest, or of a benchmark; of dl.sample the options of texts too."""
  defined = lambda source: set(re.findall(r"(?:DEFINE_\w+|addoption|add_argument)\(\s*'(?:--)?(\w+)'", source))
  if module == 'pytest':
    return defined(text(ROOT / 'tests' / 'conftest.py'))
  name = module.removeprefix('dl.')
  source = text(ROOT / (f'{module.replace(".", "/")}.py' if name == module else f'dl/commands/{name}.py'))
  for part, define in {'config': cli.define_config, 'distributed': cli.define_distributed}.items():
    source += inspect.getsource(define) * (f'cli.define_{part}()' in source)
  return defined(source).union(inspect.signature(LanguageModel.sample).parameters if name == 'sample' else ())


def part(name: str) -> Callable | None:
  """What a config's `name` means, of whatever it is a part."""
  for package in ('models', 'tasks', 'data.sources', 'evaluators'):
    with contextlib.suppress(ConfigError):
      return build.resolve(name, f'dl.{package}', '')


def test_files_are_there():
  path = r'(?:dl|tests|docs|experiments|benchmarks|colabs)/[\w./*-]*[\w/*]'
  there = lambda _, name: any(ROOT.glob(name.rstrip('/')))
  check(each(rf'(?<![\w/.-])({path})', PAGES + CODE), there)
  links = each(r'\]\((?!https?:|#)([^)#]+)\)', PAGES)
  check(links, lambda page, name: (page.parent / name).exists())


def test_modules_and_what_is_in_them_are_there():
  def there(_, name):
    parts, target = name.split('.'), None
    for count, part in enumerate(parts, 1):
      module = '.'.join(parts[:count])
      if hasattr(target, part):
        target = getattr(target, part)
      elif (count > 1 and not hasattr(target, '__path__')) or importlib.util.find_spec(module) is None:
        return False
      else:
        target = importlib.import_module(module)
    return True

  name = r'dl(?:\.[A-Za-z_]\w*)+'
  check(each(rf'(?<![\w/.-])({name})', PAGES) | each(rf'`({name})[`(]', CODE), there)


def test_parts_of_a_config_are_there():
  check(each(r"""['`]([a-z]\w*\.[A-Z]\w*)['`]""", PAGES), lambda _, name: part(name) is not None)
  keys = {field.name for field in dataclasses.fields(Experiment)}
  check(each(r'--config\.(?!a\.b=)(\w+)', PAGES), lambda _, key: key in keys)


def test_commands_have_their_flags():
  commands = each(r'python -m ((?:dl|benchmarks)\.[a-z]\w*|pytest)\b([^`\n]*)', PAGES + CODE)
  known = {module: flags(module) for _, module, _ in commands}
  check(commands, lambda _, module, rest: known[module].issuperset(re.findall(r'(?<![\w-])--(\w+)', rest)))
  every = flags('pytest').union(
    *(flags(f'dl.{path.stem}') for path in (ROOT / 'dl' / 'commands').glob('*.py')),
    *(flags(f'benchmarks.{path.stem}') for path in (ROOT / 'benchmarks').glob('*.py')),
  )
  check(each(r'(?<![\w-])--(\w+)', PAGES), lambda _, flag: flag in {*every, OF_XLA})


def test_parts_take_the_arguments_beside_them():
  """As in `'mlp.MLP', hidden=(64, 64)`."""

  def there(_, spec):
    name, arguments = eval(f'(lambda name, **arguments: (name, arguments))({spec.replace(", ...", "")})')
    return set(arguments) <= set(inspect.signature(part(name)).parameters)

  check(each(r"`('[a-z]\w*\.[A-Z][^`\n]*)`", PAGES), there)


def test_the_config_of_its_page_is_one(tmp_path):
  (code,) = re.findall(r'```python\n(from dl.config import config\n.*?)```', text(ROOT / 'docs' / 'config.md'), re.S)
  (tmp_path / 'mine.py').write_text(code)
  assert assemble.assemble(load(str(tmp_path / 'mine.py'))).total_steps == 20 * 1437 // 64
