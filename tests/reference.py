"""Reference implementations, and the comparison of a network here with one of them on the same random weights."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dl.training import start


@functools.cache
def torchvision() -> Any:
  """The library; its CPU build lacks two operators that it registers shapes for, so they are declared first."""
  torch = pytest.importorskip('torch')
  for name in ('nms', 'qnms'):
    torch.library.define(f'torchvision::{name}', '(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')
  return pytest.importorskip('torchvision')


@functools.cache
def timm() -> Any:
  """The library, which imports torchvision."""
  torchvision()
  return pytest.importorskip('timm')


@functools.cache
def transformers() -> Any:
  """The library, which imports torchvision where that is installed."""
  torchvision()
  return pytest.importorskip('transformers')


def count(model: nn.Module, shape: tuple[int, ...], **options: Any) -> int:
  """Trainable parameters of a network for inputs of a shape [1, h, w, c], without computing anything."""
  return sum(x.size for x in jax.tree.leaves(abstract(model, shape, **options)['params']))


def abstract(model: nn.Module, shape: tuple[int, ...], **options: Any) -> Any:
  """The shapes of a network's variables."""
  inputs = jax.ShapeDtypeStruct(shape, jnp.float32)
  return jax.eval_shape(lambda x: model.init(jax.random.key(0), x, **{'train': False} | options), inputs)


def randomize(reference: Any, seed: int = 0, kernels: bool = False) -> Any:
  """The reference in eval mode; its batch statistics, scales and biases are random too, so that each one counts.

  Args:
    reference: the PyTorch network.
    seed: of the random numbers.
    kernels: whether to draw the kernels too, such that maps neither shrink nor grow from layer to layer. Where they
      shrink, some of the values which a pooling or a rectifier compares differ by rounding alone, and so do gradients.
  """
  torch = pytest.importorskip('torch')

  generator = torch.Generator().manual_seed(seed)
  normal = lambda x, mean, std: x.copy_(mean + std * torch.randn(x.shape, generator=generator))
  with torch.no_grad():
    for module in reference.modules():
      if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
        normal(module.running_mean, 0.0, 0.1)
        module.running_var.copy_(torch.empty_like(module.running_var).uniform_(0.8, 1.2, generator=generator))
    for name, parameter in reference.named_parameters():
      if name.endswith('bias'):
        normal(parameter, 0.0, 0.1)
      elif name.endswith('layer_scale'):
        normal(parameter, 0.5, 0.1)  # as it starts, it would hide its block
      elif parameter.ndim == 1:
        normal(parameter, 1.0, 0.1)
      elif kernels:
        normal(parameter, 0.0, (2 * len(parameter) / parameter.numel()) ** 0.5)
      elif not parameter.any():  # a head which starts at zero
        normal(parameter, 0.0, 0.1)
  return reference.eval()


def converted(model: nn.Module, reference: Any, shape: tuple[int, ...], **options: Any) -> Any:
  """The variables of a network, with the weights of its reference; `options` as of `dl.training.start.convert`."""
  tensors = {k: v.detach().numpy() for k, v in reference.state_dict().items()}
  return start.convert(tensors, abstract(model, shape), model=model, **options)


def assert_equal(model: nn.Module, reference: Any, image: np.ndarray, **options: Any) -> Any:
  """Logits to 1e-4, and gradients of a scalar loss with respect to the input to 1e-3, both of the largest value.

  Gradients which differ by more are compared in float64, then to 1e-5.

  Args:
    model: the network.
    reference: the PyTorch network, from `randomize`.
    image: [b, h, w, c], or series [b, steps, channels], of which it reads and gives [b, channels, steps].
    **options: of `dl.training.start.convert`.

  Returns:
    The variables.
  """
  variables = converted(model, reference, (1, *image.shape[1:]), **options)
  for name, found in differences(model, reference, variables, image).items():
    assert found < TOLERANCES[name] or name == 'gradient', (name, found)
  return variables


TOLERANCES = {'logits': 1e-4, 'gradient': 1e-3, 'gradient in float64': 1e-5}


def differences(model: nn.Module, reference: Any, variables: Any, image: np.ndarray) -> dict[str, float]:
  """Largest differences of a network from its reference, as shares of the reference's largest value.

  'logits'; 'gradient' (of a scalar loss with respect to the image); and, where that is beyond its tolerance,
  'gradient in float64'.
  """
  mine, theirs = _logits_and_gradient(model, reference, variables, image)
  found = {'logits': difference(mine[0], theirs[0]), 'gradient': difference(mine[1], theirs[1])}
  if found['gradient'] < TOLERANCES['gradient']:
    return found
  # Where values which a rectifier or a pooling compares are equal but for rounding, gradients may take other ways.
  with jax.enable_x64(True):
    double = jax.tree.map(lambda x: np.asarray(x, np.float64), variables)
    mine, theirs = _logits_and_gradient(
      model.copy(dtype=jnp.float64), reference.double(), double, image.astype(np.float64)
    )
  reference.float()
  return found | {'gradient in float64': difference(mine[1], theirs[1])}


def _logits_and_gradient(
  model: nn.Module, reference: Any, variables: Any, image: np.ndarray
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
  """(logits, gradient of a scalar loss with respect to the image) of a network and of its reference."""
  torch = pytest.importorskip('torch')

  theirs_in = torch.from_numpy(np.moveaxis(image, -1, 1).copy()).requires_grad_()
  theirs = output(reference(theirs_in))
  cotangent = np.random.default_rng(1).standard_normal(theirs.shape).astype(np.float32)
  (theirs * torch.from_numpy(cotangent)).sum().backward()
  gradient = np.moveaxis(theirs_in.grad.numpy(), 1, -1)
  weight = np.moveaxis(cotangent, 1, -1)  # of a map of logits, or a forecast; nothing of a row of them

  def loss(x, variables):  # an argument, since constants would be compiled in
    logits = model.apply(variables, x, train=False)
    return (logits * weight).sum(), logits

  (_, logits), mine = jax.jit(jax.value_and_grad(loss, has_aux=True))(image, variables)
  return (np.moveaxis(np.asarray(logits), -1, 1), np.asarray(mine)), (theirs.detach().numpy(), gradient)


def output(found: Any) -> Any:
  """The logits, of a network which returns more."""
  if hasattr(found, 'logits'):
    return found.logits
  return found['out'] if isinstance(found, dict) else found


def close(mine: np.ndarray, theirs: np.ndarray, tolerance: float) -> None:
  """Asserts that two arrays differ by less than a share of the largest value."""
  found = difference(mine, theirs)
  assert found < tolerance, found


def difference(mine: np.ndarray, theirs: np.ndarray) -> float:
  """The largest difference of two arrays, as a share of the second one's largest value."""
  assert mine.shape == theirs.shape
  scale = np.abs(theirs).max()
  assert np.isfinite(theirs).all() and scale > 0
  return float(np.abs(mine - theirs).max() / scale)


def random_image(*shape: int) -> np.ndarray:
  """Normal values [b, h, w, c]."""
  return np.random.default_rng(0).standard_normal(shape).astype(np.float32)
