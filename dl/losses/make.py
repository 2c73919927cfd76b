"""The loss that a config names."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import optax
from jaxtyping import Array

from dl.config import build
from dl.errors import ConfigError
from dl.losses import categorical, numeric
from dl.losses.numeric import per_example

Loss = Callable[[Array, Array], Array]


def make(spec: str | Mapping[str, Any] | Callable, where: str, **options: Any) -> Loss:
  """The loss that a spec names, as `loss(outputs, targets) -> [b]`.

  Args:
    spec: a name here or in `optax.losses`, a dotted path, a dict of such a `name` and arguments, or a function.
      It maps outputs `[b, ...]` and targets `[b, ...]` to one value an example, or more, which are then averaged.
    where: the config path, for error lines.
    **options: further arguments; those which are None are left out.

  Raises:
    ConfigError: an unknown name, or an argument which the loss does not take.
  """
  arguments = {k: v for k, v in options.items() if v is not None}
  if isinstance(spec, Mapping):
    arguments = {k: v for k, v in spec.items() if k != 'name'} | arguments
    spec = spec.get('name')
  if callable(spec):
    function, name = spec, getattr(spec, '__name__', str(spec))
  else:
    known = isinstance(spec, str) and '.' not in spec and not _own(spec) and hasattr(optax.losses, spec)
    function, name = build.resolve(spec, 'optax.losses' if known else 'dl.losses', where), spec
  given = list(inspect.signature(function).parameters)[:2]
  build.check_arguments(function, arguments, where, given=given)
  function = functools.partial(function, **arguments)

  def loss(outputs: Array, targets: Array) -> Array:
    values = function(outputs, targets)
    if values.shape[:1] != targets.shape[:1]:
      raise ConfigError(f'{where}: {name} must return one value an example, [{len(targets)}], got {values.shape}')
    return per_example(values)

  return loss


def _own(name: str) -> bool:
  return hasattr(categorical, name) or hasattr(numeric, name)
