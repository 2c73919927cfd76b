"""ResNet: equality with torchvision, timm and Hugging Face, and a training step's batch statistics."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch_networks
from reference import abstract, assert_equal, close, converted, random_image, randomize, timm, torchvision

from dl.models import resnet
from dl.models.resnet import ResNet
from dl.training import start

TINY = ResNet(num_classes=5, blocks=(1, 2), width=8)


@pytest.mark.thorough
def test_18_equals_torchvision():
  reference = randomize(torchvision().models.resnet18(num_classes=10), kernels=True)
  assert_equal(resnet.ResNet18(10), reference, random_image(2, 64, 64, 3))


@pytest.mark.parametrize('dilate', [(), pytest.param((True, False, True), marks=pytest.mark.thorough)])
def test_bottlenecks_equal_torchvision(dilate):
  """The blocks which ResNet-50, 101 and 152 have more of repeat the last one of the third stage."""
  networks = torchvision().models.resnet
  options = {'replace_stride_with_dilation': list(dilate)} if dilate else {}
  reference = networks.ResNet(networks.Bottleneck, [1, 1, 2, 1], num_classes=10, **options)
  mine = resnet.ResNet50(10, blocks=(1, 1, 2, 1), dilate=dilate)
  assert_equal(mine, randomize(reference, kernels=True), random_image(2, 65, 48, 3))


def test_every_tensor_of_the_large_ones_has_its_name():
  torch = pytest.importorskip('torch')

  with torch.device('meta'):
    reference = torchvision().models.resnet152()
  tensors = {k: np.empty(v.shape, np.float32) for k, v in reference.state_dict().items()}
  start.convert(tensors, abstract(resnet.ResNet152(1000), (1, 64, 64, 3)), model=resnet.ResNet152(1000))


@pytest.mark.thorough
def test_equals_timm_with_one_channel():
  networks = timm().models.resnet
  reference = randomize(networks.ResNet(networks.BasicBlock, [1, 2, 1, 1], num_classes=10, in_chans=1), kernels=True)
  assert_equal(ResNet(10, blocks=(1, 2, 1, 1)), reference, random_image(2, 40, 33, 1))


@pytest.mark.thorough
@pytest.mark.parametrize('bottleneck', [False, True])
def test_equals_hugging_face(bottleneck, tmp_path):
  torchvision()
  transformers = pytest.importorskip('transformers')
  config = transformers.ResNetConfig(
    embedding_size=8,
    hidden_sizes=[n * (4 if bottleneck else 1) for n in (8, 16, 32)],
    depths=[1, 2, 1],
    layer_type='bottleneck' if bottleneck else 'basic',
    num_labels=5,
  )
  reference = randomize(transformers.ResNetForImageClassification(config), kernels=True)
  mine, image = TINY.copy(blocks=(1, 2, 1), bottleneck=bottleneck), random_image(2, 40, 40, 3)
  variables = assert_equal(mine, reference, image, layout='huggingface')
  reference.save_pretrained(tmp_path)
  tensors = start.read(tmp_path / 'model.safetensors')
  read = start.convert(tensors, abstract(mine, image.shape), model=mine, layout='huggingface')
  jax.tree.map(np.testing.assert_array_equal, variables, read)


@pytest.mark.parametrize('shortcut', ['pad', 'projection'])
@pytest.mark.parametrize('shape', [(2, 16, 16, 3), (2, 13, 18, 1)])
def test_small_images_equal_torch(shortcut, shape):
  model = TINY.copy(blocks=(1, 2, 1), stem='cifar', shortcut=shortcut)
  reference = torch_networks.small_resnet(shape[-1], 5, (1, 2, 1), 8, shortcut)
  assert_equal(model, randomize(reference, kernels=True), random_image(*shape))


def test_features_are_those_of_the_stages():
  networks = torchvision().models
  reference = networks.resnet.ResNet(
    networks.resnet.Bottleneck, [1, 1, 1, 2], replace_stride_with_dilation=[False, True, True]
  )
  backbone = networks._utils.IntermediateLayerGetter(reference, {f'layer{i}': i for i in range(1, 5)})
  model = resnet.ResNet50(0, blocks=(1, 1, 1, 2), dilate=(False, True, True), features_only=True)
  image = random_image(1, 48, 56, 3)
  variables = converted(model, randomize(backbone, kernels=True), image.shape)
  torch = pytest.importorskip('torch')

  theirs = backbone(torch.tensor(image.transpose(0, 3, 1, 2)))
  mine = jax.jit(model.apply)(variables, image)
  assert [m.shape[1:] for m in mine] == [(12, 14, 256), (6, 7, 512), (6, 7, 1024), (6, 7, 2048)]
  for i, maps in enumerate(mine, 1):
    close(np.asarray(maps).transpose(0, 3, 1, 2), theirs[i].detach().numpy(), 1e-4)


def test_batch_statistics_of_a_training_step_equal_torchvision():
  torch = pytest.importorskip('torch')

  model, image = resnet.ResNet18(10), random_image(4, 64, 64, 3)
  reference = randomize(torchvision().models.resnet18(num_classes=10), kernels=True)
  before = converted(model, reference, image.shape)
  values = {}  # a channel, by layer
  for name, module in reference.named_modules():
    if isinstance(module, torch.nn.BatchNorm2d):
      module.register_forward_hook(lambda m, x, _, name=name: values.update({name: x[0].numel() // x[0].shape[1]}))
  theirs = reference.train()(torch.tensor(image.transpose(0, 3, 1, 2))).detach().numpy()
  mine, changed = jax.jit(functools.partial(model.apply, train=True, mutable=['batch_stats']))(before, image)
  close(np.asarray(mine), theirs, 1e-4)
  after = converted(model, reference, image.shape)['batch_stats']
  layers = jax.tree_util.tree_leaves_with_path(after)
  assert len(layers) == 40
  for path, their_value in layers:
    keys = [k.key for k in path]
    my_value, old = (
      functools.reduce(lambda t, k: t[k], keys, s) for s in (changed['batch_stats'], before['batch_stats'])
    )
    name = '.'.join(keys[:-1]).replace('_', '.')
    if keys[-1] == 'var':  # PyTorch's is unbiased: n / (n - 1) times the batch's
      their_value = 0.9 * old + (their_value - 0.9 * old) * (values[name] - 1) / values[name]
    assert not np.allclose(my_value, old)
    close(np.asarray(my_value), their_value, 1e-4)


def test_zero_initialization_makes_blocks_the_identity():
  model, x = TINY.copy(blocks=(2,), stem='cifar', zero_init_residual=True), random_image(2, 8, 8, 1)
  variables = jax.jit(model.init)(jax.random.key(0), x)
  assert not variables['params']['layer1_0']['bn2']['scale'].any()
  assert variables['params']['layer1_0']['bn1']['scale'].all()
  shallow = {k: {n: v for n, v in c.items() if n != 'layer1_1'} for k, c in variables.items()}
  np.testing.assert_array_equal(model.apply(variables, x), model.copy(blocks=(1,)).apply(shallow, x))


def test_kernels_start_with_the_variance_of_the_reference():
  params = jax.jit(TINY.init)(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))['params']
  assert params['layer2_0']['conv1']['kernel'].std() == pytest.approx((2 / (9 * 16)) ** 0.5, rel=0.1)


@pytest.mark.parametrize(
  'options, shape, line',
  [
    ({'stem': 'mnist'}, (1, 32, 32, 3), "^stem: 'imagenet' or 'cifar', not 'mnist'"),
    ({'shortcut': 'none'}, (1, 32, 32, 3), '^shortcut: .*none'),
    ({'shortcut': 'pad', 'bottleneck': True}, (1, 32, 32, 3), '^shortcut: .*without bottleneck'),
    ({'dilate': (True, False), 'bottleneck': True}, (1, 32, 32, 3), '^dilate: 2 values; there are 1'),
    ({'dilate': (True,)}, (1, 32, 32, 3), '^dilate: only bottleneck blocks'),
  ],
)
def test_mistakes_are_one_line(options, shape, line):
  with pytest.raises(ValueError, match=line):
    abstract(TINY.copy(**options), shape)
