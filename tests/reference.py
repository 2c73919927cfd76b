"""Reference implementations, and the comparison of a network here with one of them on the same random weights."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dl import weights


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


def randomize(reference: Any, seed: int = 0) -> Any:
  """The reference in eval mode; its batch statistics, scales and biases are random too, so that each one counts."""
  import torch

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
      elif parameter.ndim == 1:
        normal(parameter, 1.0, 0.1)
      elif not parameter.any():  # a head which starts at zero
        normal(parameter, 0.0, 0.1)
  return reference.eval()


def converted(model: nn.Module, reference: Any, shape: tuple[int, ...], **options: Any) -> Any:
  """The variables of a network, with the weights of its reference; `options` are those of `dl.weights.convert`."""
  tensors = {k: v.detach().numpy() for k, v in reference.state_dict().items()}
  return weights.convert(tensors, abstract(model, shape), model=type(model).__name__, **options)


def assert_equal(model: nn.Module, reference: Any, image: np.ndarray, **options: Any) -> Any:
  """Logits to 1e-4, and gradients of a scalar loss with respect to the input to 1e-3, both of the largest value.

  Args:
    model: the network.
    reference: the PyTorch network, from `randomize`.
    image: [b, h, w, c].
    **options: of `dl.weights.convert`.

  Returns:
    The variables.
  """
  import torch

  variables = converted(model, reference, (1, *image.shape[1:]), **options)
  theirs_in = torch.from_numpy(image.transpose(0, 3, 1, 2).copy()).requires_grad_()
  theirs = output(reference(theirs_in))
  cotangent = np.random.default_rng(1).standard_normal(theirs.shape).astype(np.float32)
  (theirs * torch.from_numpy(cotangent)).sum().backward()
  theirs, gradient = theirs.detach().numpy(), theirs_in.grad.numpy().transpose(0, 2, 3, 1)
  dense = theirs.ndim == 4  # a map of logits
  move = lambda x: np.asarray(x).transpose(0, 3, 1, 2) if dense else np.asarray(x)

  def loss(x):
    logits = model.apply(variables, x, train=False)
    weight = cotangent.transpose(0, 2, 3, 1) if dense else cotangent
    return (logits * weight).sum(), logits

  (_, logits), mine = jax.jit(jax.value_and_grad(loss, has_aux=True))(image)
  close(move(logits), theirs, 1e-4)
  close(np.asarray(mine), gradient, 1e-3)
  return variables


def output(found: Any) -> Any:
  """The logits, of a network which returns more."""
  if hasattr(found, 'logits'):
    return found.logits
  return found['out'] if isinstance(found, dict) else found


def close(mine: np.ndarray, theirs: np.ndarray, tolerance: float) -> None:
  """Asserts that two arrays differ by less than a share of the largest value."""
  assert mine.shape == theirs.shape
  scale = np.abs(theirs).max()
  assert np.isfinite(theirs).all() and scale > 0
  assert np.abs(mine - theirs).max() < tolerance * scale, np.abs(mine - theirs).max() / scale


def random_image(*shape: int) -> np.ndarray:
  """Normal values [b, h, w, c]."""
  return np.random.default_rng(0).standard_normal(shape).astype(np.float32)
