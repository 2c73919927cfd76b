"""The networks of `benchmarks/vision.py` as an ordinary Flax script has them: written by hand, with no options."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax


class LeNet5(nn.Module):
  """LeNet-5 with tanh units and average pooling, on images padded to 32x32."""

  @nn.compact
  def __call__(self, x, train):
    x = jnp.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
    x = nn.avg_pool(nn.tanh(nn.Conv(6, (5, 5), padding='VALID')(x)), (2, 2), (2, 2))
    x = nn.avg_pool(nn.tanh(nn.Conv(16, (5, 5), padding='VALID')(x)), (2, 2), (2, 2))
    x = x.reshape(len(x), -1)
    for width in (120, 84):
      x = nn.tanh(nn.Dense(width)(x))
    return nn.Dense(10)(x)


class ResNet18(nn.Module):
  """ResNet-18 with a 3x3 stem."""

  @nn.compact
  def __call__(self, x, train):
    conv = lambda x, width, size=3, stride=1: nn.Conv(width, (size, size), (stride, stride), use_bias=False)(x)
    norm = lambda x: nn.BatchNorm(not train, momentum=0.9)(x)
    x = nn.relu(norm(conv(x, 64)))
    for width in (64, 128, 256, 512):
      for block in range(2):
        stride = 2 if width > 64 and block == 0 else 1
        y = norm(conv(nn.relu(norm(conv(x, width, 3, stride))), width))
        x = nn.relu(y + (norm(conv(x, width, 1, stride)) if x.shape != y.shape else x))
    return nn.Dense(10)(x.mean((1, 2)))


class ViTTi16(nn.Module):
  """ViT-Ti/16 with a class token."""

  @nn.compact
  def __call__(self, x, train):
    x = nn.Conv(192, (16, 16), (16, 16))(x)
    x = x.reshape(len(x), -1, 192)
    token = self.param('token', nn.initializers.zeros, (1, 1, 192))
    x = jnp.concatenate([jnp.tile(token, (len(x), 1, 1)), x], 1)
    x = x + self.param('position', nn.initializers.normal(0.02), (1, *x.shape[1:]))
    for _ in range(12):
      x = x + nn.MultiHeadDotProductAttention(3)(nn.LayerNorm()(x))
      y = nn.gelu(nn.Dense(768)(nn.LayerNorm()(x)), approximate=False)
      x = x + nn.Dense(192)(y)
    return nn.Dense(10)(nn.LayerNorm()(x)[:, 0])


def make_step(model: nn.Module, optim: Any, batch: dict[str, jax.Array]) -> tuple[Callable, Any]:
  """(jitted step: (state, image bytes, label) -> (state, loss); the state: parameters, statistics, optimizer)."""
  shape = batch['image'].shape[1:]
  variables = jax.jit(lambda: model.init(jax.random.key(0), jnp.zeros((1, *shape)), train=False))()
  params, stats = variables['params'], variables.get('batch_stats', {})

  def step(state, image, label):
    params, stats, opt = state

    def loss_of(params):
      variables = {'params': params, 'batch_stats': stats}
      logits, new = model.apply(variables, image / 255.0, train=True, mutable=['batch_stats'])
      loss = optax.softmax_cross_entropy_with_integer_labels(logits, label).mean()
      return loss, new.get('batch_stats', {})

    (loss, stats), grads = jax.value_and_grad(loss_of, has_aux=True)(params)
    updates, opt = optim.update(grads, opt, params)
    return (optax.apply_updates(params, updates), stats, opt), loss

  return jax.jit(step, donate_argnums=0), (params, stats, optim.init(params))
