"""The table of networks, docs/models.md: python -m benchmarks.models [--only=resnet50] [--table]

Counts parameters and floating-point operations from shapes alone, and compares each network with its reference: random
weights of torchvision's, timm's or (tests/torch_networks.py) a PyTorch network go through our loader, and both compute
logits, and the gradient of a scalar loss with respect to the image, in float32. The numbers go to `docs/models.json`;
the table is made from that file and `experiments/results.json` alone (--table makes it anew without running anything).
"""

import dataclasses
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from dl import config as configs
from dl.config import build, citations
from dl.errors import ConfigError
from dl.show import words
from dl.store import atomic
from dl.training import flops, start

ROOT = pathlib.Path(__file__).parents[1]
RESULTS = ROOT / 'experiments' / 'results.json'
NUMBERS = ROOT / 'docs' / 'models.json'
TABLE = ROOT / 'docs' / 'models.md'
COMMAND = 'python -m benchmarks.models'

Options = Callable[[Any], dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Reference:
  """What a network is compared with.

  Attributes:
    library: 'torchvision', 'timm', or 'torch' for tests/torch_networks.py.
    name: of the function or class in it.
    image: shape of the images [b, h, w, c]; None where the names and shapes of its tensors alone are compared.
    options: our network -> arguments of the reference.
    kernels: whether kernels are drawn anew, such that maps neither shrink nor grow from layer to layer.
    scale: of the images' values.
    seed: of its weights.
  """

  library: str
  name: str
  image: tuple[int, int, int, int] | None = (2, 64, 64, 3)
  options: Options = lambda _: {}
  kernels: bool = False
  scale: float = 1.0
  seed: int = 0


@dataclasses.dataclass(frozen=True)
class Network:
  """One row.

  Attributes:
    name: as in a config.
    size: of the image [h, w, c] that parameters and operations are counted for.
    reference: what it is compared with.
    classes: logits, of an image or a pixel.
    options: further arguments, as in a config.
    experiment: the config which gives name, classes and options instead, 'vision/digits_vit' say.
    published: parameters as the paper or the reference states them, and what is counted differently.
  """

  name: str
  size: tuple[int, int, int]
  reference: Reference
  classes: int = 1000
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  experiment: str = ''
  published: str = ''

  @property
  def key(self) -> str:
    """What it is called in the numbers: "resnet.ResNet18, stem='cifar'"."""
    if self.experiment:
      return f'{self.name} as in {self.experiment}'
    return ', '.join([self.name, *(f'{k}={v!r}' for k, v in self.options.items())])

  @property
  def spec(self) -> dict[str, Any]:
    """The config of the model."""
    if not self.experiment:
      return {'name': self.name, 'num_classes': self.classes, **self.options}
    spec = configs.load(str(ROOT / f'experiments/{self.experiment}.py')).model
    if spec['name'] != self.name:
      raise ConfigError(f'{self.experiment} trains {spec["name"]}, not {self.name}')
    return spec


@dataclasses.dataclass(frozen=True)
class Family:
  """Networks of one design.

  Attributes:
    title: of the section.
    year: of the first publication.
    cite: keys of the papers.
    networks: the rows.
    note: a remark.
  """

  title: str
  year: int
  cite: tuple[str, ...]
  networks: tuple[Network, ...]
  note: str = ''


def families() -> list[Family]:
  """All rows, by year; networks for dense prediction last."""
  image, small = (224, 224, 3), (32, 32, 3)
  seen = lambda name, **options: Reference('torchvision', name, **options)
  perceptron = lambda sizes: Reference('torch', 'mlp', (2, 28, 28, 1), sizes)

  def undrawn(name: str, arguments: Options = lambda _: {}, **options: Any) -> Reference:
    """A network of torchvision whose own weights need not be drawn, since kernels are."""
    return seen(name, options=lambda m: dict(init_weights=False, **arguments(m)), kernels=True, **options)

  def vgg(number: int, published: str, **options: Any) -> Network:
    reference = undrawn(f'vgg{number}' + '_bn' * bool(options))
    return Network(f'vgg.VGG{number}', image, reference, options=options, published=published)

  def resnet(number: int) -> Network:
    return Network(f'resnet.ResNet{number}', image, seen(f'resnet{number}', kernels=True))

  def small_resnet(name: str, published: str = '', **options: Any) -> Network:
    arguments = lambda m: dict(channels=3, classes=10, blocks=m.blocks, width=m.width, shortcut=m.shortcut)
    reference = Reference('torch', 'small_resnet', (2, 32, 32, 3), arguments, kernels=True)
    return Network(f'resnet.{name}', small, reference, 10, options, published=published)

  def efficientnet(name: str, side: int, published: str, **options: Any) -> Network:
    reference = seen(f'efficientnet_{name.lower()}', **options)
    return Network(f'efficientnet.EfficientNet{name}', (side, side, 3), reference, published=published)

  def timm(name: str, theirs: str, published: str) -> Network:
    return Network(name, image, Reference('timm', theirs, options=lambda _: dict(img_size=64)), published=published)

  def small_vit(experiment: str, side: int) -> Network:
    arguments = lambda m: dict(
      img_size=side, patch_size=m.patch, in_chans=1, num_classes=10, embed_dim=m.width, depth=m.depth,
      num_heads=m.heads, global_pool='avg', class_token=False,
    )  # fmt: skip
    reference = Reference('timm', 'VisionTransformer', (2, side, side, 1), arguments)
    return Network('vit.ViT', (side, side, 1), reference, experiment=experiment)

  def unet(side: int, shape: tuple[int, int, int, int], **options: Any) -> Network:
    arguments = lambda m: dict(
      channels=1, classes=2, features=m.features, padding=m.padding, batch_norm=m.batch_norm
    )  # fmt: skip
    reference = Reference('torch', 'unet', shape, arguments, kernels=True)
    return Network('unet.UNet', (side, side, 1), reference, 2, **options)

  def dense(name: str, theirs: str, published: str, **options: Any) -> Network:
    arguments = lambda m: dict(weights=None, weights_backbone=None, num_classes=21, aux_loss=m.aux)
    # A seed without a rectifier that rounding turns over: that changes PyTorch's own gradient by a hundredth.
    reference = seen(f'segmentation.{theirs}', image=(1, 65, 49, 3), options=arguments, seed=4)
    return Network(name, (520, 520, 3), reference, 21, options, published=published)

  return [
    Family(
      'Perceptrons', 1958, ('rosenblatt1958perceptron', 'rumelhart1986learning'),
      (
        Network(
          'perceptron.Perceptron', (28, 28, 1), perceptron(lambda _: dict(sizes=(784, 10))), 10,
        ),
        Network(
          'mlp.MLP', (28, 28, 1),
          perceptron(lambda m: dict(sizes=(784, *m.hidden, 10), batch_norm=m.batch_norm)),
          experiment='vision/fashion_mlp',
        ),
      ),
    ),
    Family(
      'LeNet-5', 1998, ('lecun1998gradient',),
      (
        Network(
          'lenet.LeNet5', (28, 28, 1), Reference('torch', 'lenet', (2, 28, 28, 1), lambda _: dict(pixels=28)), 10,
          published='60,000 with C3 seeing a part, trained subsampling and fixed codes: LeNet5Original',
        ),
      ),
    ),
    Family(
      'AlexNet', 2012, ('krizhevsky2012imagenet', 'krizhevsky2014one'),
      (
        Network(
          'alexnet.AlexNet', image,
          Reference('torch', 'alexnet_2012', (2, 70, 90, 3), lambda _: dict(channels=3, classes=1000), True, 1e3),
          options=dict(groups=2), published='60 M',
        ),
        Network('alexnet.AlexNet', image, seen('alexnet', kernels=True)),
      ),
      'Two towers (`groups=2`) are the network of 2012, one that of 2014. Images of the first comparison have values a '
      'thousand times as large as usual, so that local response normalization counts.',
    ),
    Family(
      'VGG', 2014, ('simonyan2015very',),
      tuple(
        vgg(number, published, **options)
        for options in ({}, dict(batch_norm=True))
        for number, published in ((11, '133 M'), (13, '133 M'), (16, '138 M'), (19, '144 M'))
      ),
    ),
    Family(
      'GoogLeNet', 2014, ('szegedy2015going', 'ioffe2015batch'),
      (
        Network(
          'googlenet.GoogLeNet', image,
          undrawn('googlenet', lambda m: dict(aux_logits=m.aux), seed=1),
          published='6.8 M (the sum of its table 1): 5x5 convolutions, here 3x3 as in torchvision; no batch norm',
        ),
        Network(
          'googlenet.GoogLeNet', image,
          undrawn('googlenet', lambda m: dict(aux_logits=m.aux), seed=1),
          options=dict(aux=True),
        ),
      ),
    ),
    Family(
      'Inception-v3', 2015, ('szegedy2016rethinking',),
      (
        Network(
          'inception.InceptionV3', (299, 299, 3),
          undrawn('inception_v3', lambda m: dict(aux_logits=m.aux), image=(2, 90, 75, 3)),
          published='less than 25 M',
        ),
        Network(
          'inception.InceptionV3', (299, 299, 3),
          undrawn('inception_v3', lambda m: dict(aux_logits=m.aux), image=(2, 90, 75, 3)),
          options=dict(aux=True),
        ),
      ),
    ),
    Family(
      'ResNet', 2015, ('he2016deep',),
      (
        *(resnet(number) for number in (18, 34, 50, 101, 152)),
        small_resnet('ResNet20', '0.27 M'),
        small_resnet('ResNet56', '0.85 M'),
        small_resnet('ResNet18', stem='cifar'),
      ),
      'ResNet-20 and 56 have the shortcuts without parameters of the paper (option A).',
    ),
    Family(
      'EfficientNet', 2019, ('tan2019efficientnet', 'tan2021efficientnetv2'),
      (
        efficientnet('B0', 224, '5.3 M'),
        efficientnet('B1', 240, '7.8 M'),
        efficientnet('B2', 260, '9.2 M'),
        efficientnet('B3', 300, '12 M'),
        efficientnet('B4', 380, '19 M'),
        efficientnet('B5', 456, '30 M'),
        efficientnet('B6', 528, '43 M'),
        efficientnet('B7', 600, '66 M'),
        efficientnet('V2_S', 384, '22 M'),
      ),
    ),
    Family(
      'Vision transformer', 2020, ('dosovitskiy2021image', 'touvron2021training'),
      (
        timm('vit.ViT_Ti16', 'vit_tiny_patch16_224', '5 M'),
        timm('vit.ViT_S16', 'vit_small_patch16_224', '22 M'),
        timm('vit.ViT_B16', 'vit_base_patch16_224', '86 M'),
        timm('vit.ViT_B32', 'vit_base_patch32_224', '88 M'),
        timm('vit.ViT_L16', 'vit_large_patch16_224', '307 M (L/32 here: 306.5 M)'),
        small_vit('vision/digits_vit', 8),
        small_vit('vision/fashion_vit', 28),
      ),
    ),
    Family('MLP-Mixer', 2021, ('tolstikhin2021mlp',), (timm('mixer.MixerS16', 'mixer_s16_224', '18 M'),)),
    Family(
      'ConvNeXt', 2022, ('liu2022convnet',),
      (Network('convnext.ConvNeXtT', image, seen('convnext_tiny'), published='29 M'),),
    ),
    Family(
      'Plain convolutional networks', 2014, ('simonyan2015very', 'ioffe2015batch'),
      (
        Network(
          'cnn.CNN', (28, 28, 1),
          Reference(
            'torch', 'cnn', (2, 28, 28, 1),
            lambda m: dict(channels=1, classes=10, features=m.features, batch_norm=m.batch_norm), True,
          ),
          experiment='vision/fashion_cnn',
        ),
      ),
    ),
    Family(
      'Fully convolutional networks', 2014, ('long2015fully',),
      (dense('fcn.FCN_R50', 'fcn_resnet50', '', aux=True), dense('fcn.FCN_R50', 'fcn_resnet50', '')),
      'On a ResNet-50, as in torchvision; the paper has them on AlexNet, VGG-16 and GoogLeNet.',
    ),
    Family(
      'U-Net', 2015, ('ronneberger2015u',),
      (
        unet(572, (1, 188, 188, 1), options=dict(padding='valid')),
        unet(572, (1, 64, 64, 1)),
        unet(256, (1, 64, 64, 1), experiment='vision/vnc_unet'),
      ),
      "`padding='valid'` is the paper's.",
    ),
    Family(
      'Deconvolution network', 2015, ('noh2015learning',),
      (
        Network(
          'deconv.DeconvNet', image,
          Reference(
            'torch', 'deconv', (1, 64, 64, 3),
            lambda m: dict(channels=3, classes=21, features=m.features, convolutions=m.convolutions), True,
          ),
          21, published='252 M, with two fully connected layers, which are left out here',
        ),
      ),
    ),
    Family(
      'DeepLabV3', 2017, ('chen2017rethinking',),
      (dense('deeplab.DeepLabV3_R50', 'deeplabv3_resnet50', '42.0 M in torchvision, with an auxiliary head'),),
    ),
  ]  # fmt: skip


@functools.cache
def testing() -> tuple[Any, Any]:
  """tests/reference.py and tests/torch_networks.py."""
  sys.path.insert(0, str(ROOT / 'tests'))
  import reference
  import torch_networks

  return reference, torch_networks


def shapes_of(model: nn.Module, size: Sequence[int]) -> Any:
  """The shapes of a network's variables for images of a size [h, w, c]."""
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
  reference, torch_networks = testing()
  import torch

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
  yield '# Networks for images'
  yield ''
  yield f'Written by `{COMMAND}` ([source](../benchmarks/models.py)).'
  yield ''
  yield (
    "* **network**: the `name` of a config's `model`, with other arguments than the defaults. Images may have other "
    'sizes and channels than those here, and there may be any number of classes.'
  )
  yield (
    '* **parameters**: trainable ones, so without the statistics of batch norm, exact, for this input and output. '
    "**published**: the paper's own number where it states one, and what it counts otherwise."
  )
  yield (
    '* **FLOPs**: of the matrix products and convolutions of one image, forwards. A multiplication and an addition are '
    'two; many papers count them as one.'
  )
  yield (
    '* **compared with**: random weights of the reference go through the loader of `dl.training.start`, and both '
    'networks see the same random images, whose shape stands here, in evaluation. **logits**, **gradient**: the '
    'largest difference '
    "of the logits and of the gradient of a scalar loss with respect to the image, as a share of the reference's "
    'largest value, in float32. Where two values that a rectifier or a pooling compares are equal but for rounding, '
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
