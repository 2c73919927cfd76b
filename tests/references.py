"""The table of networks: what each is counted by and compared with, which tests, benchmarks and docs read.

A network adds a row to `families` (docs/models.md), its published numbers of parameters to `COUNTS`, and a small one of
its kind to `TINY`; `models/test_parity.py` tests the rows, and its own file keeps what is special to it.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn

from dl import config as configs
from dl.errors import ConfigError
from dl.models import (
  alexnet,
  cnn,
  conv1d,
  convnext,
  deconv,
  deeplab,
  dlinear,
  efficientnet,
  fcn,
  googlenet,
  inception,
  lenet,
  mixer,
  mlp,
  patchtst,
  perceptron,
  resnet,
  rnn,
  shallow,
  unet,
  vgg,
  vit,
)  # fmt: skip

ROOT = pathlib.Path(__file__).parents[1]

Options = Callable[[Any], dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Reference:
  """What a network is compared with.

  Attributes:
    library: 'torchvision', 'timm', or 'torch' for tests/torch_networks.py.
    name: of the function or class in it.
    image: shape of the images [b, h, w, c], or series [b, steps, channels]; None where the names and shapes of its
      tensors alone are compared.
    options: our network -> arguments of the reference.
    kernels: whether kernels are drawn anew, such that maps neither shrink nor grow from layer to layer.
    scale: of the images' values.
    seed: of its weights.
  """

  library: str
  name: str
  image: tuple[int, ...] | None = (2, 64, 64, 3)
  options: Options = lambda _: {}
  kernels: bool = False
  scale: float = 1.0
  seed: int = 0


@dataclasses.dataclass(frozen=True)
class Network:
  """One row.

  Attributes:
    name: as in a config.
    size: of the image [h, w, c], or series [steps, channels], that parameters and operations are counted for.
    reference: what it is compared with.
    classes: logits, of an image or a pixel; or the horizon of a forecast.
    options: further arguments, as in a config.
    outputs: the argument that it is.
    experiment: the config which gives name, classes and options instead, 'vision/digits_vit' say.
    published: parameters as the paper or the reference states them, and what is counted differently.
  """

  name: str
  size: tuple[int, ...]
  reference: Reference
  classes: int = 1000
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  outputs: str = 'num_classes'
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
      return {'name': self.name, self.outputs: self.classes, **self.options}
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
  """All rows, by year; networks for dense prediction and for time series last."""
  image, small = (224, 224, 3), (32, 32, 3)
  seen = lambda name, **options: Reference('torchvision', name, **options)
  perceptron_of = lambda sizes: Reference('torch', 'mlp', (2, 28, 28, 1), sizes)

  def undrawn(name: str, arguments: Options = lambda _: {}, **options: Any) -> Reference:
    """A network of torchvision whose own weights need not be drawn, since kernels are."""
    return seen(name, options=lambda m: dict(init_weights=False, **arguments(m)), kernels=True, **options)

  def vgg_of(number: int, published: str, **options: Any) -> Network:
    reference = undrawn(f'vgg{number}' + '_bn' * bool(options))
    return Network(f'vgg.VGG{number}', image, reference, options=options, published=published)

  def resnet_of(number: int) -> Network:
    return Network(f'resnet.ResNet{number}', image, seen(f'resnet{number}', kernels=True))

  def small_resnet(name: str, published: str = '', **options: Any) -> Network:
    arguments = lambda m: dict(channels=3, classes=10, blocks=m.blocks, width=m.width, shortcut=m.shortcut)
    reference = Reference('torch', 'small_resnet', (2, 32, 32, 3), arguments, kernels=True)
    return Network(f'resnet.{name}', small, reference, 10, options, published=published)

  def efficientnet_of(name: str, side: int, published: str, **options: Any) -> Network:
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

  def unet_of(side: int, shape: tuple[int, int, int, int], **options: Any) -> Network:
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

  one_channel = lambda m: dict(channels=1, classes=m.num_classes, features=m.features, sizes=m.sizes)

  def forecast(name: str, theirs: str, options: Options = lambda _: {}) -> Network:
    arguments = lambda m: dict(length=336, horizon=m.horizon, **options(m))
    return Network(name, (336, 7), Reference('torch', theirs, (2, 336, 7), arguments), 96, outputs='horizon')

  return [
    Family(
      'Perceptrons', 1958, ('rosenblatt1958perceptron', 'rumelhart1986learning'),
      (
        Network(
          'perceptron.Perceptron', (28, 28, 1), perceptron_of(lambda _: dict(sizes=(784, 10))), 10,
        ),
        Network(
          'mlp.MLP', (28, 28, 1),
          perceptron_of(lambda m: dict(sizes=(784, *m.hidden, 10), batch_norm=m.batch_norm)),
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
        vgg_of(number, published, **options)
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
        *(resnet_of(number) for number in (18, 34, 50, 101, 152)),
        small_resnet('ResNet20', '0.27 M'),
        small_resnet('ResNet56', '0.85 M'),
        small_resnet('ResNet18', stem='cifar'),
      ),
      'ResNet-20 and 56 have the shortcuts without parameters of the paper (option A).',
    ),
    Family(
      'EfficientNet', 2019, ('tan2019efficientnet', 'tan2021efficientnetv2'),
      (
        efficientnet_of('B0', 224, '5.3 M'),
        efficientnet_of('B1', 240, '7.8 M'),
        efficientnet_of('B2', 260, '9.2 M'),
        efficientnet_of('B3', 300, '12 M'),
        efficientnet_of('B4', 380, '19 M'),
        efficientnet_of('B5', 456, '30 M'),
        efficientnet_of('B6', 528, '43 M'),
        efficientnet_of('B7', 600, '66 M'),
        efficientnet_of('V2_S', 384, '22 M'),
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
        unet_of(572, (1, 188, 188, 1), options=dict(padding='valid')),
        unet_of(572, (1, 64, 64, 1)),
        unet_of(256, (1, 64, 64, 1), experiment='vision/vnc_unet'),
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
    Family(
      'Convolutional networks of time series', 2017, ('wang2017time',),
      (
        Network('conv1d.FCN', (150, 1), Reference('torch', 'fcn_1d', (2, 150, 1), one_channel, True), 2),
        Network('conv1d.ResNet', (150, 1), Reference('torch', 'resnet_1d', (2, 150, 1), one_channel, True), 2),
      ),
    ),
    Family(
      'Linear forecasts', 2022, ('zeng2023are',),
      (forecast('dlinear.DLinear', 'dlinear', lambda m: dict(window=m.window)), forecast('dlinear.NLinear', 'nlinear')),
    ),
    Family(
      'PatchTST', 2022, ('nie2023time', 'kim2022reversible'),
      (
        forecast(
          'patchtst.PatchTST', 'patchtst',
          lambda m: dict(
            patch=m.patch, stride=m.stride, width=m.width, layers=m.layers, heads=m.heads, hidden=m.hidden
          ),
        ),
      ),
    ),
  ]  # fmt: skip


# -- Published numbers of trainable parameters: (a config's `model`, image [h, w, c], number).

_LARGE, _SMALL, _GREY = (224, 224, 3), (32, 32, 3), (28, 28, 1)
_IMAGENET = {
  'alexnet.AlexNet': 61_100_840, 'vgg.VGG11': 132_863_336, 'vgg.VGG13': 133_047_848, 'vgg.VGG16': 138_357_544,
  'vgg.VGG19': 143_667_240, 'googlenet.GoogLeNet': 6_624_904, 'resnet.ResNet18': 11_689_512,
  'resnet.ResNet34': 21_797_672, 'resnet.ResNet50': 25_557_032, 'resnet.ResNet101': 44_549_160,
  'resnet.ResNet152': 60_192_808, 'efficientnet.EfficientNetB0': 5_288_548, 'efficientnet.EfficientNetB1': 7_794_184,
  'efficientnet.EfficientNetB2': 9_109_994, 'efficientnet.EfficientNetB3': 12_233_232,
  'efficientnet.EfficientNetB4': 19_341_616, 'efficientnet.EfficientNetB5': 30_389_784,
  'efficientnet.EfficientNetB6': 43_040_704, 'efficientnet.EfficientNetB7': 66_347_960,
  'efficientnet.EfficientNetV2_S': 21_458_488, 'efficientnet.EfficientNetV2_M': 54_139_356,
  'efficientnet.EfficientNetV2_L': 118_515_272, 'vit.ViT_Ti16': 5_717_416, 'vit.ViT_S16': 22_050_664,
  'vit.ViT_S32': 22_878_952, 'vit.ViT_B16': 86_567_656, 'vit.ViT_B32': 88_224_232, 'vit.ViT_L16': 304_326_632,
  'vit.ViT_L32': 306_535_400, 'mixer.MixerS16': 18_528_264, 'mixer.MixerS32': 19_104_624,
  'mixer.MixerB16': 59_880_472, 'convnext.ConvNeXtT': 28_589_128, 'convnext.ConvNeXtS': 50_223_688,
  'convnext.ConvNeXtB': 88_591_464,
}  # fmt: skip
"""Of 1000 classes and images of 224x224."""
_SEGMENTATION_HEAD = 1024 * 256 * 9 + 2 * 256 + 256 * 21 + 21
_PATCHTST = 16 * 17 + 42 * 16 + 3 * (4 * 272 + 64 + 16 * 128 * 2 + 144) + 42 * 16 * 96 + 96
COUNTS: list[tuple[dict[str, Any], tuple[int, ...], int]] = [
  *((dict(name=name, num_classes=1000), _LARGE, number) for name, number in _IMAGENET.items()),
  (dict(name='alexnet.AlexNet', num_classes=1000, groups=2), _LARGE, 60_965_224),
  (dict(name='vgg.VGG11', num_classes=1000, batch_norm=True), _LARGE, 132_868_840),
  (dict(name='vgg.VGG13', num_classes=1000, batch_norm=True), _LARGE, 133_053_736),
  (dict(name='vgg.VGG16', num_classes=1000, batch_norm=True), _LARGE, 138_365_992),
  (dict(name='vgg.VGG19', num_classes=1000, batch_norm=True), _LARGE, 143_678_248),
  (dict(name='vgg.VGG16', num_classes=10, batch_norm=True, head='linear'), _SMALL, 14_728_266),
  (dict(name='googlenet.GoogLeNet', num_classes=1000, aux=True), _LARGE, 13_004_888),
  (dict(name='inception.InceptionV3', num_classes=1000), (299, 299, 3), 23_834_568),
  (dict(name='inception.InceptionV3', num_classes=1000, aux=True), (299, 299, 3), 27_161_264),
  (dict(name='resnet.ResNet20', num_classes=10), _SMALL, 269_722),
  (dict(name='resnet.ResNet32', num_classes=10), _SMALL, 464_154),
  (dict(name='resnet.ResNet44', num_classes=10), _SMALL, 658_586),
  (dict(name='resnet.ResNet56', num_classes=10), _SMALL, 853_018),
  (dict(name='resnet.ResNet110', num_classes=10), _SMALL, 1_727_962),
  (dict(name='resnet.ResNet20', num_classes=10, shortcut='projection'), _SMALL, 272_474),
  (dict(name='resnet.ResNet18', num_classes=10, stem='cifar'), _SMALL, 11_173_962),
  (dict(name='fcn.FCN_R50', num_classes=21, aux=True), (64, 64, 3), 35_322_218),
  (dict(name='fcn.FCN_R50', num_classes=21), (64, 64, 3), 35_322_218 - _SEGMENTATION_HEAD),
  (dict(name='fcn.FCN_R101', num_classes=21, aux=True), (64, 64, 3), 54_314_346),
  (dict(name='deeplab.DeepLabV3_R50', num_classes=21), (64, 64, 3), 39_638_869),
  (dict(name='deeplab.DeepLabV3_R50', num_classes=21, aux=True), (64, 64, 3), 39_638_869 + _SEGMENTATION_HEAD),
  (dict(name='deeplab.DeepLabV3_R101', num_classes=21), (64, 64, 3), 58_630_997),
  (dict(name='deconv.DeconvNet', num_classes=21), _LARGE, 29_473_429),
  (dict(name='unet.UNet', num_classes=2), (572, 572, 1), 31_030_658),
  (dict(name='unet.UNet', num_classes=2, padding='valid'), (572, 572, 1), 31_030_658),
  (
    dict(name='cnn.CNN', num_classes=10, features=((24,), (48, 48), (96,))), _GREY,
    9 * (24 + 24 * 48 + 48 * 48 + 48 * 96) + 2 * 216 + 970,
  ),
  (dict(name='perceptron.Perceptron', num_classes=10), _GREY, 7_850),
  (dict(name='shallow.Shallow', features=100, num_classes=10), _GREY, 79_510),
  (dict(name='mlp.MLP', hidden=(300, 100), num_outputs=10), _GREY, 266_610),
  (dict(name='mlp.MLP', hidden=(512, 512), num_outputs=10), _GREY, 669_706),
  (dict(name='mlp.MLP', hidden=(800, 800), num_outputs=10), (784,), 1_276_810),
  (dict(name='mlp.MLP', hidden=(), num_outputs=1), (30,), 31),
  (dict(name='lenet.LeNet5', num_classes=10), _GREY, 61_706),
  (dict(name='lenet.LeNet5', num_classes=10), (32, 32, 1), 61_706),
  (dict(name='lenet.LeNet5', num_classes=10, fit='resize'), (8, 8, 1), 61_706),
  (dict(name='conv1d.FCN', num_classes=2), (150, 1), 264_962),
  (dict(name='conv1d.ResNet', num_classes=2), (150, 1), 504_258),
  (dict(name='dlinear.DLinear', horizon=96), (336, 7), 64_704),
  (dict(name='dlinear.DLinear', horizon=96, individual=True), (336, 7), 7 * 64_704),
  (dict(name='dlinear.NLinear', horizon=96), (336, 7), 32_352),
  (dict(name='patchtst.PatchTST', horizon=96), (336, 7), _PATCHTST),
  (dict(name='rnn.RecurrentForecaster', horizon=96, width=64), (336, 7), 4 * 64 * (7 + 64 + 1) + 65 * 7 * 96),
]  # fmt: skip


# -- A small one of each kind.


@dataclasses.dataclass(frozen=True)
class Tiny:
  """A network for five classes whose properties are tested.

  Attributes:
    model: the network; nothing in it is random.
    image: [h, w, c], or [steps, channels].
    random: arguments, each of which alone makes its training random.
    images_alone: whether it refuses what is no image.
  """

  model: nn.Module
  image: tuple[int, ...]
  random: tuple[Mapping[str, Any], ...] = ()
  images_alone: bool = True


_DROPOUT, _DEPTH = {'dropout': 0.5}, {'stochastic_depth': 0.5}
_STAGES = (('fused', 1, 3, 1, 8, 1), ('fused', 4, 3, 2, 8, 2), ('mb', 4, 5, 2, 16, 2))
TINY = {
  'Perceptron': Tiny(perceptron.Perceptron(5), (8, 8, 1), images_alone=False),
  'Shallow': Tiny(shallow.Shallow(8, 5), (8, 8, 1), images_alone=False),
  'MLP': Tiny(mlp.MLP((8,), 5, batch_norm=True), (8, 8, 1), (_DROPOUT,), images_alone=False),
  'LeNet5': Tiny(lenet.LeNet5(5), (28, 28, 1)),
  'CNN': Tiny(cnn.CNN(((4,), (8, 6)), 5), (8, 8, 1), (_DROPOUT,)),
  'AlexNet': Tiny(alexnet.AlexNet(5, hidden=16, dropout=0.0), (64, 64, 3), (_DROPOUT,)),
  'AlexNet of two towers': Tiny(alexnet.AlexNet(5, hidden=16, groups=2, dropout=0.0), (64, 64, 3), (_DROPOUT,)),
  'VGG': Tiny(
    vgg.VGG(5, convolutions=(1, 2), features=(8, 16), hidden=24, batch_norm=True, dropout=0.0), (16, 16, 3), (_DROPOUT,)
  ),
  'GoogLeNet': Tiny(googlenet.GoogLeNet(5, dropout=0.0), (32, 32, 1), (_DROPOUT,)),
  'InceptionV3': Tiny(inception.InceptionV3(5, dropout=0.0), (75, 75, 3)),
  'ResNet': Tiny(resnet.ResNet(5, blocks=(1, 2), width=8), (32, 32, 3), (_DEPTH,)),
  'EfficientNet': Tiny(
    efficientnet.EfficientNet(5, stages=_STAGES, stem=8, head=32, dropout=0.0, stochastic_depth=0.0), (32, 32, 1),
    (_DROPOUT, _DEPTH),
  ),
  'ViT': Tiny(vit.ViT(5, patch=8, width=32, depth=2, heads=4), (32, 32, 3), (_DROPOUT, _DEPTH)),
  'MLPMixer': Tiny(mixer.MLPMixer(5, patch=8, width=16, depth=2), (32, 32, 3), (_DROPOUT, _DEPTH)),
  'ConvNeXt': Tiny(
    convnext.ConvNeXt(5, depths=(1, 2, 1, 1), widths=(8, 16, 24, 32), stochastic_depth=0.0), (32, 32, 3), (_DEPTH,)
  ),
  'UNet': Tiny(unet.UNet(5, (4, 8), batch_norm=True), (16, 16, 1), (_DROPOUT,)),
  'DeconvNet': Tiny(deconv.DeconvNet(5, (4, 8), (1, 1)), (16, 16, 1)),
  'FCN': Tiny(fcn.FCN_R50(5), (32, 32, 1)),
  'DeepLabV3': Tiny(deeplab.DeepLabV3_R50(5), (32, 32, 1)),
  'FCN of series': Tiny(conv1d.FCN(5, (4, 6, 4), padded=True), (12, 2), images_alone=False),
  'ResNet of series': Tiny(conv1d.ResNet(5, (4, 6, 6), (4, 3)), (12, 2), images_alone=False),
  'DLinear': Tiny(dlinear.DLinear(3, window=4), (12, 5), images_alone=False),
  'NLinear': Tiny(dlinear.NLinear(3, individual=True), (12, 5), images_alone=False),
  'PatchTST': Tiny(
    patchtst.PatchTST(3, patch=4, stride=2, width=8, layers=2, hidden=8, affine=True, dropout=0.0), (12, 5),
    (_DROPOUT, {'head_dropout': 0.5}), images_alone=False,
  ),
  'RecurrentForecaster': Tiny(rnn.RecurrentForecaster(3, width=8), (12, 5), (_DROPOUT,), images_alone=False),
}  # fmt: skip
