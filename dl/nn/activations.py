"""Activation functions by name: every one of `jax.nn`, others of the field, or a dotted path to the user's own."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dl.config import build
from dl.config.bounds import NotNegative, Number
from dl.errors import ConfigError, nearest

Activation = str | Mapping[str, Any] | Callable
"""A name, a dict of a name and arguments (`dict(name='leaky_relu', negative_slope=0.2)`), or a function."""

X = Float[Array, '*shape']

_FROM_JAX = [
  'celu',
  'elu',
  'gelu',
  'hard_sigmoid',
  'hard_silu',
  'hard_swish',
  'hard_tanh',
  'leaky_relu',
  'log_sigmoid',
  'log_softmax',
  'mish',
  'relu',
  'relu6',
  'selu',
  'sigmoid',
  'silu',
  'soft_sign',
  'softmax',
  'softplus',
  'sparse_plus',
  'sparse_sigmoid',
  'squareplus',
  'swish',
  'tanh',
]


def identity(x: X) -> X:
  """x: a linear layer."""
  return x


def gelu_exact(x: X) -> X:
  """x Φ(x) by the error function; plain 'gelu' is its tanh approximation (GELUs, arXiv 1606.08415)."""
  return jax.nn.gelu(x, approximate=False)


def quick_gelu(x: X) -> X:
  """x σ(1.702 x) (GELUs, arXiv 1606.08415)."""
  return x * jax.nn.sigmoid(1.702 * x)


def relu_squared(x: X) -> X:
  """max(x, 0)² (Primer, arXiv 2109.08668)."""
  return jnp.square(jax.nn.relu(x))


def snake(x: X, frequency: Number = 1.0) -> X:
  """x + sin²(a x) / a, for periodic functions (Neural Networks Fail to Learn Periodic Functions, arXiv 2006.08195)."""
  return x + jnp.square(jnp.sin(frequency * x)) / frequency


def sine(x: X, frequency: Number = 30.0) -> X:
  """sin(ω x) (SIREN, arXiv 2006.09661); plain 'sin' has ω = 1."""
  return jnp.sin(frequency * x)


def gaussian(x: X) -> X:
  """exp(-x²)."""
  return jnp.exp(-jnp.square(x))


def lisht(x: X) -> X:
  """x tanh(x) (LiSHT, arXiv 1901.05894)."""
  return x * jnp.tanh(x)


def hard_shrink(x: X, threshold: NotNegative = 0.5) -> X:
  """x where |x| > threshold, else 0."""
  return jnp.where(jnp.abs(x) > threshold, x, 0.0)


def soft_shrink(x: X, threshold: NotNegative = 0.5) -> X:
  """sign(x) max(|x| - threshold, 0)."""
  return jnp.sign(x) * jax.nn.relu(jnp.abs(x) - threshold)


def tanh_shrink(x: X) -> X:
  """x - tanh(x)."""
  return x - jnp.tanh(x)


def scaled_tanh(x: X) -> X:
  """1.7159 tanh(2x/3), so that ±1 map to ±1 (LeCun et al., 1998)."""
  return 1.7159 * jnp.tanh(x * (2.0 / 3.0))


def prelu(x: X) -> X:
  """ReLU with a learned slope below zero (Delving Deep into Rectifiers, arXiv 1502.01852); inside a module only."""
  return nn.PReLU()(x)


_NAMED: dict[str, Callable] = {
  **{name: getattr(jax.nn, name) for name in _FROM_JAX},
  **{
    f.__name__: f
    for f in (
      identity, gelu_exact, quick_gelu, relu_squared, snake, sine, gaussian, lisht, hard_shrink, soft_shrink,
      tanh_shrink, scaled_tanh, prelu,
    )
  },
  'linear': identity,
  'gelu_tanh': jax.nn.gelu,
  'softsign': jax.nn.soft_sign,
  'sin': jnp.sin,
  'cos': jnp.cos,
  'arctan': jnp.arctan,
  'sinc': jnp.sinc,
  'abs': jnp.abs,
  'square': jnp.square,
}  # fmt: skip


_HUGGINGFACE = {
  'gelu': 'gelu_pytorch_tanh',
  'gelu_tanh': 'gelu_pytorch_tanh',
  'gelu_exact': 'gelu',
  'mish': 'mish',
  'quick_gelu': 'quick_gelu',
  'relu': 'relu',
  'relu_squared': 'relu2',
  'sigmoid': 'sigmoid',
  'silu': 'silu',
  'swish': 'silu',
  'tanh': 'tanh',
}


def in_huggingface(activation: Activation) -> str:
  """What Hugging Face calls an activation; raises ConfigError for one that it is not known to have."""
  if not isinstance(activation, str) or activation not in _HUGGINGFACE:
    raise ConfigError(f'Hugging Face is not known to have the activation {activation!r}, but {", ".join(_HUGGINGFACE)}')
  return _HUGGINGFACE[activation]


def names() -> list[str]:
  """The names `get` knows."""
  return sorted(_NAMED)


def get(activation: Activation, argument: str = 'activation') -> Callable[[Array], Array]:
  """The function that an activation's name, dict or dotted path stands for; a function passes.

  A dotted path may name a Linen module class as well (`flax.linen.PReLU`): each use is then a layer with its own
  parameters, so call the result inside a module.

  Args:
    activation: what stands for it.
    argument: what it is called where it is given, for error lines.

  Raises:
    ValueError: an unknown name (the line lists the nearest), or an argument which the function does not take.
  """
  try:
    return _get(activation, argument)
  except ConfigError as e:  # of what `dl.config.build` looks up, which speaks of the argument alone here
    raise ValueError(str(e)) from e


def _get(activation: Activation, where: str) -> Callable[[Array], Array]:
  if isinstance(activation, Mapping):
    options = {k: v for k, v in activation.items() if k != 'name'}
    name = activation.get('name')
  else:
    name, options = activation, {}
  if isinstance(name, str) and '.' in name:
    function = build.resolve(name, 'dl.nn', where)
  elif isinstance(name, str):
    if name not in _NAMED:
      raise ValueError(f'{where}: no activation is called {name!r}; {nearest(name, _NAMED)}')
    function = _NAMED[name]
  elif callable(name):
    function = name
  else:
    raise ValueError(f"{where}: expected a name, a dict with a 'name' or a function, got {activation!r}")
  if isinstance(function, type) and issubclass(function, nn.Module):
    build.check_arguments(function, options, where)
    return lambda x: function(**options)(x)
  if not callable(function):
    raise ValueError(f'{where}: {name!r} is not a function')
  if options:
    build.check_arguments(function, options, where, given=list(inspect.signature(function).parameters)[:1])
    return functools.partial(function, **options)
  return function
