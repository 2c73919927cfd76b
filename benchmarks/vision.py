"""Training images per second: python -m benchmarks.vision

Side by side in one process, in turns of few steps, so that a noisy machine disturbs all alike:
  * the training step of dl, an ordinary Flax script's (`benchmarks/plain_vision.py`), and PyTorch's (in its own memory
    format and in channels_last): the same network, batch, SGD with momentum, in float32;
  * with --augment, augmentation in the compiled step, beside the same transforms of torchvision on the host;
  * with --operations, the parts of networks one by one, forward and backward: where XLA on a CPU gains and loses;
and, for an accelerator:
  * with --peak=990e12 (FLOP/s of its data sheet) and --precision=bfloat16, dl's step alone with the share of the peak
    that it reaches: --models=resnet50,vit_b16 --batch=256.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags

from benchmarks import plain_vision
from benchmarks.turns import against, references, repeated, take_turns
from dl import config as configs
from dl.contract.info import Info, to_float
from dl.data import augment as augments
from dl.nn import pooling
from dl.nn.attention import attend
from dl.parallel import meshes
from dl.training import flops
from dl.training.prepare import prepare

MODELS = flags.DEFINE_list('models', ['lenet', 'resnet18', 'vit_ti16'], 'Networks to measure.')
BATCH = flags.DEFINE_integer('batch', None, 'Images of a step; that of each network below if not given.')
STEPS = flags.DEFINE_integer('steps', None, 'Steps of a turn; that of each network below if not given.')
TURNS = flags.DEFINE_integer('turns', 7, 'Measured turns of each side.')
PRECISION = flags.DEFINE_enum('precision', 'float32', ['float32', 'bfloat16'], 'What dl computes in.')
PEAK = flags.DEFINE_float('peak', None, 'FLOP/s of the device; dl is then measured alone.')
AUGMENT = flags.DEFINE_boolean('augment', False, 'Measure augmentation on the device and on the host.')
OPERATIONS = flags.DEFINE_boolean('operations', False, 'Measure single operations.')

CASES = {
  'lenet': dict(model=dict(name='lenet.LeNet5'), size=28, channels=1, batch=64, steps=50),
  'resnet18': dict(model=dict(name='resnet.ResNet18', stem='cifar'), size=32, channels=3, batch=32, steps=2),
  'vit_ti16': dict(model=dict(name='vit.ViT_Ti16'), size=224, channels=3, batch=8, steps=2),
  'resnet50': dict(model=dict(name='resnet.ResNet50'), size=224, channels=3, batch=256, steps=20),
  'vit_b16': dict(model=dict(name='vit.ViT_B16'), size=224, channels=3, batch=256, steps=20),
}
"""Network -> its config, its images, and what a machine of few cores can do of it in a turn."""


def ours(case: dict[str, Any], batch: int) -> tuple[Callable[[], Any], float]:
  """(one training step of dl, as its loop runs it; FLOPs of the step)."""
  run = prepare(
    configs.resolve(
      dict(
        task=dict(name='classify.Classify'),
        model=case['model'] | dict(num_classes=10),
        data=dict(
          name='benchmarks.synthetic.RandomImages',
          count=batch,
          size=case['size'],
          channels=case['channels'],
          batch_size=batch,
        ),
        optim=dict(sgd=dict(name='sgd', learning_rate=1e-3, momentum=0.9)),
        train_for=100,
        precision=PRECISION.value,
      )
    )
  )
  parts, functions = run.parts, run.functions
  data = meshes.place(parts.pipeline[0], meshes.batch_sharding(run.mesh))
  carry = [functions.init({}), functions.new_sums()]
  cost = flops.count(
    lambda s, b: parts.task.step(s, to_float(b, parts.task.info), jax.random.key(0), parts.optimizer.chains),
    carry[0],
    data,
  )

  def step():
    *carry[:], done = functions.train(*carry, data)
    return done

  return step, sum(cost.values())


def images(case: dict[str, Any], batch: int) -> dict[str, np.ndarray]:
  """A batch of random images and labels."""
  from benchmarks.synthetic import RandomImages

  return RandomImages('train', batch, case['size'], case['channels']).columns


def flax_script(name: str, batch: dict[str, np.ndarray]) -> Callable[[], Any]:
  """One training step of an ordinary script."""
  model = {'lenet': plain_vision.LeNet5, 'resnet18': plain_vision.ResNet18, 'vit_ti16': plain_vision.ViTTi16}[name]()
  data = jax.device_put((batch['image'], batch['label']))
  step, *state = plain_vision.make_step(model, optax.sgd(1e-3, momentum=0.9), batch)

  def one():
    state[0], loss = step(state[0], *data)
    return loss

  return one


def torch_network(name: str) -> Any:
  """The same network of torchvision or timm, or, for LeNet-5, by hand."""
  import torch
  from torch import nn

  if name == 'vit_ti16':
    return references().timm().create_model('vit_tiny_patch16_224', num_classes=10)
  if name == 'resnet18':
    network = references().torchvision().models.resnet18(num_classes=10)
    network.conv1, network.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
    return network
  pool = lambda: nn.AvgPool2d(2)
  return torch.nn.Sequential(
    *(nn.ZeroPad2d(2), nn.Conv2d(1, 6, 5), nn.Tanh(), pool(), nn.Conv2d(6, 16, 5), nn.Tanh(), pool(), nn.Flatten()),
    *(nn.Linear(400, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10)),
  )


def torch_script(name: str, batch: dict[str, np.ndarray], channels_last: bool) -> Callable[[], None]:
  """One training step of an ordinary PyTorch script."""
  import torch

  layout = torch.channels_last if channels_last else torch.contiguous_format
  network = torch_network(name).train().to(memory_format=layout)
  optim = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)
  image = torch.from_numpy(batch['image']).permute(0, 3, 1, 2).contiguous(memory_format=layout)
  label = torch.from_numpy(batch['label']).long()

  def step():
    optim.zero_grad()
    torch.nn.functional.cross_entropy(network(image / 255.0), label).backward()
    optim.step()

  return step


def networks() -> None:
  """Training steps."""
  for name in MODELS.value:
    case = CASES[name]
    batch, count = BATCH.value or case['batch'], STEPS.value or case['steps']
    step, cost = ours(case, batch)
    sides = {'dl': repeated(step, count)}
    if PEAK.value is None:
      data = images(case, batch)
      sides['flax script'] = repeated(flax_script(name, data), count)
      sides['torch'] = repeated(torch_script(name, data, False), count)
      sides['torch channels_last'] = repeated(torch_script(name, data, True), count)
    print(f'{name}: {case["size"]}x{case["size"]}x{case["channels"]}, batch {batch}, {PRECISION.value}')
    for side, seconds, ratio in against(take_turns(sides, TURNS.value), 'dl'):
      rate = batch * count / seconds
      share = f'   {cost * count / seconds / PEAK.value:.1%} of the peak' if PEAK.value else ''
      print(
        f'  {side:20} {rate:10.1f} images/s   {cost * count / seconds / 1e9:8.1f} GFLOP/s   dl is {ratio:.2f}x{share}'
      )


def augmentation() -> None:
  """Augmented images per second."""
  reference = references()
  reference.torchvision()
  import torch
  from PIL import Image
  from torchvision.transforms import v2

  batch = 128
  data = images(dict(size=32, channels=3), batch)
  crop, flip = dict(name='random_crop', pad=4), dict(name='random_flip')
  erase = dict(name='random_erasing', probability=0.25)
  recipes = {
    'crop, flip': ([crop, flip], [v2.RandomCrop(32, 4), v2.RandomHorizontalFlip()], []),
    'crop, flip, jitter': (
      [crop, flip, dict(name='color_jitter', brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)],
      [v2.RandomCrop(32, 4), v2.RandomHorizontalFlip(), v2.ColorJitter(0.4, 0.4, 0.4, 0.1)],
      [],
    ),
    'crop, flip, RandAugment, erasing': (
      [crop, flip, dict(name='rand_augment'), erase],
      [v2.RandomCrop(32, 4), v2.RandomHorizontalFlip(), v2.RandAugment()],
      [v2.RandomErasing(0.25)],
    ),
  }
  to_tensor = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
  pictures = [Image.fromarray(x) for x in data['image']]
  tensors = [torch.from_numpy(x).permute(2, 0, 1).contiguous() for x in data['image']]
  device = jax.device_put(dict(data))
  for title, (specs, transforms, after) in recipes.items():
    augment = augments.make(specs, where='config.data.augment')
    compiled = jax.jit(lambda key, batch, augment=augment: augment(key, to_float(batch, Info())))
    host = v2.Compose([*transforms, *to_tensor, *after])
    sides = {
      'in the compiled step': repeated(lambda c=compiled: c(jax.random.key(0), device), 10),
      'torchvision, PIL images': lambda h=host: [h(x) for x in pictures],
      'torchvision, tensors': lambda h=host: [h(x) for x in tensors],
    }
    seconds = take_turns(sides, TURNS.value)
    seconds['in the compiled step'] = [s / 10 for s in seconds['in the compiled step']]
    print(f'{title}: 32x32x3, batch {batch}')
    for side, median, ratio in against(seconds, 'in the compiled step'):
      print(f'  {side:25} {batch / median:10.0f} images/s   dl is {ratio:.1f}x')


def operations() -> None:
  """Forward and backward of single operations, with PyTorch's in its faster memory format."""
  import torch
  from torch.nn import functional as F

  normal = lambda *shape: np.random.default_rng(0).normal(size=shape).astype(np.float32)
  conv = lambda groups, stride=1: (
    lambda x, w: jax.lax.conv_general_dilated(
      x, w, (stride, stride), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'), feature_group_count=groups
    ),
    lambda x, w: F.conv2d(x, w, stride=stride, padding=w.shape[-1] // 2, groups=groups),
  )
  windows = lambda x, w: jax.lax.reduce_window(x * w, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), 'VALID')
  torch_pool = lambda x, w: F.max_pool2d(x * w.view(1, -1, 1, 1), 2)

  def norm(x, w):
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
    return w * (x - mean) * jax.lax.rsqrt(var + 1e-5)

  cases = {
    'matmul 1024': (lambda x, w: x @ w, lambda x, w: x @ w, (1024, 1024), (1024, 1024)),
    'conv 3x3, 64 to 64, 32x32, batch 16': (*conv(1), (16, 32, 32, 64), (3, 3, 64, 64)),
    'conv 3x3, 512 to 512, 4x4, batch 16': (*conv(1), (16, 4, 4, 512), (3, 3, 512, 512)),
    'conv 3x3, 16 to 16, 32x32, batch 64': (*conv(1), (64, 32, 32, 16), (3, 3, 16, 16)),
    'conv 1x1, 256 to 64, 16x16, batch 16': (*conv(1), (16, 16, 16, 256), (1, 1, 256, 64)),
    'depthwise 3x3, 64, 32x32, batch 16': (*conv(64), (16, 32, 32, 64), (3, 3, 1, 64)),
    'batch norm, 64, 32x32, batch 64': (
      norm,
      lambda x, w: F.batch_norm(x, None, None, w, torch.zeros_like(w), True),
      (64, 32, 32, 64),
      (64,),
    ),
    'max pool 2x2 by windows, 64, 32x32, batch 64': (windows, torch_pool, (64, 32, 32, 64), (64,)),
    'max pool 2x2 by slices, the same': (
      lambda x, w: pooling.max_pool(x * w, 2, 2),
      torch_pool,
      (64, 32, 32, 64),
      (64,),
    ),
    'attention, 8 x 3 heads of 64, 197 long': (
      lambda x, w: attend(x * w, x, x, None),
      lambda x, w: F.scaled_dot_product_attention(x * w, x, x),
      (8, 197, 3, 64),
      (64,),
    ),
    'gelu, 8 x 197 x 768': (
      lambda x, w: jax.nn.gelu(x * w, approximate=False),
      lambda x, w: F.gelu(x * w),
      (8, 197, 768),
      (768,),
    ),
    'layer norm, 8 x 197 x 768': (
      lambda x, w: w * jax.nn.standardize(x, epsilon=1e-5),
      lambda x, w: F.layer_norm(x, (768,), w),
      (8, 197, 768),
      (768,),
    ),
  }
  for title, (f, g, shape, weight) in cases.items():
    x, w = normal(*shape), normal(*weight)
    forward_backward = jax.jit(jax.grad(lambda x, w, f=f: (f(x, w) ** 2).sum(), (0, 1)))
    image = len(shape) == 4 and 'attention' not in title
    move = (0, 3, 1, 2) if image else (0, 2, 1, 3) if len(shape) == 4 else tuple(range(len(shape)))
    kernel = w.transpose(3, 2, 0, 1) if w.ndim == 4 else w
    args = jax.device_put((x, w))
    sides = {'XLA': repeated(lambda h=forward_backward, a=args: h(*a), 5)}
    for layout in ('contiguous_format', 'channels_last') if image else ('contiguous_format',):
      tensor = torch.from_numpy(x.transpose(move).copy()).contiguous(memory_format=getattr(torch, layout))
      leaves = [tensor.requires_grad_(), torch.from_numpy(kernel.copy()).requires_grad_()]
      sides[layout] = repeated(lambda leaves=leaves, g=g: torch.autograd.grad((g(*leaves) ** 2).sum(), leaves), 5)
    found = list(against(take_turns(sides, TURNS.value), 'XLA'))
    torch_seconds, ratio = min(f[1:] for f in found[1:])
    print(
      f'  {title:46} XLA {found[0][1] / 5e-3:8.2f} ms   PyTorch {torch_seconds / 5e-3:8.2f} ms   XLA is {ratio:.2f}x'
    )


def main(argv: Sequence[str]) -> None:
  """Measures what the flags name."""
  if len(argv) > 1:
    raise app.UsageError(f'unexpected argument {argv[1]!r}')
  if unknown := set(MODELS.value) - set(CASES):
    raise app.UsageError(f'--models: unknown {", ".join(sorted(unknown))}; there are {", ".join(CASES)}')
  if PEAK.value is None and not set(MODELS.value) <= {'lenet', 'resnet18', 'vit_ti16'}:
    raise app.UsageError('--models: the larger ones are measured alone, so they need --peak')
  if PEAK.value is None and PRECISION.value != 'float32':
    raise app.UsageError('--precision: what dl is compared with computes in float32; --peak measures it alone')
  (augmentation if AUGMENT.value else operations if OPERATIONS.value else networks)()


if __name__ == '__main__':
  app.run(main)
