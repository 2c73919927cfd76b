"""The table of networks, docs/models.md: python -m benchmarks.models [--only=resnet50] [--table]

Counts parameters and floating-point operations from shapes alone, and compares each network with its reference: random
weights of torchvision's, timm's or (tests/torch_networks.py) a PyTorch network go through our loader, and both compute
logits, and the gradient of a scalar loss with respect to the image, in float32. The numbers go to `docs/models.json`;
the table is made from that file and `experiments/results.json` alone (--table makes it anew without running anything).
"""

import datetime
import functools
import importlib.metadata
import json
import operator
import pathlib
import re
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from dl import config as configs
from dl.config import build, citations
from dl.show import words
from dl.store import atomic
from dl.training import flops, start

ROOT = pathlib.Path(__file__).parents[1]
sys.path.append(str(ROOT / 'tests'))  # where the table of networks and their references are
from references import Network, families  # noqa: E402

RESULTS = ROOT / 'experiments' / 'results.json'
NUMBERS = ROOT / 'docs' / 'models.json'
TABLE = ROOT / 'docs' / 'models.md'
COMMAND = 'python -m benchmarks.models'


def shapes_of(model: nn.Module, size: Sequence[int]) -> Any:
  """The shapes of a network's variables for images [h, w, c] or series [steps, channels] of a size."""
  image = jax.ShapeDtypeStruct((1, *size), jnp.float32)
  return jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), image)


def counted(network: Network) -> dict[str, Any]:
  """Shapes, parameters and operations, without computing anything."""
  model = build.build(network.spec, 'dl.models', 'config.model')
  variables, image = shapes_of(model, network.size), jax.ShapeDtypeStruct((1, *network.size), jnp.float32)
  forward = functools.partial(model.apply, train=False)
  return {
    'input': list(network.size),
    'output': list(jax.eval_shape(forward, variables, image).shape[1:]),
    'parameters': sum(x.size for x in jax.tree.leaves(variables['params'])),
    'flops': sum(flops.count(forward, variables, image).values()),
  }


def compared(network: Network) -> dict[str, Any]:
  """The differences from the reference, or the number of tensors whose names and shapes are its own."""
  import reference
  import torch
  import torch_networks

  wanted = network.reference
  library = {
    'torchvision': lambda: reference.torchvision().models,
    'timm': lambda: reference.timm().models,
    'torch': lambda: torch_networks,
  }[wanted.library]()
  model = build.build(network.spec, 'dl.models', 'config.model')
  make = functools.partial(operator.attrgetter(wanted.name)(library), **wanted.options(model))
  record = {
    'library': wanted.library,
    'name': wanted.name,
    'date': datetime.date.today().isoformat(),
    'versions': {name: importlib.metadata.version(name) for name in {'jax', 'flax', 'torch', wanted.library}},
  }
  record['versions'] = dict(sorted(record['versions'].items()))
  if wanted.image is None:
    with torch.device('meta'):
      theirs = make()
    tensors = {k: np.broadcast_to(np.float32(0), v.shape) for k, v in theirs.state_dict().items()}
    start.convert(tensors, shapes_of(model, network.size), model=model)
    return record | {'tensors': len(tensors)}
  torch.manual_seed(wanted.seed)
  theirs = reference.randomize(make(), kernels=wanted.kernels)
  image = np.float32(wanted.scale) * reference.random_image(*wanted.image)
  variables = reference.converted(model, theirs, wanted.image)
  found = reference.differences(model, theirs, variables, image)
  return record | {'image': list(wanted.image), **{k: float(f'{v:.2g}') for k, v in found.items()}}


def measured(records: Sequence[Mapping[str, Any]], rows: Sequence[Network]) -> dict[str, list[str]]:
  """Key of a row -> what the experiments with its network reached, each as a text.

  An experiment belongs to the row of its model's name whose options agree best with its own.
  """
  found: dict[str, list[str]] = {}
  for experiment in dict.fromkeys(r['experiment'] for r in records):
    runs = [r for r in records if r['experiment'] == experiment]
    file, _, stage = experiment.partition(':')
    argument = f':{stage}' if stage else runs[0]['argument']
    config = configs.load(str(ROOT / f'experiments/{file}.py{argument}'))
    same = [row for row in rows if row.name == config.model.get('name')]
    if not same:
      continue
    row = max(same, key=lambda row: _agreement(row, experiment, config.model))
    metrics = list(config.expect) or [m for m in runs[0]['metrics'] if re.search('/(accuracy|mean_iou)$', m)]
    seeds = len({r['seed'] for r in runs})
    size = f'{runs[0]["parameters"]:,} parameters, {seeds} seed{"s" if seeds > 1 else ""}'
    for metric in metrics:
      value = statistics.mean(r['metrics'][metric] for r in runs)
      link = f'[{pathlib.Path(file).name}{":" if stage else ""}{stage}](../experiments/{file}.py)'
      found.setdefault(row.key, []).append(f'{_data_set(config.data)} {metric} {value:.4f} ({link}; {size})')
  return found


def _agreement(row: Network, experiment: str, model: Mapping[str, Any]) -> int:
  if row.experiment == experiment:
    return 1000
  return sum(1 if model.get(k) == v else -1 for k, v in row.options.items())


def _data_set(data: Mapping[str, Any]) -> str:
  if 'dataset' in data:
    return data['dataset']
  return pathlib.Path(data['path']).name if 'path' in data else data['name'].rpartition('.')[2]


def papers(keys: Sequence[str]) -> str:
  """The papers of a family, with links."""
  entries, lines = citations.entries(), []
  for key in keys:
    field = lambda name, key=key: (re.search(rf'^\s*{name} = \{{(.*)\}},$', entries[key], re.M) or [None, ''])[1]
    title = re.sub(r'[{}\\]', '', field('title'))
    arxiv, doi = field('eprint'), field('doi')
    link = f'[arXiv {arxiv}](https://arxiv.org/abs/{arxiv})' if arxiv else f'[doi](https://doi.org/{doi})'
    lines.append(f'{title}, {field("year")}{f", {link}" if arxiv or doi else ""} (`{key}`)')
  return '; '.join(lines) + '.'


def evidence(parity: Mapping[str, Any]) -> tuple[str, str, str]:
  """(the reference, difference of logits, difference of the gradient)."""
  if parity['library'] == 'torch':
    theirs = f'[`{parity["name"]}`](../tests/torch_networks.py) in PyTorch {parity["versions"]["torch"]}'
  else:
    theirs = f'{parity["library"]} {parity["versions"][parity["library"]]} `{parity["name"]}`'
  if 'tensors' in parity:
    return f'{theirs}: names and shapes of its {parity["tensors"]} tensors', '-', '-'
  gradient = f'{parity["gradient"]:.1e}'
  if 'gradient in float64' in parity:
    gradient += f' (in float64 {parity["gradient in float64"]:.1e})'
  return f'{theirs}, {_x(parity["image"])}', f'{parity["logits"]:.1e}', gradient


def _x(shape: Sequence[int]) -> str:
  return 'x'.join(map(str, shape))


def lines(numbers: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> Iterator[str]:
  """The lines of docs/models.md."""
  all_families = families()
  reached = measured(records, [row for family in all_families for row in family.networks])
  known = [row.key for family in all_families for row in family.networks if row.key in numbers]
  parities = [numbers[key]['parity'] for key in known]
  versions = {f'{k} {v}' for p in parities for k, v in p['versions'].items()}
  dates = sorted({p['date'] for p in parities})
  yield f'<!-- Written by `{COMMAND}`: change that, or docs/models.json by it, not this. -->'
  yield '# Networks for images and series'
  yield ''
  yield f'Written by `{COMMAND}` ([source](../benchmarks/models.py)).'
  yield ''
  yield (
    "* **network**: the `name` of a config's `model`, with other arguments than the defaults. Images may have other "
    'sizes and channels than those here, and there may be any number of classes; so with the steps and channels of '
    'time series, and the horizon of forecasts.'
  )
  yield (
    '* **parameters**: trainable ones, so without the statistics of batch norm, exact, for this input and output. '
    "**published**: the paper's own number where it states one, and what it counts otherwise."
  )
  yield (
    '* **FLOPs**: of the matrix products and convolutions of one image or series, forwards. A multiplication and an '
    'addition are two; many papers count them as one.'
  )
  yield (
    '* **compared with**: random weights of the reference go through the loader of `dl.training.start`, and both '
    'networks see the same random images or series, whose shape stands here, in evaluation. **logits**, **gradient**: '
    'the largest difference of the logits (or the forecast) and of the gradient of a scalar loss with respect to the '
    "input, as a share of the reference's largest value, in float32. Where two values that a rectifier or a pooling "
    'compares are equal but for rounding, '
    'gradients take different ways; beyond 1e-3 they are compared in float64 as well. '
    f'Measured {" to ".join(dict.fromkeys([dates[0], dates[-1]]))} with {", ".join(sorted(versions))}, on a CPU.'
  )
  yield (
    '* **reached**: the mean over seeds (and folds) of our own runs in '
    '[results.json](../experiments/results.json), of experiments with a model of this name; their size says whether '
    'it was this one. "-": none was run.'
  )
  for family in all_families:
    yield ''
    yield f'## {family.title} ({family.year})'
    yield ''
    yield papers(family.cite) + (f' {family.note}' if family.note else '')
    yield ''
    yield '| network | input, output | parameters | published | FLOPs | compared with | logits | gradient | reached |'
    yield '|---|---|---:|---|---:|---|---:|---:|---|'
    for row in family.networks:
      if row.key not in numbers:
        yield f'| {_title(row)} | | | | | not yet counted | | | |'
        continue
      n = numbers[row.key]
      cells = [
        *(_title(row), f'{_x(n["input"])}, {_x(n["output"])}', f'{n["parameters"]:,}', row.published or '-'),
        *(words.amount(n['flops']), *evidence(n['parity']), '<br>'.join(reached.get(row.key, ['-']))),
      ]
      yield f'| {" | ".join(cells)} |'


def _title(row: Network) -> str:
  if row.experiment:
    return f'`{row.name}` as in [{pathlib.Path(row.experiment).name}](../experiments/{row.experiment}.py)'
  return ', '.join([f'`{row.name}`', *(f'`{k}={v!r}`' for k, v in row.options.items())])


def table() -> str:
  """The content of docs/models.md, from the recorded numbers and the recorded runs."""
  return '\n'.join(lines(json.loads(NUMBERS.read_text()), json.loads(RESULTS.read_text()))) + '\n'


def write_table() -> None:
  """Writes docs/models.md."""
  atomic.write(TABLE, table())


def main(argv: Sequence[str]) -> None:
  """Counts, compares, and writes the table."""
  if len(argv) > 1:
    raise app.UsageError(f'unexpected argument {argv[1]!r}')
  FLAGS = flags.FLAGS
  rows = [row for family in families() for row in family.networks]
  chosen = [row for row in rows if FLAGS.only.lower() in row.key.lower()]
  if not chosen:
    raise app.UsageError(f'no network has {FLAGS.only!r} in its name')
  for row in [] if FLAGS.table else chosen:
    start = time.monotonic()
    jax.clear_caches()
    read = lambda: json.loads(NUMBERS.read_text()) if NUMBERS.exists() else {}
    known = {} if FLAGS.compare else read().get(row.key, {})
    new = counted(row) | {'parity': known.get('parity') or compared(row)}
    numbers = read() | {row.key: new}  # another process may have written
    numbers = {r.key: numbers[r.key] for r in rows if r.key in numbers}
    atomic.write(NUMBERS, json.dumps(numbers, indent=1) + '\n')
    print(f'{row.key}: {new}, {time.monotonic() - start:.0f} s', flush=True)
  write_table()


if __name__ == '__main__':
  # Not on import, so that other programs may write the table.
  flags.DEFINE_string('only', '', 'Do the networks whose name contains this.')
  flags.DEFINE_boolean('compare', True, 'Compare with references; else only count again.')
  flags.DEFINE_boolean('table', False, 'Only write docs/models.md from the recorded numbers.')
  app.run(main)
