"""Networks written in PyTorch, where torchvision, timm and transformers have none to compare with.

Parts are named as in `dl.models`. Weights are PyTorch's own: see `reference.randomize`.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
from reference import torchvision


def mlp(sizes: Sequence[int], batch_norm: bool = False) -> Any:
  """Fully connected layers from sizes[0] inputs to sizes[-1] outputs, with rectifiers between them."""
  torch = pytest.importorskip('torch')
  net = torch.nn.Sequential(torch.nn.Flatten())
  for i, (a, b) in enumerate(itertools.pairwise(sizes[:-1])):
    net.add_module(f'dense_{i}', torch.nn.Linear(a, b, bias=not batch_norm))
    if batch_norm:
      net.add_module(f'norm_{i}', torch.nn.BatchNorm1d(b))
    net.add_module(f'relu_{i}', torch.nn.ReLU())
  net.add_module('out', torch.nn.Linear(*sizes[-2:]))
  return net


def lenet(pixels: int, activation: str = 'tanh', pooling: str = 'average') -> Any:
  """LeNet-5 with a dense C3, for ten classes; `activation` is 'tanh' or 'relu', `pooling` 'average' or 'max'."""
  torch = pytest.importorskip('torch')
  act = {'tanh': torch.nn.Tanh, 'relu': torch.nn.ReLU}[activation]
  pool = {'average': torch.nn.AvgPool2d, 'max': torch.nn.MaxPool2d}[pooling]

  class ChannelsLast(torch.nn.Module):
    def forward(self, x):
      return x.permute(0, 2, 3, 1).flatten(1)

  layers = {
    'conv_0': torch.nn.Conv2d(1, 6, 5, padding=(32 - pixels) // 2), 'act_0': act(), 'pool_0': pool(2),
    'conv_1': torch.nn.Conv2d(6, 16, 5), 'act_1': act(), 'pool_1': pool(2), 'flatten': ChannelsLast(),
    'dense_0': torch.nn.Linear(400, 120), 'act_2': act(), 'dense_1': torch.nn.Linear(120, 84), 'act_3': act(),
    'out': torch.nn.Linear(84, 10),
  }  # fmt: skip
  return _sequence(layers)


def cnn(channels: int, classes: int, features: Sequence[Sequence[int]], batch_norm: bool = True) -> Any:
  """Stages of 3x3 convolutions with pooling between them, and a mean over the image."""
  torch = pytest.importorskip('torch')

  class Net(torch.nn.Module):
    def __init__(self):
      super().__init__()
      width = channels
      for i, stage in enumerate(features):
        for j, n in enumerate(stage):
          self.add_module(f'conv_{i}_{j}', torch.nn.Conv2d(width, n, 3, padding=1, bias=not batch_norm))
          if batch_norm:
            self.add_module(f'norm_{i}_{j}', torch.nn.BatchNorm2d(n))
          width = n
      self.out = torch.nn.Linear(width, classes)

    def forward(self, x):
      for i, stage in enumerate(features):
        x = torch.nn.functional.max_pool2d(x, 2) if i else x
        for j in range(len(stage)):
          x = getattr(self, f'conv_{i}_{j}')(x)
          x = torch.relu(getattr(self, f'norm_{i}_{j}')(x) if batch_norm else x)
      return self.out(x.mean((2, 3)))

  return Net()


def alexnet_2012(channels: int, classes: int, hidden: int = 4096) -> Any:
  """AlexNet of two towers, with local response normalization."""
  torch = pytest.importorskip('torch')
  conv, norm = torch.nn.Conv2d, lambda: torch.nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)
  relu, pool = torch.nn.ReLU, lambda: torch.nn.MaxPool2d(3, 2)
  features = {
    '0': conv(channels, 96, 11, 4, 2), '1': relu(), 'norm1': norm(), '2': pool(),
    '3': conv(96, 256, 5, 1, 2, groups=2), '4': relu(), 'norm2': norm(), '5': pool(),
    '6': conv(256, 384, 3, 1, 1), '7': relu(),
    '8': conv(384, 384, 3, 1, 1, groups=2), '9': relu(),
    '10': conv(384, 256, 3, 1, 1, groups=2), '11': relu(), '12': pool(),
  }  # fmt: skip
  net = alexnet_narrow(classes, hidden)
  net.features = _sequence(features)
  return net


def alexnet_narrow(classes: int, hidden: int) -> Any:
  """torchvision's AlexNet with fully connected layers of another size: 54 of its 61 million parameters are there."""
  torch = pytest.importorskip('torch')
  net = torchvision().models.alexnet()
  for i, (a, b) in {1: (9216, hidden), 4: (hidden, hidden), 6: (hidden, classes)}.items():
    net.classifier[i] = torch.nn.Linear(a, b)
  return net


def small_resnet(
  channels: int, classes: int, blocks: Sequence[int], width: int = 16, shortcut: str = 'projection'
) -> Any:
  """A ResNet with a 3x3 stem, of torchvision's blocks; `shortcut` is 'projection' or 'pad' (option A)."""
  torch = pytest.importorskip('torch')

  block = torchvision().models.resnet.BasicBlock

  class OptionA(torch.nn.Module):
    def forward(self, x):
      half = x.shape[1] // 2
      return torch.nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, half, half))

  def down(c):
    if shortcut == 'pad':
      return OptionA()
    return torch.nn.Sequential(torch.nn.Conv2d(c, 2 * c, 1, 2, bias=False), torch.nn.BatchNorm2d(2 * c))

  layers = {
    'conv1': torch.nn.Conv2d(channels, width, 3, padding=1, bias=False),
    'bn1': torch.nn.BatchNorm2d(width),
    'relu': torch.nn.ReLU(),
  }
  for i, repeats in enumerate(blocks):
    c = width * 2**i
    first = block(c // 2, c, 2, down(c // 2)) if i else block(c, c)
    layers[f'layer{i + 1}'] = torch.nn.Sequential(first, *(block(c, c) for _ in range(repeats - 1)))
  last = {'pool': torch.nn.AdaptiveAvgPool2d(1), 'flatten': torch.nn.Flatten(), 'fc': torch.nn.Linear(c, classes)}
  return _sequence(layers | last)


def unet(channels: int, classes: int, features: Sequence[int], padding: str = 'same', batch_norm: bool = False) -> Any:
  """The U-Net of the paper, or padded; then images of any size are padded further by repeating their edges."""
  torch = pytest.importorskip('torch')
  pad = int(padding == 'same')

  class Block(torch.nn.Module):
    def __init__(self, inputs, outputs):
      super().__init__()
      self.conv_0 = torch.nn.Conv2d(inputs, outputs, 3, padding=pad, bias=not batch_norm)
      self.conv_1 = torch.nn.Conv2d(outputs, outputs, 3, padding=pad, bias=not batch_norm)
      self.norm_0 = torch.nn.BatchNorm2d(outputs) if batch_norm else torch.nn.Identity()
      self.norm_1 = torch.nn.BatchNorm2d(outputs) if batch_norm else torch.nn.Identity()

    def forward(self, x):
      return self.norm_1(self.conv_1(self.norm_0(self.conv_0(x)).relu())).relu()

  class Net(torch.nn.Module):
    def __init__(self):
      super().__init__()
      widths = [channels, *features]
      self.encoder = torch.nn.ModuleList([Block(*widths[i : i + 2]) for i in range(len(features))])
      pairs = list(itertools.pairwise(features))
      self.up = torch.nn.ModuleList([torch.nn.ConvTranspose2d(b, a, 2, 2) for a, b in pairs])
      self.decoder = torch.nn.ModuleList([Block(2 * a, a) for a, _ in pairs])
      self.out = torch.nn.Conv2d(features[0], classes, 1)

    def forward(self, x):
      h, w = x.shape[2:]
      step = 2 ** (len(features) - 1)
      down, right = (-h % step, -w % step) if pad else (0, 0)
      top, left = down // 2, right // 2
      x = torch.nn.functional.pad(x, (left, right - left, top, down - top), mode='replicate')
      levels = []
      for i, encode in enumerate(self.encoder):
        x = encode(torch.nn.functional.max_pool2d(x, 2) if i else x)
        levels.append(x)
      for i in reversed(range(len(self.up))):
        x, skip = self.up[i](x), levels[i]
        a, b = ((s - n) // 2 for s, n in zip(skip.shape[2:], x.shape[2:], strict=True))
        x = torch.cat([skip[:, :, a : a + x.shape[2], b : b + x.shape[3]], x], 1)
        x = self.decoder[i](x)
      x = self.out(x)
      return x[:, :, top : top + h, left : left + w] if pad else x

  return Net()


def deconv(
  channels: int,
  classes: int,
  features: Sequence[int],
  convolutions: Sequence[int],
  upsampling: str = 'unpool',
  batch_norm: bool = True,
) -> Any:
  """A stack of convolutions and its mirror image; `upsampling` is 'unpool' or 'transposed'."""
  torch = pytest.importorskip('torch')
  unpool = upsampling == 'unpool'

  class Layer(torch.nn.Module):
    def __init__(self, kind, inputs, outputs, *size):
      super().__init__()
      self.conv = kind(inputs, outputs, *size, padding=1, bias=not batch_norm)
      self.norm = torch.nn.BatchNorm2d(outputs) if batch_norm else torch.nn.Identity()

    def forward(self, x):
      return self.norm(self.conv(x)).relu()

  class Net(torch.nn.Module):
    def __init__(self):
      super().__init__()
      down, up, width = {}, {}, channels
      for i, n in enumerate(convolutions):
        for j in range(n):
          down[f'{i}_{j}'] = Layer(torch.nn.Conv2d, width, features[i], 3, 1)
          width = features[i]
      stages = {}
      for i in reversed(range(len(features))):
        if not unpool:
          stages[str(i)] = Layer(torch.nn.ConvTranspose2d, width, features[i], 4, 2)
          width = features[i]
        for j in range(convolutions[i]):
          outputs = features[i] if j < convolutions[i] - 1 else features[max(i - 1, 0)]
          up[f'{i}_{j}'] = Layer(torch.nn.ConvTranspose2d, width, outputs, 3, 1)
          width = outputs
      self.encoder, self.decoder = torch.nn.ModuleDict(down), torch.nn.ModuleDict(up)
      self.up = torch.nn.ModuleDict(stages)
      self.out = torch.nn.Conv2d(width, classes, 1)

    def forward(self, x):
      switches = []
      for i, n in enumerate(convolutions):
        for j in range(n):
          x = self.encoder[f'{i}_{j}'](x)
        x, where = torch.nn.functional.max_pool2d(x, 2, return_indices=True)
        switches.append(where)
      for i in reversed(range(len(features))):
        x = torch.nn.functional.max_unpool2d(x, switches[i], 2) if unpool else self.up[str(i)](x)
        for j in range(convolutions[i]):
          x = self.decoder[f'{i}_{j}'](x)
      return self.out(x)

  return Net()


def _sequence(layers: dict[str, Any]) -> Any:
  torch = pytest.importorskip('torch')

  net = torch.nn.Sequential()
  for name, layer in layers.items():
    net.add_module(name, layer)
  return net


def dlinear(length: int, horizon: int, window: int = 25, channels: int | None = None) -> Any:
  """DLinear on [b, channels, steps]; with a number of `channels`, each of them has maps of its own."""
  torch = pytest.importorskip('torch')

  class DLinear(torch.nn.Module):
    def __init__(self):
      super().__init__()
      make = lambda: torch.nn.Linear(length, horizon)
      several = lambda: make() if channels is None else torch.nn.ModuleList(make() for _ in range(channels))
      self.Linear_Seasonal, self.Linear_Trend = several(), several()

    def forward(self, x):
      before = (window - 1) // 2
      padded = torch.nn.functional.pad(x, (before, window - 1 - before), mode='replicate')
      trend = torch.nn.functional.avg_pool1d(padded, window, 1)
      return _along(self.Linear_Seasonal, x - trend) + _along(self.Linear_Trend, trend)

  return DLinear()


def nlinear(length: int, horizon: int) -> Any:
  """NLinear on [b, channels, steps]."""
  torch = pytest.importorskip('torch')

  class NLinear(torch.nn.Module):
    def __init__(self):
      super().__init__()
      self.Linear = torch.nn.Linear(length, horizon)

    def forward(self, x):
      last = x[:, :, -1:]
      return self.Linear(x - last) + last

  return NLinear()


def _along(layer: Any, x: Any) -> Any:
  """A layer on the last axis, or one for each channel."""
  torch = pytest.importorskip('torch')
  if not isinstance(layer, torch.nn.ModuleList):
    return layer(x)
  return torch.stack([one(x[:, i]) for i, one in enumerate(layer)], 1)


def patchtst(
  length: int, horizon: int, patch: int, stride: int, width: int, layers: int, heads: int, hidden: int
) -> Any:
  """PatchTST on [b, channels, steps], with the last value repeated for one more patch."""
  torch = pytest.importorskip('torch')
  patches = (length - patch) // stride + 2

  class Block(torch.nn.Module):
    def __init__(self):
      super().__init__()
      self.attention = torch.nn.ModuleDict({k: torch.nn.Linear(width, width) for k in ('q', 'k', 'v', 'out')})
      self.norm_0, self.norm_1 = torch.nn.BatchNorm1d(width), torch.nn.BatchNorm1d(width)
      self.up, self.down = torch.nn.Linear(width, hidden), torch.nn.Linear(hidden, width)

    def forward(self, x):
      split = lambda k: self.attention[k](x).unflatten(-1, (heads, -1)).transpose(1, 2)
      y = torch.nn.functional.scaled_dot_product_attention(split('q'), split('k'), split('v'))
      y = self.attention['out'](y.transpose(1, 2).flatten(2))
      x = self.norm_0((x + y).transpose(1, 2)).transpose(1, 2)
      y = self.down(torch.nn.functional.gelu(self.up(x)))
      return self.norm_1((x + y).transpose(1, 2)).transpose(1, 2)

  class PatchTST(torch.nn.Module):
    def __init__(self):
      super().__init__()
      self.embed = torch.nn.Linear(patch, width)
      self.position = torch.nn.Parameter(torch.randn(patches, width))
      for i in range(layers):
        self.add_module(f'block_{i}', Block())
      self.head = torch.nn.Linear(patches * width, horizon)

    def forward(self, x):
      mean, std = x.mean(-1, keepdim=True), torch.sqrt(x.var(-1, unbiased=False, keepdim=True) + 1e-5)
      y = torch.nn.functional.pad((x - mean) / std, (0, stride), mode='replicate').unfold(-1, patch, stride)
      y = self.embed(y.flatten(0, 1)) + self.position
      for i in range(layers):
        y = getattr(self, f'block_{i}')(y)
      return self.head(y.flatten(1)).unflatten(0, x.shape[:2]) * std + mean

  return PatchTST()


def fcn_1d(channels: int, classes: int, features: Sequence[int], sizes: Sequence[int]) -> Any:
  """The fully convolutional network of time series, on [b, channels, steps]."""
  torch = pytest.importorskip('torch')
  layers, width = {}, channels
  for i, (n, size) in enumerate(zip(features, sizes, strict=True)):
    layers |= {f'block_{i}': _conv_norm_1d(width, n, size), f'relu_{i}': torch.nn.ReLU()}
    width = n
  return _sequence(layers | _head_1d(width, classes))


def resnet_1d(channels: int, classes: int, features: Sequence[int], sizes: Sequence[int]) -> Any:
  """The residual network of time series, on [b, channels, steps]."""
  torch = pytest.importorskip('torch')

  class Net(torch.nn.Module):
    def __init__(self):
      super().__init__()
      width = channels
      for i, n in enumerate(features):
        for j, size in enumerate(sizes):
          self.add_module(f'block_{i}_{j}', _conv_norm_1d(n if j else width, n, size))
        alike = width == n
        name, shortcut = (
          ('shortcut_norm', torch.nn.BatchNorm1d(n)) if alike else ('shortcut', _conv_norm_1d(width, n, 1))
        )
        self.add_module(f'{name}_{i}', shortcut)
        width = n
      self.out = torch.nn.Linear(width, classes)

    def forward(self, x):
      for i in range(len(features)):
        y = x
        for j in range(len(sizes)):
          y = getattr(self, f'block_{i}_{j}')(torch.relu(y) if j else y)
        shortcut = getattr(self, f'shortcut_{i}', None) or getattr(self, f'shortcut_norm_{i}')
        x = torch.relu(shortcut(x) + y)
      return self.out(x.mean(-1))

  return Net()


def _conv_norm_1d(channels: int, features: int, size: int) -> Any:
  torch = pytest.importorskip('torch')
  conv = torch.nn.Conv1d(channels, features, size, padding='same')
  return _sequence({'conv': conv, 'norm': torch.nn.BatchNorm1d(features)})


def _head_1d(width: int, classes: int) -> dict[str, Any]:
  torch = pytest.importorskip('torch')
  return {
    'mean': torch.nn.AdaptiveAvgPool1d(1), 'flatten': torch.nn.Flatten(), 'out': torch.nn.Linear(width, classes)
  }  # fmt: skip
