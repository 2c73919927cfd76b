"""Low-rank adapters (LoRA, arXiv 2106.09685): a trained network learns more by a small product beside some layers.

A layer's W x becomes W x + (alpha / rank) B A x, of which A and B alone are trained. B begins as zero, so that the
network begins as it was. The adapters are parameters of the layers that they are beside, `lora_a` and `lora_b`: which
networks have them is said by a config (`model.lora`) and by no network. Which layers can have one say so themselves:
dense ones, and those that are `Adaptable`.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from dl.config.bounds import BelowOne, Positive, Size
from dl.errors import nearest
from dl.nn import products

A, B = 'lora_a', 'lora_b'
"""Names of an adapter's parameters [in, rank] and [rank, out]."""

# As PyTorch's layers begin, and the authors' code: uniform within 1 / sqrt(in).
_A_INIT = nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoRA:
  """Which layers have adapters, and of what kind.

  Cite: hu2022lora

  Attributes:
    layers: regular expression that is found in the paths of these layers, such as 'attention/(q|v)$'.
    rank: of the products.
    alpha: numerator of their factor alpha / rank; None for `rank`, so that it is 1.
    dropout: rate, on what an adapter reads.
    trained: regular expressions of parameters which are trained beside the adapters, such as '^out/' (a new head); all
      others stay as they are.
  """

  layers: str
  rank: Size = 8
  alpha: Positive | None = None
  dropout: BelowOne = 0.0
  trained: tuple[str, ...] = ()

  @property
  def scale(self) -> float:
    """The factor of the products."""
    return 1.0 if self.alpha is None else self.alpha / self.rank

  @property
  def frozen(self) -> str:
    """A regular expression of the parameters that are not trained."""
    return '^' + ''.join(f'(?!.*(?:{pattern}))' for pattern in (rf'(?:^|/){A}$', rf'(?:^|/){B}$', *self.trained))


@runtime_checkable
class Adaptable(Protocol):
  """A layer of one product of its input [..., in] with a kernel [in, ...], to whose output another can be added."""

  dtype: Any

  def plus_adapter(self, outputs: Any, more: Float[Array, '... out']) -> Any:
    """Its outputs with what an adapter gives, [..., out]: as many numbers as a row of the kernel has, in its order."""


def adapted(model: nn.Module, lora: LoRA) -> nn.Module:
  """The same network with adapters: its class is one of the network's own, whose `init` and `apply` know of them.

  Raises ValueError, from `init`, where no layer has one.
  """
  return _class(type(model))(**_fields(model), lora=lora)


def plain(model: nn.Module) -> nn.Module:
  """The network without adapters."""
  return type(model).__bases__[0](**_fields(model)) if is_adapted(model) else model


def is_adapted(model: Any) -> bool:
  """Whether a network has adapters."""
  return isinstance(getattr(model, 'lora', None), LoRA)


def merged(model: nn.Module, params: PyTree) -> PyTree:
  """The parameters of the plain network which gives what this one gives (section 4.1)."""
  return _merged(params, model.lora.scale) if is_adapted(model) else params


def without(params: PyTree) -> PyTree:
  """The parameters less those of adapters."""
  inner = lambda x: without(x) if isinstance(x, Mapping) else x
  return {name: inner(x) for name, x in params.items() if name not in (A, B)}


def _merged(params: Mapping[str, Any], scale: float) -> dict[str, Any]:
  inner = lambda x: _merged(x, scale) if isinstance(x, Mapping) else x
  result = {name: inner(x) for name, x in params.items() if name not in (A, B)}
  if A in params:
    kernel = params['kernel']  # with the layers of a scanned stack before its own axes
    result['kernel'] = kernel + scale * jnp.matmul(params[A], params[B]).reshape(kernel.shape)
  return result


@functools.cache
def _class(base: type[nn.Module]) -> type[nn.Module]:
  """Networks of a class, with adapters."""

  class Adapted(base):
    __doc__ = base.__doc__

    lora: LoRA | None = None

    @nn.nowrap
    def init(self, rngs: Any, *arguments: Any, **options: Any) -> Any:
      found: dict[str, bool] = {}
      with nn.intercept_methods(_beside(self.lora, False, found)):
        variables = super().init(rngs, *arguments, **options)
      if not any(found.values()):
        hint = nearest(self.lora.layers, found)
        raise ValueError(f'lora.layers: {self.lora.layers!r} is found in no layer that can have an adapter; {hint}')
      return variables

    @nn.nowrap
    def apply(self, variables: Any, *arguments: Any, **options: Any) -> Any:
      with nn.intercept_methods(_beside(self.lora, options.get('train', False), {})):
        return super().apply(variables, *arguments, **options)

  Adapted.__name__, Adapted.__qualname__, Adapted.__module__ = base.__name__, base.__qualname__, base.__module__
  return Adapted


def _beside(lora: LoRA, train: bool, found: dict[str, bool]) -> Callable:
  """What runs the adapters beside the layers inside of a call; `found` learns which could have one, and which have."""

  def intercept(call: Callable, arguments: Any, options: Any, context: Any) -> Any:
    outputs, layer = call(*arguments, **options), context.module
    if context.method_name != '__call__' or not isinstance(layer, nn.Dense | Adaptable):
      return outputs
    path = '/'.join(layer.path)
    found[path] = re.search(lora.layers, path) is not None
    if not found[path]:
      return outputs
    x, out = arguments[0], layer.variables['params']['kernel'][0].size
    x = nn.Dropout(lora.dropout, deterministic=not train)(x) if lora.dropout else x
    a = layer.param(A, _A_INIT, (x.shape[-1], lora.rank))
    b = layer.param(B, nn.initializers.zeros, (lora.rank, out))
    x, a, b = nn.dtypes.promote_dtype(x, a, b, dtype=layer.dtype)
    more = products.by_rows(lambda rows: lora.scale * (rows @ a @ b), x)
    return layer.plus_adapter(outputs, more) if isinstance(layer, Adaptable) else outputs + more

  return intercept


def _fields(model: nn.Module) -> dict[str, Any]:
  return {
    f.name: getattr(model, f.name) for f in dataclasses.fields(model) if f.init and f.name not in ('parent', 'lora')
  }
